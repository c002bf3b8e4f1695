# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on a live database in small steps: how large the next one is, when one is tried again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.driver_errors import DatabaseBusyError
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

T = TypeVar("T")

_NEWEST = 0.3
"""Weight of the newest step in the average; the older ones share the rest."""

_GROWTH = 2
_FULL_AFTER_EMPTY = 8
"""A full window right after a long stretch of empty ones may take this many times the target, not more."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


class StepSize:
    """How many ids the next step walks, so that a step takes about the target time.

    target:  seconds that a step should take
    start:   ids of the first step, put within the bounds
    minimum, maximum: bounds, ids

    The size follows the average seconds per walked id and at most doubles from one step to the next.

    Raises WMAgentError where target, start or bounds make no sense.
    """

    def __init__(self, target: float = 0.5, start: int = 1000, minimum: int = 1, maximum: int = 100_000) -> None:
        if not 0 < target < float("inf"):
            raise WMAgentError(f"a step's target time is {target:g} s; it must be more than 0")
        if not 1 <= minimum <= maximum or start < 1:
            raise WMAgentError(f"step sizes {start} within {minimum} … {maximum} make no sense; all are 1 or more")
        self.target = target
        self.minimum = minimum
        self.maximum = maximum
        self.size = min(max(start, minimum), maximum)
        self._per_id: float | None = None
        self._per_full_id: float | None = None

    def finished(self, walked: int, done: int, seconds: float) -> None:
        """Learn from a step.

        walked:  ids it walked
        done:    how many of them it found work at
        seconds: what it took
        """
        seconds = max(seconds, 0.0)
        if walked > 0:
            self._per_id = _average(self._per_id, seconds / walked)
            # Without this the size that fits a gap in the ids would meet the next dense stretch.
            if 2 * done >= walked:
                self._per_full_id = _average(self._per_full_id, seconds / walked)
            wanted = self._ids_in(self.target, self._per_id)
        else:
            wanted = self.size * _GROWTH if 2 * seconds <= self.target else self.size
        wanted = min(wanted, self.size * _GROWTH, self._ids_in(_FULL_AFTER_EMPTY * self.target, self._per_full_id))
        self.size = max(wanted, self.minimum)

    def halve(self) -> None:
        """Take half as many ids after a lock time-out or deadlock, and grow again only slowly from there."""
        self.size = max(self.size // 2, self.minimum)
        # As if this size took the target time: the next good step would double it at once otherwise.
        self._per_id = max(self._per_id or 0.0, self.target / self.size)

    def _ids_in(self, seconds: float, per_id: float | None) -> int:
        if not per_id or seconds >= per_id * self.maximum:
            return self.maximum
        return int(seconds / per_id)


def _average(so_far: float | None, newest: float) -> float:
    return newest if so_far is None else so_far + _NEWEST * (newest - so_far)


def retried(
    step: Callable[[int], T],
    size: StepSize,
    *,
    tries: int = 5,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> T:
    """What ``step(size.size)`` returns, tried again with half the size each time a lock is not to be had.

    step:   works on so many ids and ends its own transaction; where it raises DatabaseBusyError it has rolled back
            (after a lock time-out MariaDB keeps what the transaction did before)
    tries:  how often in a row the step may fail at the minimum size
    sleep:  is given seconds
    jitter: a number from 0 to 1; two sessions that met once do not meet again at the same moment

    Raises the last DatabaseBusyError after that many tries; every other error at once.
    """
    failed_at_minimum = 0
    pause = _FIRST_PAUSE
    while True:
        try:
            return step(size.size)
        except DatabaseBusyError:
            failed_at_minimum += size.size <= size.minimum
            if failed_at_minimum >= tries:
                raise
            size.halve()
        sleep(pause * (0.5 + jitter()))
        pause = min(2 * pause, _LONGEST_PAUSE)
