# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping: in order, all at once, ours only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import daemons, processes, stopping
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.heartbeats import Heartbeats, Worker
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.stopping import Stopped, stop_components
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.daemons import FakeAgent, make_agent, wait_until


def stop(agent: FakeAgent, *components: str, **options) -> dict[str, Stopped]:
    stopped = stop_components(agent.layout, agent.release, components, **{"timeout": 10, **options})
    return {one.component: one for one in stopped}


def test_stops_all_with_their_children_and_cleans_up(fake_agent: FakeAgent) -> None:
    pids = [fake_agent.spawn("A", "child"), fake_agent.spawn("B", "group", "thread"), fake_agent.spawn("AgentWatchdog")]
    (fake_agent.folder("A") / "threads.json").write_text("[]", encoding="utf-8")
    (fake_agent.folder("A") / "Timer-APoller").write_text("{}", encoding="utf-8")
    assert len(fake_agent.processes()) == 5

    stopped = stop(fake_agent)

    assert fake_agent.processes() == []
    assert [one.how for one in stopped.values()] == ["terminated"] * 3
    assert [stopped[name].pid for name in ("A", "B", "AgentWatchdog")] == pids
    assert (stopped["A"].members, stopped["B"].members) == (2, 2)
    assert next(iter(stopped)) == "AgentWatchdog"
    for name in stopped:
        assert sorted(one.name.split(".BAK")[0] for one in fake_agent.folder(name).iterdir()) == ["Daemon.xml"]
        assert not (fake_agent.folder(name) / "Daemon.xml").exists()


def test_nothing_running_changes_nothing(fake_agent: FakeAgent) -> None:
    fake_agent.folder("A")
    assert stop(fake_agent) == {}
    assert not stop(fake_agent, "A")["A"].changed


def test_a_stranger_named_by_daemon_xml_is_left_alone(fake_agent: FakeAgent, stranger: subprocess.Popen[bytes]) -> None:
    file = fake_agent.name_in_daemon_file("A", stranger.pid)
    stopped = stop(fake_agent)["A"]
    assert stopped.how == "stranger"
    assert str(stranger.pid) in stopped.detail
    assert stranger.poll() is None
    assert not file.exists()
    assert len(list(file.parent.glob("Daemon.xml.BAK.*"))) == 1


def test_a_stranger_in_the_folder_with_another_command_is_left_alone(fake_agent: FakeAgent) -> None:
    shell = subprocess.Popen(["sleep", "600"], cwd=fake_agent.folder("A"), start_new_session=True)
    try:
        fake_agent.name_in_daemon_file("A", shell.pid)
        assert stop(fake_agent)["A"].how == "stranger"
        assert shell.poll() is None
    finally:
        shell.kill()
        shell.wait()


def test_a_component_of_another_agent_is_left_alone(fake_agent: FakeAgent, tmp_path: Path) -> None:
    """The same command line in another work area; its pid is named by our stale file."""
    other = make_agent(tmp_path / "other")
    pid = other.spawn("A")
    try:
        fake_agent.name_in_daemon_file("A", pid)
        assert stop(fake_agent)["A"].how == "stranger"
        assert processes.read_process(pid) is not None
    finally:
        assert [one.how for one in stop(other).values()] == ["terminated"]


def test_a_component_of_an_unknown_release_stops_everything(fake_agent: FakeAgent, tmp_path: Path) -> None:
    """It does this component's work, so starting another beside it would be wrong, and so would be killing it."""
    fake_agent.spawn("B")
    shutil.copytree(fake_agent.prefix, tmp_path / "venv", symlinks=True)
    unknown = fake_agent.spawn("A", prefix=tmp_path / "venv")
    with pytest.raises(
        WMAgentError, match=rf"A: pid {unknown} works in .*belongs to no release of this agent; stop it"
    ):
        stop(fake_agent)
    assert len(fake_agent.processes()) == 2


def test_a_process_younger_than_its_daemon_xml_is_not_signalled(fake_agent: FakeAgent) -> None:
    pid = fake_agent.spawn("A")
    os.utime(fake_agent.folder("A") / "Daemon.xml", (time.time() - 3600,) * 2)
    with pytest.raises(WMAgentError, match=f"A: pid {pid} .*younger than the Daemon.xml"):
        stop(fake_agent)
    assert processes.read_process(pid) is not None


def test_one_without_daemon_xml_is_found_by_what_it_is(fake_agent: FakeAgent) -> None:
    pid = fake_agent.spawn("A", "no-file")
    assert stop(fake_agent)["A"].pid == pid
    assert fake_agent.processes() == []


def test_sigkill_after_the_time_limit(fake_agent: FakeAgent) -> None:
    fake_agent.spawn("A", "deaf")
    fake_agent.spawn("B")
    stopped = stop(fake_agent, timeout=0.5)
    assert (stopped["A"].how, stopped["B"].how) == ("killed", "terminated")
    assert stopped["A"].seconds >= 0.5 > stopped["B"].seconds
    assert fake_agent.processes() == []


def test_a_suspended_component_ends(fake_agent: FakeAgent) -> None:
    os.kill(fake_agent.spawn("A"), signal.SIGSTOP)
    assert stop(fake_agent, timeout=5)["A"].how == "terminated"


def test_a_stale_daemon_xml_is_moved_aside(fake_agent: FakeAgent) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    file = fake_agent.name_in_daemon_file("A", gone.pid)
    assert stop(fake_agent)["A"].how == "stale"
    assert not file.exists()


def test_a_zombie_counts_as_gone(fake_agent: FakeAgent) -> None:
    zombie = subprocess.Popen(["true"])
    wait_until(lambda: (read := processes.read_process(zombie.pid)) and read.dead)
    fake_agent.name_in_daemon_file("A", zombie.pid)
    assert stop(fake_agent)["A"].how == "stale"
    zombie.wait()


def test_only_those_asked_for(fake_agent: FakeAgent) -> None:
    fake_agent.spawn("A")
    stays = fake_agent.spawn("B")
    assert list(stop(fake_agent, "A")) == ["A"]
    assert fake_agent.processes() == [stays]


def test_watchdog_is_dead_before_any_other_is_signalled(fake_agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = {name: fake_agent.spawn(name) for name in ("A", "AgentWatchdog", "B")}
    events: list[tuple[str, bool]] = []
    send = processes.Handle.signal

    def record(self: processes.Handle, number: signal.Signals) -> bool:
        watchdog = processes.read_process(pids["AgentWatchdog"])
        name = next(name for name, pid in pids.items() if pid == self.process.pid)
        events.append((name, watchdog is not None and not watchdog.dead))
        return send(self, number)

    monkeypatch.setattr(processes.Handle, "signal", record)
    stop(fake_agent)
    assert events == [("AgentWatchdog", True), ("A", False), ("B", False)]


def test_a_restart_under_way_does_not_survive(fake_agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """AgentWatchdog with a child may have been restarting a component, which comes up after its own end."""
    fake_agent.spawn("AgentWatchdog", "child")
    end = stopping._end
    calls = []

    def late(targets, *rest, **named):
        results = end(targets, *rest, **named)
        calls.append(targets)
        if len(calls) == 2:
            fake_agent.spawn("A")
        return results

    monkeypatch.setattr(stopping, "_end", late)
    stop(fake_agent)
    assert fake_agent.processes() == []


def test_no_release_no_stop(tmp_path: Path) -> None:
    with pytest.raises(WMAgentError, match="adopt the agent"):
        stop_components(AgentLayout(tmp_path), None)


def beats(agent: FakeAgent, pid: int, *, cycle_time: float, last_updated: float) -> Heartbeats:
    worker = Worker("A", "APoller", pid, "Running", last_updated, 120, cycle_time)
    return Heartbeats((worker,), {"A": pid}, {"A": 7200})


def test_graceful_waits_for_the_end_of_the_cycle(fake_agent: FakeAgent) -> None:
    pid = fake_agent.spawn("A")
    began = time.time()
    looks = []

    def read() -> Heartbeats:
        looks.append(1)
        done = len(looks) > 3
        return beats(fake_agent, pid, cycle_time=7.5 if done else 1, last_updated=time.time() if done else began - 20)

    stopped = stop(fake_agent, graceful_timeout=20, heartbeats=read)["A"]
    assert stopped.between_cycles is True
    assert len(looks) == 4
    assert time.time() - began < 10


def test_graceful_stops_a_busy_one_after_the_time_limit(fake_agent: FakeAgent) -> None:
    pid = fake_agent.spawn("A")
    began = time.monotonic()
    read = lambda: beats(fake_agent, pid, cycle_time=1, last_updated=time.time() - 20)  # noqa: E731
    stopped = stop(fake_agent, graceful_timeout=0.6, heartbeats=read)["A"]
    assert (stopped.how, stopped.between_cycles) == ("terminated", False)
    assert time.monotonic() - began >= 0.6


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        (["/r/bin/python", "/r/bin/wmcoreD", "--start"], True),
        (["python", "/r/bin/wmcoreD", "--start", "--components=A"], True),
        (["/r/bin/python3.11", "-s", "/r/bin/wmcoreD", "--restart"], True),
        (["/r/bin/python", "-c", "from Utils.wmcoreDTools import restart; restart('/c', ['A'])"], True),
        (["/r/bin/python", "/r/bin/wmcoreD", "--status"], False),
        (["/r/bin/python", "/r/bin/wmcoreD", "--shutdown"], False),
        (["vi", "/r/bin/wmcoreD", "--start"], False),
        (["/r/bin/python", "-c", "print('--start wmcoreD')"], False),
        ([], False),
    ],
)
def test_command_lines_of_components(cmdline: list[str], expected: bool) -> None:
    assert daemons.starts_components(tuple(cmdline)) is expected


def test_broken_files_say_nothing(tmp_path: Path) -> None:
    assert daemons.read_daemon(tmp_path) is None
    assert daemons.read_threads(tmp_path) is None
    for text in ("", "<Daemon>", "<Daemon><ProcessID Value='x'/></Daemon>", "\0\0"):
        (tmp_path / "Daemon.xml").write_text(text)
        (tmp_path / "threads.json").write_text(text or "[1]")
        assert daemons.read_daemon(tmp_path) is None
        assert daemons.read_threads(tmp_path) is None
    (tmp_path / "threads.json").write_text(
        json.dumps([{"pid": "7", "type": "thread"}, {"pid": "1", "type": "process"}])
    )
    assert daemons.read_threads(tmp_path) == {7}


def test_the_libraries_tell_the_release_whatever_the_command_line_says(tmp_path: Path) -> None:
    """``current`` may point elsewhere by now."""
    import _ctypes  # a library that can be loaded from anywhere

    one, two = tmp_path / "one", tmp_path / "two"
    library = one / "lib" / "python3.11" / "site-packages" / "_ctypes.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(Path(_ctypes.__file__).read_bytes())
    (tmp_path / "current").symlink_to(two)
    code = f"import ctypes,time;ctypes.CDLL({str(library)!r});print(1,flush=True);time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, f"{tmp_path}/current/bin/wmcoreD", "--start"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        read = processes.read_process(process.pid)
        assert read is not None
        assert daemons.running_prefix(read, [one, two]) == one
        assert daemons.running_prefix(read, [two]) is None
    finally:
        process.kill()
        process.wait()


def test_each_doubt_counts_by_itself(fake_agent: FakeAgent, stranger: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Who a process is, is asked of the process itself, whoever named it."""
    owner = daemons.Owner.of(fake_agent.layout.work_dir, [fake_agent.prefix])
    ours = processes.read_process(fake_agent.spawn("A"))
    other = processes.read_process(stranger.pid)
    assert ours is not None and other is not None
    assert daemons.doubts(ours, fake_agent.folder("A"), owner) == []
    assert daemons.doubts(ours, fake_agent.folder("B"), owner) == ["its current directory is not the component's"]
    elsewhere = daemons.Owner.of(owner.work_dir, [tmp_path])
    assert daemons.doubts(ours, fake_agent.folder("A"), elsewhere) == [
        "its interpreter belongs to no release of this agent"
    ]
    assert "its command line is not a component's" in daemons.doubts(other, tmp_path, owner)
    assert len(daemons.doubts(other, fake_agent.folder("A"), owner)) == 3
