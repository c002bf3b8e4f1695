# SPDX-License-Identifier: GPL-3.0-or-later
"""Components of a real WMAgent: stopped, started and judged."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.adopt import adopt, find_deployment
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.component_evidence import collect_evidence
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.components import wait_for_verdict
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.daemons import Owner, component_processes
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.health import (
    HEALTHY,
    INCONCLUSIVE,
    UNHEALTHY,
    Verdict,
    judge,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.heartbeats import heartbeat_reader
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.processes import read_process
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.starting import Started, failures, prepare_start
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.stopping import Stopped, stop_components
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings, connect
from support.agent import TEN, LabAgent, lab
from support.daemons import wait_until

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Adopted:
    """An agent deployed by hand and started by ``wmcoreD``, then adopted."""

    lab: LabAgent
    layout: AgentLayout
    release: Release
    settings: DatabaseSettings

    def stop(self, *components: str, **options) -> dict[str, Stopped]:
        stopped = stop_components(self.layout, self.release, components, **{"timeout": 15, **options})
        return {one.component: one for one in stopped}

    def start(self, *components: str, settle: float = 0.5, release: Release | None = None) -> dict[str, Started]:
        wanted = components or TEN
        prepared = prepare_start(release or self.release, self.layout, wanted, self.lab.environment, 60)
        return {one.component: one for one in prepared.go(settle)}

    def living(self) -> dict[str, list[int]]:
        found = component_processes(Owner.of(self.layout.work_dir, [self.release.prefix]))
        return {name: [process.pid for process in group] for name, group in found.items()}

    def verdict(
        self, *components: str, settings: DatabaseSettings | None = None, since: float | None = None
    ) -> Verdict:
        evidence = collect_evidence(self.layout, self.release, settings or self.settings, components or TEN)
        return judge(evidence, since)

    def wait(self, *components: str, healthy_for: float = 1, healthy_within: float = 60) -> Verdict:
        return wait_for_verdict(
            lambda: collect_evidence(self.layout, self.release, self.settings, components or TEN),
            healthy_for=healthy_for,
            healthy_within=healthy_within,
        ).verdict


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adopted]:
    with lab(tmp_path_factory, components=TEN, start="upstream") as running:
        one = running.agents[0]
        layout = AgentLayout(one.root)
        release = adopt(layout, find_deployment(one.root), by="test", rollout="test")
        yield Adopted(one, layout, release, one.settings())


@contextmanager
def missing_table(settings: DatabaseSettings, table: str) -> Iterator[None]:
    with connect(settings, read_only=False) as session:
        session.execute(f"RENAME TABLE {table} TO {table}_gone")
        try:
            yield
        finally:
            session.execute(f"RENAME TABLE {table}_gone TO {table}")


def test_what_wmcored_started_is_healthy_and_ours_to_stop(agent: Adopted) -> None:
    assert set(agent.living()) >= set(TEN)
    verdict = agent.wait()
    assert verdict.state == HEALTHY, verdict.reason
    stopped = agent.stop()
    assert {stopped[name].how for name in TEN} == {"terminated"}
    assert agent.living() == {}
    assert agent.verdict().state == UNHEALTHY


def test_started_from_one_warm_interpreter_all_are_healthy(agent: Adopted) -> None:
    agent.stop()
    began = time.time()
    started = agent.start()
    assert failures(started.values()) == ""
    assert {one.how for one in started.values()} == {"up"}
    verdict = agent.wait()
    assert verdict.state == HEALTHY, verdict.reason
    assert agent.verdict(since=began).state == HEALTHY
    assert agent.verdict(since=time.time() + 60).state == UNHEALTHY
    beats = heartbeat_reader(agent.settings)()
    for name, one in started.items():
        assert {worker.pid for worker in beats.of(name)} == {one.pid}


def test_wmcored_and_watchdog_take_them_for_their_own(agent: Adopted) -> None:
    """AgentWatchdog looks 10 s after its start and restarts whatever it does not take for alive."""
    agent.stop()
    started = agent.start()
    status = subprocess.run(
        [
            agent.lab.prefix / "bin" / "python",
            agent.lab.prefix / "bin" / "wmcoreD",
            "--status",
            f"--config={agent.lab.config}",
            f"--components={','.join(TEN)}",
        ],
        env={**os.environ, **agent.lab.environment, "WMCORE_ROOT": str(agent.lab.prefix)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = [line for line in status.stdout.splitlines() if line.startswith("Component:")]
    assert len(lines) == len(TEN)
    for line in lines:
        assert " running with" in " ".join(line.split()), line
        assert "lost" not in line and " 0 running" not in line, line
    log = agent.lab.work_dir / "AgentWatchdog" / "ComponentLog"
    offset = started["AgentWatchdog"].log_offset
    wait_until(lambda: "AgentWatchdogScanner took" in log.read_text()[offset:], 60)
    assert {name: agent.living()[name] for name in TEN} == {name: [one.pid] for name, one in started.items()}


def test_a_killed_component_is_unhealthy(agent: Adopted) -> None:
    started = agent.start("JobCreator", "JobTracker")
    os.kill(started["JobCreator"].pid or 0, signal.SIGKILL)
    wait_until(lambda: (read := read_process(started["JobCreator"].pid or 0)) is None or read.dead)
    verdict = agent.verdict("JobCreator", "JobTracker")
    assert (verdict.state, verdict.final) == (UNHEALTHY, True)
    assert verdict.reason.startswith("JobCreator: has died")


def test_a_worker_that_ended_is_unhealthy_though_its_process_lives(agent: Adopted) -> None:
    """Its first cycle needs a table that is not there: the thread ends by an exception, the process stays."""
    agent.stop("JobStatusLite")
    with missing_table(agent.settings, "bl_runjob"):
        started = agent.start("JobStatusLite")["JobStatusLite"]
        assert started.how == "up"
        verdict = agent.wait("JobStatusLite", healthy_for=20, healthy_within=40)
    process = read_process(started.pid or 0)
    assert process is not None and not process.dead
    assert (verdict.state, verdict.final) == (UNHEALTHY, True)
    assert verdict.reason.startswith("JobStatusLite: worker StatusPoller has ended: ") and "bl_runjob" in verdict.reason
    agent.stop("JobStatusLite")


def test_components_that_die_at_the_start_are_told_with_the_reason(agent: Adopted) -> None:
    agent.stop()
    text = agent.lab.config.read_text(encoding="utf-8")
    broken = agent.lab.config.with_name("broken.py")
    broken.write_text(text.replace(f":{agent.settings.port}/", ":1/"), encoding="utf-8")
    started = agent.start("JobTracker", "ErrorHandler", release=dataclasses.replace(agent.release, config=broken))
    assert {one.how for one in started.values()} == {"failed"}
    assert "JobTracker ((MySQLdb.OperationalError) (2002, \"Can't connect to" in failures(started.values())
    assert agent.living() == {}
    assert agent.settings.password not in str(failures(started.values()))


def test_a_database_that_is_down_makes_no_verdict(agent: Adopted) -> None:
    agent.start("JobTracker")
    verdict = agent.verdict("JobTracker", settings=dataclasses.replace(agent.settings, port=1))
    assert verdict.state == INCONCLUSIVE
    assert "MariaDB" in verdict.reason


def test_components_between_their_cycles_are_stopped_there(agent: Adopted) -> None:
    agent.stop()
    agent.start("JobTracker", "ErrorHandler", "JobCreator")
    assert agent.wait("JobTracker", "ErrorHandler", "JobCreator").state == HEALTHY
    began = time.monotonic()
    stopped = agent.stop(graceful_timeout=30, heartbeats=heartbeat_reader(agent.settings))
    assert {one.between_cycles for one in stopped.values() if one.how == "terminated"} == {True}
    assert time.monotonic() - began < 10


def test_a_second_stop_changes_nothing(agent: Adopted) -> None:
    agent.stop()
    assert not any(one.changed for one in agent.stop(*TEN).values())
