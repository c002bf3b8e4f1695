# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast an agent drains, what it waits for, and when it will be done. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import SIGNALS, Blocker
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.verdict import Reading

STAGES: dict[str, tuple[str, ...]] = {
    "workqueue": ("workqueue_waiting", "workqueue_running", "workqueue_canceling"),
    "jobs": ("jobs_waiting", "jobs_executing", "jobs_finishing"),
    "batch": ("condor_idle", "condor_running", "condor_leaving"),
    "subscriptions": ("subscriptions_unfinished",),
    "upload": ("files_not_uploaded",),
    "registration": ("files_not_in_rucio",),
    "blocks": ("blocks_not_in_dbs", "blocks_not_closed"),
}
"""What work passes through, in this order: stage -> signals that count what is still in it. What needs a person is
in no stage, since no rate tells when a person comes."""

NOT_ENOUGH = "not enough data"
_FEWEST = 3
_LATEST = 48


@dataclass(frozen=True)
class Stage:
    """One stage.

    count:    how many are in it; None where it could not be read
    rate:     how many fewer per hour since the last reading; below 0 where it grows, None without an earlier reading
    eta, soonest, latest: seconds until it is empty, by the median of all rates and by the 10th and 90th percentile.
              eta is None where ``note`` says why; latest is None where it may not shrink at all
    """

    name: str
    count: int | None
    rate: float | None
    eta: float | None = None
    soonest: float | None = None
    latest: float | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for a result."""
        return {
            "name": self.name,
            "count": self.count,
            "rate_per_hour": None if self.rate is None else round(self.rate, 3),
            "eta_seconds": _rounded(self.eta),
            "eta_soonest_seconds": _rounded(self.soonest),
            "eta_latest_seconds": _rounded(self.latest),
            "note": self.note,
        }


@dataclass(frozen=True)
class Progress:
    """All stages; the one that is waited for most, '' where there is none or nobody can tell; when all are done."""

    stages: tuple[Stage, ...]
    bottleneck: str
    eta: float | None
    soonest: float | None
    latest: float | None
    note: str


def stage_counts(blockers: Iterable[Blocker]) -> dict[str, int | None]:
    """How many are in each stage. blockers: all, waived ones as well."""
    counts: dict[str, int] = {}
    failed = set()
    for blocker in blockers:
        if blocker.count is None:
            failed.add(blocker.source)
        else:
            counts[blocker.signal] = counts.get(blocker.signal, 0) + blocker.count
    return {
        name: None
        if failed & {SIGNALS[signal].source for signal in signals}
        else sum(counts.get(signal, 0) for signal in signals)
        for name, signals in STAGES.items()
    }


def measure(counts: Mapping[str, int | None], earlier: Sequence[Reading], now: float) -> Progress:
    """Rates, bottleneck and ETA. earlier: the oldest first; now: UNIX time, seconds."""
    stages = tuple(_stage(name, counts[name], earlier[-_LATEST:], now) for name in STAGES)
    busy = [stage for stage in stages if stage.count]
    if any(stage.count is None for stage in stages):
        return Progress(stages, _bottleneck(busy), None, None, None, "a stage could not be read")
    if not busy:
        return Progress(stages, "", 0.0, 0.0, 0.0, "")
    bottleneck = _bottleneck(busy)
    waits = [stage for stage in busy if stage.eta is None]
    if waits:
        note = NOT_ENOUGH if any(stage.note == NOT_ENOUGH for stage in waits) else f"{waits[0].name} does not shrink"
        return Progress(stages, bottleneck, None, None, None, note)
    return Progress(
        stages,
        bottleneck,
        max(stage.eta or 0.0 for stage in busy),
        max(stage.soonest or 0.0 for stage in busy),
        None if any(stage.latest is None for stage in busy) else max(stage.latest or 0.0 for stage in busy),
        "",
    )


def _bottleneck(busy: Sequence[Stage]) -> str:
    """The first stage that grows, or that stands still with nothing left before it; else the one that takes longest.

    What stands still while work is left before it may only be waiting for that: subscriptions end after their jobs.
    """
    if any(stage.rate is None for stage in busy) or not busy:
        return ""
    for at, stage in enumerate(busy):
        still = (stage.eta is None and stage.note != NOT_ENOUGH) or (stage.rate or 0) <= 0
        if still and (at == 0 or (stage.rate or 0) < 0):
            return stage.name
    moving = [stage for stage in busy if (stage.rate or 0) > 0] or busy
    return max(
        moving, key=lambda stage: stage.eta if stage.eta is not None else (stage.count or 0) / (stage.rate or 1)
    ).name


def _stage(name: str, count: int | None, earlier: Sequence[Reading], now: float) -> Stage:
    if count is None:
        return Stage(name, None, None, note="could not be read")
    points = [(reading.time, then) for reading in earlier if (then := reading.stages.get(name)) is not None]
    points.append((now, count))
    if len(points) < 2:
        return Stage(name, count, None, 0.0 if count == 0 else None, note="" if count == 0 else NOT_ENOUGH)
    rate = _rate(points[-2], points[-1])
    if count == 0:
        return Stage(name, 0, rate, 0.0, 0.0, 0.0)
    if len(points) < _FEWEST:
        return Stage(name, count, rate, note=NOT_ENOUGH)
    # Theil-Sen: the median over all pairs of readings is little moved by one burst or one pause.
    rates = sorted(_rate(points[i], points[j]) for j in range(len(points)) for i in range(j))
    usual = median(rates)
    if usual <= 0:
        return Stage(name, count, rate, note="does not shrink")
    tenths = quantiles(rates, n=10, method="inclusive")
    slow, fast = tenths[0], tenths[-1]
    return Stage(
        name,
        count,
        rate,
        count / usual * 3600,
        count / fast * 3600,
        count / slow * 3600 if slow > 0 else None,
    )


def _rate(then: tuple[float, int], now: tuple[float, int]) -> float:
    """How many fewer per hour."""
    return (then[1] - now[1]) / (now[0] - then[0]) * 3600


def _rounded(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)
