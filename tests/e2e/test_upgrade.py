# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job on real wmagent packages, components and MariaDB: what an operator sees and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pymysql
import pytest
from support.agent import CHECKOUT, TEN, lab
from support.fleet import Fleet, Run, actions, current

FOLDERS = ("changelogs", "docs", "inventories", "meta", "playbooks", "plugins", "roles")
OLD, NEW = "2.4.4", "2.4.5.9-p1"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with lab(tmp_path_factory, agents=2, components=TEN) as up:
        yield up


@pytest.fixture(scope="module")
def fleet(running):
    return Fleet.of(running.folder / "controller", running.agents)


@pytest.fixture(scope="module")
def one(running):
    return Fleet.of(running.folder / "controller-of-one", running.agents[:1])


def tree(root: Path) -> dict[str, tuple[int, int, str]]:
    """Every file below a root but what running components write."""
    found = {}
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in ("install", "__pycache__")]
        for name in [*names, *files]:
            path = Path(folder, name)
            status = path.lstat()
            found[str(path)] = (status.st_mode, status.st_mtime_ns, str(path.readlink()) if path.is_symlink() else "")
    return found


def test_01_a_check_run_tells_the_plan_and_changes_nothing(running, fleet):
    before = {agent.name: tree(agent.root) for agent in running.agents}
    pids = {agent.name: agent.running() for agent in running.agents}
    run = fleet.upgrade(NEW, "--check", "--diff")
    assert run.code == 0, run.output
    assert {agent.name: tree(agent.root) for agent in running.agents} == before
    assert {agent.name: agent.running() for agent in running.agents} == pids
    assert "2 of 2 agents would be changed" in run.output
    assert "would change" in run.line_of("agent01")


def test_02_agents_deployed_by_hand_are_adopted_and_rolled(running, fleet):
    by_hand = {agent.name: tree(agent.by_hand) for agent in running.agents}
    run = fleet.upgrade(NEW)
    assert run.code == 0, run.output
    for agent in running.agents:
        assert current(agent) == NEW
        assert set(agent.running()) == set(TEN)
        assert actions(agent) == [("adopt", ""), ("upgrade", "healthy")]
        assert tree(agent.by_hand) == by_hand[agent.name]
        assert not agent.layout.lock.exists() and not agent.layout.journal.exists()
        line = run.line_of(agent.name)
        assert "healthy" in line and "tables" in line and "unchanged" in line
        prefix = agent.layout.current_release().prefix
        for pid in agent.running().values():
            assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(str(prefix).encode())
    canary, _, rest = run.output.partition("== Roll (agent01)")[2].partition("== Roll (agent02)")
    assert "agent01" in canary and "agent02" not in canary and "agent02" in rest, "batch by batch"
    assert secret_free(running, run.output)


def secret_free(running, text: str) -> bool:
    return not any(agent.read_secrets()["MDB_PASS"] in text for agent in running.agents)


def test_03_a_second_run_changes_nothing(running, fleet):
    pids = {agent.name: agent.running() for agent in running.agents}
    run = fleet.upgrade(NEW)
    assert run.code == 0, run.output
    assert "changed=0" in run.output
    assert "up to date" in run.line_of("agent01")
    assert {agent.name: agent.running() for agent in running.agents} == pids


def test_04_an_unhealthy_release_goes_back_and_the_rollout_stops(running, fleet):
    run = fleet.upgrade(
        OLD, wmagent_config={"ErrorHandler.ErrorHandlerPoller.pollInterval": "soon"}, wmagent_healthy_within=20
    )
    first, second = running.agents
    assert run.code != 0
    assert "rolled back, healthy" in run.line_of(first.name), run.output
    assert "ErrorHandler" in run.output
    assert "not reached" in run.line_of(second.name)
    assert current(first) == NEW and set(first.running()) == set(TEN)
    assert actions(first)[-1] == ("rollback", "healthy")
    assert len(actions(second)) == 2
    assert not first.layout.lock.exists() and not first.layout.journal.exists()


def test_05_a_release_that_cannot_be_imported_costs_no_downtime(running, one):
    agent = running.agents[0]
    pids = agent.running()
    run = one.upgrade("2.4.5.9")  # as it is on PyPI: wants Oracle's client library, also for MariaDB
    assert run.code != 0
    assert "not changed" in run.line_of(agent.name), run.output
    assert "DPI-1047" in run.output
    assert agent.running() == pids and current(agent) == NEW


def test_06_a_write_while_stopped_fails_the_rollout(running, one):
    agent = running.agents[0]
    settings = agent.settings()
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            # A session of its own each time: one that stays open is refused for that alone.
            with pymysql.connect(
                host=settings.host,
                port=settings.port,
                user=settings.user,
                password=settings.password,
                database=settings.name,
                autocommit=True,
                ssl_disabled=True,  # reading the system's certificates for each session takes long
            ) as connection:
                written = "UPDATE wm_components SET update_threshold = update_threshold + 1"
                assert connection.cursor().execute(written)

    # Enough of them that one comes between the two readings, a quarter of a second apart, also on a busy machine.
    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        run = one.upgrade(OLD)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert run.code != 0
    assert "wm_components" in run.output and "records changed" in run.output, run.output
    assert current(agent) == NEW and set(agent.running()) == set(TEN)
    assert actions(agent)[-1] == ("rollback", "healthy")


@pytest.mark.parametrize(
    "step",
    [pytest.param("stopping", marks=pytest.mark.long), "linked", pytest.param("started", marks=pytest.mark.long)],
)
def test_07_a_controller_that_dies_leaves_nothing_that_the_same_command_cannot_finish(running, one, step):
    agent = running.agents[0]
    image = OLD if current(agent) == NEW else NEW
    command, environment = one.command("upgrade.yml", wmagent_image=image, wmagent_healthy_for=4)
    process = subprocess.Popen(
        command, env=environment, cwd=one.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    seen = wait_for_step(agent.layout.journal, step, process)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    said, _ = process.communicate()
    assert seen, f"the rollout ended or hung before {step}: {said}"
    assert agent.layout.lock.exists(), "the lock of the dead rollout is still there"
    run = one.upgrade(image)
    assert run.code == 0, run.output
    assert current(agent) == image and set(agent.running()) == set(TEN)
    assert not agent.layout.lock.exists() and not agent.layout.journal.exists()
    assert "changed=0" in one.upgrade(image).output


def wait_for_step(journal: Path, step: str, process: subprocess.Popen[str]) -> bool:
    """Until the switch has come to ``step`` or a later one: some steps take milliseconds."""
    steps = ["stopping", "stopped", "linked", "started"]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if steps.index(json.loads(journal.read_text())["step"]) >= steps.index(step):
                return True
        except (FileNotFoundError, ValueError):
            pass
        time.sleep(0.001)
    return False


@pytest.mark.parametrize("policy", ["fail", pytest.param("continue", marks=pytest.mark.long)])
def test_07b_what_cannot_be_read_is_inconclusive(running, one, policy):
    agent = running.agents[0]
    image = OLD if current(agent) == NEW else NEW
    command, environment = one.command("upgrade.yml", wmagent_image=image, wmagent_on_inconclusive=policy)
    good = agent.secrets.read_text()
    process = subprocess.Popen(
        command, env=environment, cwd=one.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert wait_for_step(agent.layout.journal, "started", process)
        # The components have their config; whoever looks at them reads this file.
        agent.secrets.write_text(good.replace("MDB_PASS=", "MDB_PASS=wrong-"))
        output, _ = process.communicate(timeout=240)
    finally:
        agent.secrets.write_text(good)
    assert "inconclusive" in Run(process.returncode, output).line_of(agent.name), output
    assert current(agent) == image, "it is left as it is"
    assert actions(agent)[-1] == ("upgrade", "inconclusive")
    assert (process.returncode == 0) == (policy == "continue"), output
    assert agent.layout.journal.exists() == (policy == "fail")
    run = one.upgrade(image)
    assert run.code == 0, run.output
    assert actions(agent)[-1] == (("judged", "healthy") if policy == "fail" else ("upgrade", "inconclusive"))


def test_08_back_on_demand(running, one):
    agent = running.agents[0]
    here = current(agent)
    previous = actions(agent)
    run = one.play("rollback.yml")
    assert run.code == 0, run.output
    assert current(agent) != here
    assert actions(agent)[len(previous) :] == [("rollback", "healthy")]
    run = one.play("rollback.yml", wmagent_release=NEW)
    assert run.code == 0, run.output
    assert current(agent) == NEW
    run = one.play("rollback.yml", wmagent_release="9.9.9")
    assert run.code != 0 and "no release 9.9.9" in run.output


def test_09_old_releases_are_pruned_but_never_the_previous_one(running, one):
    agent = running.agents[0]
    image = OLD if current(agent) == NEW else NEW
    run = one.upgrade(image, wmagent_keep_releases=1)
    assert run.code == 0, run.output
    names = {release.image for release in agent.layout.all_releases()}
    assert {OLD, NEW} <= names


def test_10_it_works_installed_from_the_built_tarball(running, one, tmp_path):
    galaxy = [sys.executable, "-m", "ansible", "galaxy", "collection"]
    quiet = {"check": True, "capture_output": True, "timeout": 120}
    subprocess.run([*galaxy, "build", "--output-path", str(tmp_path), str(CHECKOUT)], **quiet)
    (tarball,) = tmp_path.glob("dmwm-wmagent-*.tar.gz")
    subprocess.run([*galaxy, "install", "--force", "-p", str(tmp_path / "collections"), str(tarball)], **quiet)
    agent = running.agents[0]
    image = OLD if current(agent) == NEW else NEW
    command, environment = one.command("upgrade.yml", wmagent_image=image)
    command = ["dmwm.wmagent.upgrade" if part.endswith("upgrade.yml") else part for part in command]
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    environment |= {
        "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
    }
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert current(agent) == image
    names = subprocess.run(["tar", "tzf", str(tarball)], capture_output=True, text=True, check=True).stdout
    kept = {name.split("/")[0] for name in names.split()}
    files = ["CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", ".gitignore"]
    assert kept <= {*files, *FOLDERS}, kept
