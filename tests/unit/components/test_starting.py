# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting from a warm interpreter, with a WMCore just real enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import daemons, processes, starting
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.starting import (
    PreparedStart,
    Started,
    component_environment,
    failures,
    prepare_start,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.stopping import stop_components
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.daemons import FakeAgent, wait_until


def prepare(agent: FakeAgent, *components: str, timeout: float = 10, **environment: str) -> PreparedStart:
    return prepare_start(agent.release, agent.layout, components, agent.environment() | environment, timeout)


def start(agent: FakeAgent, *components: str, settle: float = 0.2, timeout: float = 10) -> dict[str, Started]:
    return {one.component: one for one in prepare(agent, *components, timeout=timeout).go(settle)}


def last_word(agent: FakeAgent, component: str) -> str:
    return (agent.folder(component) / "ComponentLog").read_text().strip().splitlines()[-1]


def test_starts_all_and_watchdog_last(fake_agent: FakeAgent) -> None:
    threads = (
        "import json\nHarness.preInitialization(self)\nfor name in 'AB': json.load(open('../%s/threads.json' % name))"
    )
    for name in ("AgentWatchdog", "A", "B"):
        fake_agent.component(name, **({"body": threads} if name == "AgentWatchdog" else {}))
    started = start(fake_agent)
    assert [one.how for one in started.values()] == ["up"] * 3
    for name, one in started.items():
        assert one.pid is not None
        process = processes.read_process(one.pid)
        daemon = daemons.read_daemon(fake_agent.folder(name))
        assert process is not None and daemon is not None
        assert daemon.pid == one.pid
        owner = daemons.Owner.of(fake_agent.layout.work_dir, [fake_agent.prefix])
        assert daemons.doubts(process, fake_agent.folder(name), owner, daemon) == []
        assert daemons.read_threads(fake_agent.folder(name)) == set(processes.thread_ids(one.pid)) - {one.pid}
        assert process.sid not in (os.getsid(0), 0)


def test_ps_tells_component_release_and_config(fake_agent: FakeAgent) -> None:
    fake_agent.component("A")
    pid = start(fake_agent)["A"].pid
    shown = subprocess.run(["ps", "-o", "args=", "-ww", "-p", str(pid)], capture_output=True, text=True, check=True)
    prefix = fake_agent.prefix
    expected = f"{prefix}/bin/python {prefix}/bin/wmcoreD --start --components=A --config={fake_agent.release.config}"
    assert shown.stdout.strip() == expected


def test_components_hold_nothing_of_the_starter(fake_agent: FakeAgent) -> None:
    fake_agent.component("A")
    fake_agent.component("B")
    with (fake_agent.root / "mine").open("w") as inherited:
        os.set_inheritable(inherited.fileno(), True)
        started = start(fake_agent)
    for one in started.values():
        links = {str(entry.readlink()) for entry in Path(f"/proc/{one.pid}/fd").iterdir()}
        assert links == {"/dev/null"}


def test_components_outlive_whoever_started_them(fake_agent: FakeAgent) -> None:
    fake_agent.component("A")
    code = f"""
import sys; sys.path[:0] = {sys.path!r}
from pathlib import Path
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.starting import prepare_start
layout = AgentLayout(Path({str(fake_agent.root)!r}))
print(prepare_start(layout.current_release(), layout, [], {fake_agent.environment()!r}, 10).go(0)[0].pid)
"""
    session = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    pid = int(session.stdout)
    process = processes.read_process(pid)
    assert process is not None and not process.dead
    assert process.ppid != os.getpid()


def test_a_starter_whose_caller_dies_finishes_what_it_was_told(fake_agent: FakeAgent) -> None:
    fake_agent.component("A", body="time.sleep(0.5)\nHarness.preInitialization(self)")
    prepared = prepare(fake_agent)
    prepared._send({"timeout": 10, "first": ["A"], "last": []})
    assert prepared._process.stdin and prepared._process.stdout
    prepared._process.stdin.close()
    prepared._process.stdout.close()
    wait_until(lambda: daemons.read_threads(fake_agent.folder("A")))
    prepared._process.wait(10)


def test_a_starter_whose_caller_dies_before_the_word_starts_nothing(fake_agent: FakeAgent) -> None:
    fake_agent.component("A")
    prepared = prepare(fake_agent)
    prepared.abandon()
    assert prepared._process.returncode is not None
    assert not (fake_agent.layout.work_dir / "A" / "Daemon.xml").exists()


def test_a_component_that_runs_is_left_alone(fake_agent: FakeAgent) -> None:
    fake_agent.component("A")
    fake_agent.component("B")
    first = start(fake_agent, "A")["A"].pid
    again = start(fake_agent)
    assert (again["A"].how, again["A"].pid, again["B"].how) == ("already running", first, "up")


def test_a_stale_daemon_xml_is_no_obstacle(fake_agent: FakeAgent, stranger: subprocess.Popen[bytes]) -> None:
    fake_agent.component("A")
    fake_agent.name_in_daemon_file("A", stranger.pid)
    assert start(fake_agent)["A"].how == "up"
    assert len(list(fake_agent.folder("A").glob("Daemon.xml.BAK.*"))) == 1
    assert stranger.poll() is None


def test_one_that_fails_to_initialize_is_reported_with_its_reason(fake_agent: FakeAgent) -> None:
    fake_agent.component("A", body="raise RuntimeError('no such database')")
    fake_agent.component("B")
    fake_agent.component("AgentWatchdog")
    started = start(fake_agent)
    assert (started["A"].how, started["A"].error) == ("failed", "no such database")
    assert "Traceback" in started["A"].last_lines
    assert started["B"].how == "up"
    assert started["AgentWatchdog"].how == "not started"
    assert failures(started.values()) == "these components did not stay up: A (no such database)"
    process = processes.read_process(started["A"].pid or 0)
    assert process is None or process.dead


def test_one_that_cannot_be_built_is_reported(fake_agent: FakeAgent) -> None:
    fake_agent.component("A", before="class Base:\n    pass\n")
    module = fake_agent.prefix / "lib" / "WMComponent" / "A.py"
    module.write_text("class A:\n    def __init__(self, config):\n        raise ValueError('bad option maxJobs')\n")
    started = start(fake_agent)["A"]
    assert (started.how, started.error) == ("failed", "ValueError: bad option maxJobs")


def test_one_that_dies_while_settling_is_a_failed_start(fake_agent: FakeAgent) -> None:
    body = "threading.Timer(0.4, lambda: (self.log('cannot go on', 'ERROR'), os._exit(3))).start()"
    fake_agent.component("A", body=body)
    fake_agent.component("B")
    began = time.monotonic()
    started = start(fake_agent, settle=5)
    assert (started["A"].how, started["B"].how) == ("failed", "up")
    assert "cannot go on" in started["A"].error
    assert time.monotonic() - began < 20


def test_one_that_never_comes_up(fake_agent: FakeAgent) -> None:
    fake_agent.component("A", body="time.sleep(600)")
    started = start(fake_agent, timeout=1.5)["A"]
    assert (started.how, started.error) == ("failed", "it did not come up in time")


def test_a_deadlocks_victim_is_started_again(fake_agent: FakeAgent) -> None:
    body = """
        if not os.path.exists('../tried'):
            open('../tried', 'w').close()
            raise RuntimeError("(1213, 'Deadlock found when trying to get lock; try restarting transaction')")
        Harness.preInitialization(self)
    """
    fake_agent.component("A", body=body)
    started = start(fake_agent)["A"]
    assert (started.how, started.tries) == ("up", 1)


def test_a_release_without_threads_json_gets_none(fake_agent: FakeAgent) -> None:
    (fake_agent.prefix / "lib" / "Utils" / "ProcFS.py").unlink()
    fake_agent.component("A")
    assert start(fake_agent)["A"].how == "up"
    assert not (fake_agent.folder("A") / "threads.json").exists()


def test_one_that_logs_nothing_is_up_when_its_threads_are(fake_agent: FakeAgent) -> None:
    harness = fake_agent.prefix / "lib" / "WMCore" / "Agent" / "Harness.py"
    harness.write_text(
        harness.read_text().replace(
            'def log(self, text, level="INFO"):',
            "def log(self, *rest):\n        return\n\n    def unused(self, text, level):",
        )
    )
    fake_agent.component("A")
    assert start(fake_agent)["A"].how == "up"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda agent: agent.release.config.write_text("1/0\n"), "ZeroDivisionError: division by zero"),
        (
            lambda agent: (agent.prefix / "lib/WMComponent/A.py").write_text("import nowhere\n"),
            "No module named 'nowhere'",
        ),
        (lambda agent: (agent.prefix / "bin/python").unlink(), "cannot be run"),
        (lambda agent: agent.component("B", before="import time; time.sleep(600)"), "no answer in 3 s"),
        (lambda agent: agent.component("B", before="import os; os._exit(9)"), "its starter ended early"),
    ],
)
def test_what_cannot_be_prepared_says_so(fake_agent: FakeAgent, spoil, message: str) -> None:
    fake_agent.component("A")
    spoil(fake_agent)
    with pytest.raises(WMAgentError, match=message) as caught:
        prepare(fake_agent, timeout=3)
    assert "\n" not in str(caught.value)


def test_an_unknown_component_is_refused(fake_agent: FakeAgent) -> None:
    fake_agent.component("A")
    with pytest.raises(WMAgentError, match="has no component Nobody"):
        prepare(fake_agent, "A", "Nobody")


def test_a_config_for_another_work_area_is_refused(fake_agent: FakeAgent, tmp_path: Path) -> None:
    fake_agent.component("A")
    with fake_agent.release.config.open("a") as stream:
        stream.write(f"config.A.componentDir = {str(tmp_path / 'elsewhere' / 'A')!r}\n")
    with pytest.raises(WMAgentError, match=r"config.py puts A outside .*; correct componentDir"):
        prepare(fake_agent)


def test_stop_and_start_again(fake_agent: FakeAgent) -> None:
    for name in ("A", "B", "AgentWatchdog"):
        fake_agent.component(name)
    first = start(fake_agent)
    prepared = prepare(fake_agent)
    stopped = stop_components(fake_agent.layout, fake_agent.release)
    second = {one.component: one for one in prepared.go(0)}
    assert {one.how for one in stopped} == {"terminated"}
    assert {one.how for one in second.values()} == {"up"}
    assert not {one.pid for one in first.values()} & {one.pid for one in second.values()}
    assert last_word(fake_agent, "A").endswith("Initialization finished!")
    assert second["A"].log_offset > 0


def test_the_environment_is_clean(fake_agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD", "x")
    seen = component_environment(fake_agent.release, {"X509_HOST_CERT": "/c.pem", "PATH": "/opt/x/bin"})
    assert seen["X509_HOST_CERT"] == "/c.pem"
    assert seen["PATH"] == f"{fake_agent.prefix}/bin:/opt/x/bin"
    assert (seen["WMCORE_ROOT"], seen["WMAGENT_CONFIG"]) == (str(fake_agent.prefix), str(fake_agent.release.config))
    assert not {"PYTHONHOME", "ANSIBLE_VAULT_PASSWORD"} & set(seen)


def test_config_leaves_no_compiled_copy_of_its_passwords(fake_agent: FakeAgent) -> None:
    fake_agent.component("A")
    start(fake_agent)
    assert not list(fake_agent.prefix.rglob("config*.pyc"))


def test_answers_are_plain_data() -> None:
    assert json.loads(json.dumps(Started("A", starting.UP, 1, 0.12345).as_dict()))["seconds"] == 0.123
