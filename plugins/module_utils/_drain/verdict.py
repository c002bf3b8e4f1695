# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an agent is drained. Pure: blockers and earlier readings in, verdict out; docs/drain.md tells it in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import (
    MOVING,
    SOURCES,
    UNKNOWN,
    Blocker,
    blocker_of,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

DRAINED = "drained"
DRAINING = "draining"
STUCK = "stuck"
UNDECIDED = "unknown"

VERDICTS = (DRAINED, DRAINING, STUCK, UNDECIDED)

_CLOCK_SKEW = 60
_RUNS_BY_ITSELF = "condor_running"
_NOT_DRAINING = "drain_mode_off"


@dataclass(frozen=True)
class Reading:
    """An earlier result.

    time:     UNIX time, seconds
    blockers: signal -> blocker, waived ones as well
    stages:   name -> how many were left; None where it could not be read
    """

    time: float
    blockers: Mapping[str, Blocker]
    stages: Mapping[str, int | None]

    def tells_of(self, blocker: Blocker) -> bool:
        """Whether the source of a blocker could be read."""
        return not any(
            one.kind == UNKNOWN and one.count is None and one.source == blocker.source for one in self.blockers.values()
        )


@dataclass(frozen=True)
class Verdict:
    """One of VERDICTS and why, in one line."""

    verdict: str
    reason: str
    unchanged_since: Mapping[str, float] = field(default_factory=dict)


def readings_of(before: Sequence[Any], agent: str, now: float) -> list[Reading]:
    """Earlier results of the same agent, the oldest first. now: UNIX time, seconds.

    Raises WMAgentError for what is no such result, another agent's, or of a time yet to come.
    """
    found: dict[float, Reading] = {}
    for one in before:
        if not isinstance(one, Mapping) or not {"time", "agent", "blockers", "waived", "stages"} <= one.keys():
            raise WMAgentError(
                "before holds something that is no earlier result of drain_info: it lacks time, agent, blockers, "
                "waived or stages"
            )
        if one["agent"] != agent:
            raise WMAgentError(f"before holds a result of {one['agent']}, and this agent is {agent}; leave it out")
        reading = _reading_of(one)
        if reading.time > now + _CLOCK_SKEW:
            raise WMAgentError(
                f"before holds a result that is {reading.time - now:.0f} s ahead of this host's clock; "
                "set the clock right, or leave it out"
            )
        if reading.time < now:
            found[reading.time] = reading
    return [found[time] for time in sorted(found)]


def _reading_of(one: Mapping[str, Any]) -> Reading:
    try:
        return Reading(
            time=float(one["time"]),
            blockers={blocker.signal: blocker for blocker in map(blocker_of, [*one["blockers"], *one["waived"]])},
            stages={
                str(stage["name"]): None if stage["count"] is None else int(stage["count"]) for stage in one["stages"]
            },
        )
    except (KeyError, TypeError, ValueError):
        raise WMAgentError("before holds something that is no earlier result of drain_info (its stages)") from None


def unchanged_since(blocker: Blocker, earlier: Sequence[Reading], now: float) -> float:
    """Since when a blocker is what it is: the time of the first of the readings that all say the same.

    earlier: the oldest first. Readings that could not tell are passed over.
    """
    since = now
    for reading in reversed(earlier):
        then = reading.blockers.get(blocker.signal)
        if then is None and not reading.tells_of(blocker):
            continue
        if then is None or not _same(then, blocker):
            break
        since = reading.time
    return since


def _same(one: Blocker, other: Blocker) -> bool:
    return (one.count, one.oldest, dict(one.by_state)) == (other.count, other.oldest, dict(other.by_state))


def judge(
    blockers: Iterable[Blocker],
    read: AbstractSet[str],
    earlier: Sequence[Reading],
    now: float,
    stuck_after: float,
) -> Verdict:
    """The verdict on what is left.

    blockers:    without those that a waiver covers
    read:        sources that were asked, each of which answered or left a blocker that says that it didn't
    earlier:     the oldest first
    now:         UNIX time, seconds
    stuck_after: seconds in which nothing of what should move by itself may stay the same
    """
    left = list(blockers)
    since = {blocker.signal: unchanged_since(blocker, earlier, now) for blocker in left}
    missing = sorted(set(SOURCES) - read)
    unknown = [blocker for blocker in left if blocker.kind == UNKNOWN]
    if not left and not missing:
        return Verdict(DRAINED, "everything was read and nothing is left", since)
    off = any(blocker.signal == _NOT_DRAINING for blocker in left)
    alive = [
        blocker
        for blocker in left
        # A job may run for days, and the batch system ends those that take too long.
        if blocker.kind in MOVING and (blocker.signal == _RUNS_BY_ITSELF or now - since[blocker.signal] < stuck_after)
    ]
    if alive and not off:
        return Verdict(DRAINING, f"{_most(alive)} to go", since)
    if missing:
        return Verdict(UNDECIDED, f"not asked: {', '.join(missing)}", since)
    if unknown:
        told = unknown[0].text or f"{unknown[0]} has a state that is not known"
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        return Verdict(UNDECIDED, f"{unknown[0].signal} cannot be told: {told}{more}", since)
    if off:
        return Verdict(STUCK, "the agent is not in drain mode: new work comes in", since)
    still = [blocker for blocker in left if blocker.kind in MOVING]
    if still:
        hours = (now - min(since[blocker.signal] for blocker in still)) / 3600
        return Verdict(STUCK, f"{_most(still)} left, and nothing moved for {hours:.0f} h", since)
    return Verdict(STUCK, f"what is left needs a person: {', '.join(str(blocker) for blocker in left)}", since)


def _most(blockers: Sequence[Blocker]) -> str:
    return ", ".join(str(blocker) for blocker in blockers[:4]) + (" and more" if len(blockers) > 4 else "")
