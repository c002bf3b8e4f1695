# SPDX-License-Identifier: GPL-3.0-or-later
"""What the components last wrote about themselves in wm_components and wm_workers.

Both times in these rows, ``last_updated`` and ``last_error``, come from ``time.time()`` of the component
(WMCore.Agent.Database.*.UpdateWorker and InsertWorker), so they are to be compared with the clock of the agent's host
and never with the database server's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    DatabaseSettings,
    Queries,
    connect,
)

DEFAULT_THRESHOLD = 7200
"""Seconds of silence after which WMCore itself calls a component down (WMCore.Agent.HeartbeatAPI)."""

_SQL = """SELECT c.name, c.pid, c.update_threshold, w.name, w.pid, w.state, w.last_updated, w.poll_interval,
                 w.cycle_time, w.outcome, w.last_error, w.error_message
            FROM wm_components c LEFT JOIN wm_workers w ON w.component_id = c.id"""


@dataclass(frozen=True)
class Worker:
    """One row of wm_workers.

    state:         Start (registered), Running (cycling or sleeping), Error (its thread has ended)
    last_updated:  seconds since the epoch, written at registration, at the start and the end of each cycle, and about
                   once a minute while it sleeps (WMCore.WorkerThreads.BaseWorkerThread)
    poll_interval: seconds it sleeps between two cycles
    cycle_time:    seconds the last finished cycle took; 0 before the first has finished
    """

    component: str
    name: str
    pid: int
    state: str
    last_updated: float
    poll_interval: float
    cycle_time: float = 0.0
    outcome: str = ""
    last_error: float = 0.0
    error_message: str = ""


@dataclass(frozen=True)
class Heartbeats:
    """All rows at one moment; ``pids`` and ``thresholds`` are those of wm_components."""

    workers: tuple[Worker, ...] = ()
    pids: dict[str, int] = field(default_factory=dict)
    thresholds: dict[str, int] = field(default_factory=dict)

    def of(self, component: str) -> tuple[Worker, ...]:
        """Rows of one component."""
        return tuple(worker for worker in self.workers if worker.component == component)


def read_heartbeats(connection: Queries) -> Heartbeats:
    """Read all rows. Raises WMAgentError."""
    workers, pids, thresholds = [], {}, {}
    for row in connection.query(_SQL):
        component = str(row[0])
        pids[component] = int(row[1])
        thresholds[component] = int(row[2] or DEFAULT_THRESHOLD)
        if row[3] is not None:
            workers.append(_worker(component, row[3:]))
    return Heartbeats(tuple(sorted(workers, key=lambda one: (one.component, one.name))), pids, thresholds)


def _worker(component: str, row: tuple[Any, ...]) -> Worker:
    name, pid, state, last_updated, poll_interval, cycle_time, outcome, last_error, error_message = row
    return Worker(
        component=component,
        name=str(name),
        pid=int(pid or 0),
        state=str(state or ""),
        last_updated=float(last_updated),
        poll_interval=float(poll_interval),
        cycle_time=float(cycle_time or 0),
        outcome=str(outcome or ""),
        last_error=float(last_error or 0),
        error_message=str(error_message or ""),
    )


def heartbeat_reader(settings: DatabaseSettings, timeout: float = 10) -> Callable[[], Heartbeats]:
    """A function that reads all rows in a session of its own, so a lost one does no harm. It raises WMAgentError."""

    def read() -> Heartbeats:
        with connect(settings, timeout=timeout) as connection:
            return read_heartbeats(connection)

    return read
