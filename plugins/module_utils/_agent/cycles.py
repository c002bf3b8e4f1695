# SPDX-License-Identifier: GPL-3.0-or-later
"""Which components are between two cycles right now.

A row of wm_workers says ``Running`` in a cycle and between two, so one look at it does not tell. What tells is the end
of a cycle: WMCore.WorkerThreads.BaseWorkerThread logs it, writes ``cycle_time``, ``outcome`` and ``last_updated``, and
then sleeps for ``poll_interval`` seconds. So a worker sleeps until (end of its last cycle) + poll_interval, and the end
is taken from ComponentLog where the row does not contradict it, else from ``last_updated`` of a row seen to change its
``cycle_time`` or ``outcome`` while it was watched. Anything else counts as busy.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import component_log
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.heartbeats import Heartbeats, Worker

GUARD = 2.0
"""Seconds that must be left of the sleep: rows are a second coarse, and stopping takes a moment."""


def sleeps_until(worker: Worker, logged_end: float | None, seen_end: float | None, now: float) -> float | None:
    """When the worker's present sleep ends, seconds since the epoch; None where it is not known to sleep.

    logged_end: end of its last cycle by ComponentLog
    seen_end:   ``last_updated`` at the moment its row was seen to report a finished cycle
    """
    if worker.state != "Running" or worker.poll_interval <= GUARD:
        return None
    ends = [end for end in (logged_end, seen_end) if end is not None and _agrees(worker, end, now)]
    if not ends:
        return None
    until = max(ends) + worker.poll_interval
    return until if now + GUARD < until else None


def _agrees(worker: Worker, end: float, now: float) -> bool:
    """A row written before the end, or a poll interval after it, belongs to another cycle."""
    return end <= now + 1 and end - 1.5 <= worker.last_updated < end + worker.poll_interval


class CycleWatch:
    """Watches rows and logs over several looks. ``logs``: component -> its ComponentLog."""

    def __init__(self, logs: Mapping[str, Path]) -> None:
        self._logs = dict(logs)
        self._rows: dict[tuple[str, str], Worker] = {}
        self._seen: dict[tuple[str, str], float] = {}

    def between_cycles(self, beats: Heartbeats, pids: Mapping[str, int], now: float | None = None) -> set[str]:
        """Components all of whose workers sleep, for at least GUARD seconds more.

        pids: component -> pid of its main process; rows of another pid are an earlier run's and prove nothing.
        """
        moment = time.time() if now is None else now
        return {component for component, pid in pids.items() if self._sleeps(component, pid, beats, moment)}

    def _sleeps(self, component: str, pid: int, beats: Heartbeats, now: float) -> bool:
        rows = [row for row in beats.of(component) if row.pid == pid]
        if not rows:
            return False
        ends = self._logged_ends(component)
        sleeping = [sleeps_until(row, ends.get(row.name), self._seen_end(row), now) is not None for row in rows]
        return all(sleeping)

    def _seen_end(self, row: Worker) -> float | None:
        key = (row.component, row.name)
        before = self._rows.get(key)
        self._rows[key] = row
        if before and before.pid == row.pid and (before.cycle_time, before.outcome) != (row.cycle_time, row.outcome):
            self._seen[key] = row.last_updated
        return self._seen.get(key)

    def _logged_ends(self, component: str) -> dict[str, float]:
        path = self._logs.get(component)
        if path is None:
            return {}
        try:
            size = path.stat().st_size
            start = component_log.find_start(path, component, limit=4 << 20)
            return component_log.last_cycles(component_log.read_part(path, max(start, size - (4 << 20), 0), size))
        except OSError:
            return {}
