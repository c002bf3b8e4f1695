# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect the evidence that a verdict on an agent's components is made from."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import component_log, daemons, processes
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.component_log import LogEvidence
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.daemons import Owner
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.health import BEAT, SLACK, ComponentEvidence
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.heartbeats import Heartbeats, heartbeat_reader
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.processes import Process
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_COMPONENT = re.compile(r"^config\.component_\(['\"](\w+)['\"]\)", re.M)


def configured_components(config: Path) -> list[str]:
    """Components that a config.py made by WMCore names, in its order. Raises WMAgentError where it cannot be read."""
    try:
        found = _COMPONENT.findall(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise WMAgentError(f"{config} cannot be read ({error.strerror}); stage the release again") from None
    if not found:
        raise WMAgentError(f"{config} names no component; stage the release again")
    return list(dict.fromkeys(found))


def collect_evidence(
    layout: AgentLayout,
    release: Release,
    database: DatabaseSettings | None,
    components: Iterable[str] = (),
    log_offsets: Mapping[str, int] | None = None,
    timeout: float = 10,
) -> list[ComponentEvidence]:
    """Evidence about each component, now.

    database:    None where there are no settings: nothing can be known of the workers then
    components:  those to look at; empty for all that the release's config.py names
    log_offsets: sizes of the ComponentLogs before the start, bytes; without them the last start is searched for
    timeout:     seconds for the database
    """
    names = list(components) or configured_components(release.config)
    beats, error = _beats(database, timeout)
    # Every release of the agent is ours; which one it is, is what the verdict asks.
    owner = Owner.of(layout.work_dir, [release.prefix, *(one.prefix for one in layout.all_releases())])
    living = daemons.component_processes(owner)
    offsets = log_offsets or {}
    return [_evidence(name, owner, release, living.get(name, []), beats, error, offsets.get(name)) for name in names]


def _beats(database: DatabaseSettings | None, timeout: float) -> tuple[Heartbeats, str]:
    if database is None:
        return Heartbeats(), "no database settings, so nothing is known of its workers"
    try:
        return heartbeat_reader(database, timeout)(), ""
    except WMAgentError as error:
        return Heartbeats(), str(error)


def _evidence(
    component: str,
    owner: Owner,
    release: Release,
    living: list[Process],
    beats: Heartbeats,
    database_error: str,
    log_offset: int | None,
) -> ComponentEvidence:
    folder = owner.work_dir / component
    now = time.time()
    process, absent, unreadable = _main_process(folder, owner, living)
    if process is None:
        return ComponentEvidence(component, now, absent=absent, unreadable=unreadable, database_error=database_error)
    threads = processes.thread_ids(process.pid)
    expected = daemons.read_threads(folder)
    log = component_log.read_log(folder / daemons.LOG_FILE, component, log_offset)
    return ComponentEvidence(
        component=component,
        now=now,
        pid=process.pid,
        others=tuple(one.pid for one in living if one.pid != process.pid),
        started=process.started,
        prefix=str(daemons.running_prefix(process, owner.prefixes)),
        expected_prefix=os.path.realpath(release.prefix),
        threads=len(threads) - 1,
        lost=tuple(sorted((expected or frozenset()) - set(threads))),
        expected=None if expected is None else len(expected),
        active=_active(threads, process.pid, log),
        registered_pid=beats.pids.get(component),
        threshold=beats.thresholds.get(component, 0),
        workers=beats.of(component),
        database_error=database_error,
        log=log,
    )


def _main_process(folder: Path, owner: Owner, living: list[Process]) -> tuple[Process | None, str, str]:
    """The component's process; else why there is none, or why that cannot be told."""
    daemon = daemons.read_daemon(folder)
    if daemon is None:
        found = f", though pid {living[0].pid} works in {folder}" if living else ""
        return None, f"is stopped: no {daemons.DAEMON_FILE}{found}", ""
    process = processes.read_process(daemon.pid)
    if process is None:
        return None, f"has died: there is no pid {daemon.pid}", ""
    if process.dead:
        return None, f"has died: pid {daemon.pid} is a zombie", ""
    problems = daemons.doubts(process, folder, owner, daemon)
    if processes.working_directory(daemon.pid) is None:
        return None, "", f"pid {daemon.pid} cannot be looked at; become user id {process.uid}"
    if problems:
        return None, f"pid {daemon.pid} is not this component: {'; '.join(problems)}", ""
    return process, "", ""


def _active(threads: Mapping[int, str], pid: int, log: LogEvidence) -> bool:
    if any(state in ("R", "D") for thread, state in threads.items() if thread != pid):
        return True
    try:
        return time.time() - Path(log.path).stat().st_mtime <= BEAT + SLACK
    except OSError:
        return False
