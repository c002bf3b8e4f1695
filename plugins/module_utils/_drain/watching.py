# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do between two readings of a drain, and what they came to. Pure: results of drain_info in, decisions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.progress import STAGES
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.verdict import DRAINED, STUCK
from ansible_collections.dmwm.wmagent.plugins.module_utils._progress import Progress

NEWEST, HOURLY = 60, 140
"""Readings that are remembered, the newest and one for each hour before: drain_info needs 48 for its rates, and older
ones to tell for how long nothing changed."""

SPEED_PARTS = {
    "condor_priority": "CondorPriority",
    "no_job_retries": "NoJobRetries",
    "enable_all_sites": "EnableAllSites",
}
"""The option of module ``drain`` -> the part of SpeedDrainConfig."""

_TIMES_STUCK = 2
"""A person is called when two readings in a row say so: the first may have met a moment of rest."""

_GROWTH = 1.5
_PART_OF_ETA = 30

Reading = Mapping[str, Any]
"""A result of drain_info."""


def kept(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """What of the readings the next ones need, the newest last; the first is never dropped."""
    hours = {int(one["time"] // 3600): one for one in reversed(readings[1:-NEWEST])}
    hourly = [hours[hour] for hour in sorted(hours)][-HOURLY:]
    chosen = [*readings[:1], *hourly, *readings[1:][-NEWEST:]]
    return [_short(one) for one in chosen]


def _short(one: Reading) -> dict[str, Any]:
    return {
        "time": one["time"],
        "agent": one["agent"],
        "verdict": one["verdict"],
        "stages": [{"name": stage["name"], "count": stage["count"]} for stage in one["stages"]],
        "blockers": [blocker | {"examples": {}} for blocker in one["blockers"]],
        "waived": [blocker | {"examples": {}} for blocker in one["waived"]],
    }


def pause(reading: Reading, before: Reading | None, last: float, shortest: float, longest: float) -> float:
    """Seconds until the next reading.

    last: the pause before this one. A part of the time that is left where that is known; otherwise longer and longer
    as long as nothing changes.
    """
    eta = reading["eta"]["seconds"]
    if eta is not None:
        wanted = eta / _PART_OF_ETA
    elif before is not None and counts(before) == counts(reading):
        wanted = last * _GROWTH
    else:
        wanted = shortest
    return float(min(max(wanted, shortest), longest))


def counts(reading: Reading) -> dict[str, int | None]:
    """Stage -> how many are in it."""
    return {stage["name"]: stage["count"] for stage in reading["stages"]}


def jobs_left(reading: Reading) -> int | None:
    """Jobs in HTCondor, which upstream compares with the thresholds of speed drain; None where unknown."""
    return counts(reading).get("batch")


def speed_due(
    reading: Reading, thresholds: Mapping[str, int], flags: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """Parts of speed drain whose turn has come: option of ``drain`` -> what to set.

    Work comes into the batch system no more once WorkQueue and WMBS have none that waits, so a queue that is short
    before that is no reason. ``condor_priority`` is left to DrainStatusPoller, which raises priorities only where it
    enables this itself (WMComponent.AgentStatusWatcher.DrainStatusPoller).
    """
    jobs, waiting = jobs_left(reading), counts(reading).get("workqueue")
    if not flags or not flags["UserDrainMode"] or jobs is None or waiting != 0:
        return {}
    now = flags["SpeedDrainConfig"]
    return {
        option: {"threshold": threshold, "enabled": True}
        for option, threshold in thresholds.items()
        if option != "condor_priority" and jobs < threshold and not now[SPEED_PARTS[option]]["Enabled"]
    }


def ends(readings: Sequence[Reading], unreadable_since: float | None, now: float, patience: float) -> str:
    """Why the watch is over, '' where it goes on.

    unreadable_since: UNIX time of the first of the readings in a row that failed or came to ``unknown``
    patience:         seconds for which that may last
    """
    if unreadable_since is not None and now - unreadable_since >= patience:
        return "unknown"
    if not readings:
        return ""
    if readings[-1]["verdict"] == DRAINED:
        return DRAINED
    last = [one["verdict"] for one in readings[-_TIMES_STUCK:]]
    return STUCK if len(last) == _TIMES_STUCK and set(last) == {STUCK} else ""


def share_done(readings: Sequence[Reading]) -> float:
    """How much of the work that was there at its most is gone, 0 to 1."""
    totals = [sum(count or 0 for count in counts(one).values()) for one in readings]
    most = max(totals, default=0)
    return 1.0 if most == 0 else 1 - totals[-1] / most


def seconds_taken(began: float, readings: Sequence[Reading], now: float) -> int | None:
    """Seconds from the begin to the first of the readings at the end that say drained; None before a begin."""
    if not began:
        return None
    ended = now
    for one in reversed(readings):
        if one["verdict"] != DRAINED:
            break
        ended = one["time"]
    return round(ended - began)


def durations(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """For each stage how many it held at first, and after how many seconds it was empty for good (None: not yet)."""
    told = []
    for name in STAGES:
        points = [(one["time"], count) for one in readings if (count := counts(one).get(name)) is not None]
        busy = [at for at, count in points if count]
        empty = next((at for at, count in points if count == 0 and (not busy or at > busy[-1])), None)
        told.append(
            {
                "stage": name,
                "most": max((count for _, count in points), default=None),
                "seconds": None if empty is None else round(empty - readings[0]["time"] if busy else 0.0),
            }
        )
    return told


def progress_of(readings: Sequence[Reading]) -> Progress:
    """The same for a live line: of all that was there at its most, how much is gone."""
    reading = readings[-1]
    totals = [sum(count or 0 for count in counts(one).values()) for one in readings]
    waits = next((stage for stage in reading["stages"] if stage["name"] == reading["bottleneck"]), None)
    step = str(reading["verdict"]) + (f", waits for {waits['name']}: {waits['count']}" if waits else "")
    rate = max(0.0, (waits or {}).get("rate_per_hour") or 0.0) / 3600
    eta = reading["eta"]["seconds"]
    return Progress(step, max(totals) - totals[-1], max(totals) or None, "pieces of work", rate or None, eta)


def line(readings: Sequence[Reading], width: int = 20) -> str:
    """One line on where the drain stands: bar, what it waits for, rate, ETA."""
    reading = readings[-1]
    done = share_done(readings)
    bar = "#" * int(done * width)
    parts = [f"[{bar:.<{width}}] {100 * done:3.0f} %", str(reading["verdict"])]
    waits = next((stage for stage in reading["stages"] if stage["name"] == reading["bottleneck"]), None)
    if waits is not None:
        rate = waits["rate_per_hour"]
        parts.append(f"waits for {waits['name']}: {waits['count']}" + (f" ({-rate:+.0f}/h)" if rate else ""))
    if reading["verdict"] != DRAINED:
        parts.append(_eta(reading["eta"], waits))
        if waits is None:
            parts.append(reading["reason"])
    return "  ".join(part for part in parts if part)


def _eta(eta: Mapping[str, Any], waits: Mapping[str, Any] | None) -> str:
    """When all is done; where nobody can tell, when the stage that is waited for is empty."""
    if eta["seconds"] is not None:
        return f"ETA {_spread(eta['seconds'], eta['soonest_seconds'], eta['latest_seconds'])}"
    if waits is not None and waits.get("eta_seconds"):
        own = _spread(waits["eta_seconds"], waits["eta_soonest_seconds"], waits["eta_latest_seconds"])
        return f"{waits['name']} empty in {own}; {eta['note']}"
    return f"ETA: {eta['note']}" if eta["note"] else ""


def _spread(seconds: float, soonest: float | None, latest: float | None) -> str:
    spread = "" if soonest is None else f" ({span(soonest)} to {'?' if latest is None else span(latest)})"
    return span(seconds) + spread


def span(seconds: float) -> str:
    """A length of time in the unit that suits it: ``45 s``, ``12 min``, ``3.5 h``, ``2.1 d``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} d"
