# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of the main job: downtime, bytes, disk, a second run."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import disk_usage
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import DirectoryRepository
from support.agent import TEN, LabAgent, RunningLab, lab
from support.fleet import IMAGES, Fleet
from support.playbook import run_tasks

from tests.benchmarks.rows import Benchmark, Row, compared, versions

OLD, BASE, NEW = "2.4.4", "2.4.5.9", "2.4.5.9-p1"
RUNS = 3


class _Folders:
    """Where a lab makes its folder, outside pytest."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def mktemp(self, name: str, numbered: bool = True) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._root))


@contextmanager
def bench_lab(agents: int, **options: Any) -> Iterator[RunningLab]:
    """A lab for figures."""
    with (
        tempfile.TemporaryDirectory(prefix="wmagent-bench-") as root,
        lab(
            _Folders(Path(root)),  # type: ignore[arg-type] # the one method that lab uses
            agents=agents,
            components=TEN,
            **options,
        ) as running,
    ):
        yield running


def used() -> dict[str, str]:
    """Versions these figures depend on."""
    text = subprocess.run(["mariadbd", "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    found = re.search(r"Ver (\S+)", text)
    return versions(wmagent=f"{OLD} and {NEW}", mariadb=found.group(1) if found else "?")


def wmcored(agent: LabAgent, prefix: Path, config: Path, verb: str) -> tuple[float, float]:
    """Run upstream's wmcoreD; monotonic times of its first line about a component and of its end."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        **agent.environment,
        "PATH": f"{prefix}/bin:{agent.environment['PATH']}",
        "WMCORE_ROOT": str(prefix),
        "WMA_DEPLOY_DIR": str(prefix),
        "WMAGENT_CONFIG": str(config),
        "PYTHONUNBUFFERED": "1",
    }
    command = [str(prefix / "bin" / "python"), str(prefix / "bin" / "wmcoreD"), f"--{verb}", f"--config={config}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    first, said = 0.0, []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if not first and re.match(r"(Stopping: |Starting : )", line):
            first = time.monotonic()
    if process.wait(timeout=120) != 0 or not first:
        raise RuntimeError(f"wmcoreD --{verb} failed: {''.join(said[-5:])}")
    return first, time.monotonic()


def wait_for_watchdog(agent: LabAgent, timeout: float = 120) -> None:
    """Until AgentWatchdog has looked once: before that, it starts again what wmcoreD --shutdown has just stopped."""
    log = agent.work_dir / "AgentWatchdog" / "ComponentLog"
    deadline = time.monotonic() + timeout
    while "AgentWatchdogScanner took" not in log.read_text(errors="replace").rpartition(">>>Starting: ")[2]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"AgentWatchdog has not looked in {timeout:g} s; see {log}")
        time.sleep(0.5)


def downtime() -> list[Row]:
    """One agent, ten real components: this collection's switch against wmcoreD --shutdown, link, wmcoreD --start."""
    ours, against = [], []
    with bench_lab(1, start="upstream") as running:
        agent = running.agents[0]
        fleet = Fleet.of(running.folder / "controller", [agent])
        for number in range(RUNS):
            # Upstream's way first, on the release that runs, then ours to the other one and back again.
            release = agent.layout.current_release() if agent.layout.is_adopted() else None
            prefix, config = (release.prefix, release.config) if release else (agent.prefix, agent.config)
            wait_for_watchdog(agent)
            began, _ = wmcored(agent, prefix, config, "shutdown")
            link = agent.root / "bench-link"
            link.unlink(missing_ok=True)
            link.symlink_to(prefix)
            _, ended = wmcored(agent, prefix, config, "start")
            missing = set(TEN) - set(agent.running())
            if missing:
                raise RuntimeError(f"wmcoreD did not start {missing}")
            against.append(ended - began)
            image = NEW if number % 2 == 0 else OLD
            run = fleet.upgrade(image, wmagent_require_healthy=False)
            if run.code != 0:
                raise RuntimeError(run.output)
            ours.append(ledger.read(agent.layout.ledger)[-1]["downtime"])
    note = f"{len(TEN)} components; ours {ours}, wmcoreD {[round(value, 1) for value in against]}"
    return [compared("downtime of one agent", "s", ours, against, 1 / 12, used(), note, "≤ 1/12 ×")]


def staging() -> list[Row]:
    """A patch image where its base is staged: what travels and what it takes on disk."""
    repository = DirectoryRepository(IMAGES)
    base, patch = repository.image(BASE).description, repository.image(NEW).description
    known = {wheel.digest for wheel in base.wheels}
    changed = sum(wheel.size for wheel in patch.part("release") if wheel.digest not in known)
    with bench_lab(1) as running:
        agent = running.agents[0]
        stores = (agent.layout.releases, agent.layout.blobs)
        stage(running.folder / "controller", agent, BASE)
        first = disk_usage(*stores)
        sent = stage(running.folder / "controller", agent, NEW)["bytes_sent"]
        second = disk_usage(*stores) - first
    note = f"{BASE} -> {NEW}"
    return [
        compared("bytes sent for a patch image", "B", [sent], [changed], 1.1, used(), note, "≤ 1.1 ×"),
        compared("disk for a second release", "B", [second], [first], 0.35, used(), note, "≤ 0.35 ×"),
    ]


def stage(folder: Path, agent: LabAgent, image: str) -> dict[str, Any]:
    """Stage an image through its action plugin; what the task returned."""
    tools = {
        "name": "tools",
        "dmwm.wmagent.tools": {"image": image, "repository": str(IMAGES), "tools_dir": str(folder / "tools")},
        "register": "tools",
    }
    staged = {
        "name": "stage",
        "dmwm.wmagent.release_stage": {
            "wmagent_root": str(agent.root),
            "image": image,
            "repository": str(IMAGES),
            "secrets": str(agent.secrets),
            "database_name": agent.database,
            "components": list(agent.components),
            "work_dir": str(agent.work_dir),
        },
        "vars": {"ansible_python_interpreter": "{{ tools.python }}"},
    }
    outcome = run_tasks(folder, [tools, staged], {agent.name: {}})
    if outcome.code != 0:
        raise RuntimeError(outcome.output)
    return outcome.results[agent.name]["stage"]


def second_run() -> list[Row]:
    """upgrade.yml on a fleet that is upgraded: nothing to do, and quickly."""
    seconds = []
    with bench_lab(3) as running:
        fleet = Fleet.of(running.folder / "controller", running.agents)
        first = fleet.upgrade(NEW)
        if first.code != 0:
            raise RuntimeError(first.output)
        for _ in range(RUNS):
            began = time.monotonic()
            run = fleet.upgrade(NEW)
            seconds.append((time.monotonic() - began) / len(running.agents))
            if run.code != 0 or "changed=0" not in run.output:
                raise RuntimeError(run.output)
    median = sorted(seconds)[len(seconds) // 2]
    note = f"3 agents, changed=0; {[round(value, 2) for value in seconds]}"
    return [Row("second run, per agent", "s", median, None, None, "changed=0, < 3 s", median < 3, RUNS, used(), note)]


BENCHMARKS: dict[str, Benchmark] = {"downtime": downtime, "staging": staging, "second run": second_run}
