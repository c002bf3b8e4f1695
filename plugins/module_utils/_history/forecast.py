# SPDX-License-Identifier: GPL-3.0-or-later
"""When something that was measured over time reaches a limit. Pure.

Growth is the slope that ``theil_sen`` finds between steps; the level is the median of what the last measures are above
it. Where drops come again and again, as with a scheduled cleanup, the levels just before and just after each of them
show what is left after all. docs/history.md tells the rules for people.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import NormalDist, median

from ansible_collections.dmwm.wmagent.plugins.module_utils._history.series import (
    Pieces,
    cut_at_steps,
    in_order,
    thinned,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.theil_sen import Point, Slope, stratified_slope

DAY = 86400.0
REACHES = "reaches"
DOES_NOT_GROW = "does not grow"
NOT_ENOUGH = "not enough data"

WINDOW = 120 * DAY
"""What is older says little of how it grows now."""

MIN_POINTS = 8
MIN_SPAN = 3 * DAY
MIN_DROPS = 4
"""Fewer drops say too little of what they leave: with 3 there is no interval of this confidence."""

CONFIDENCE = 0.99
HORIZON = 366 * DAY
"""What is not full within a year need not be told apart from what does not grow."""

FAR = 5 * HORIZON
"""Nobody plans a disk for later than this."""

MAX_POINTS = 300
"""Beyond these a series is thinned: pairs grow with the square, and there are hundreds of series."""

_MAD_TO_DEVIATION = 1.4826
_MEDIAN_ERROR = 1.2533
"""Standard error of a median, in those of a mean."""


@dataclass(frozen=True)
class Forecast:
    """When a limit is reached.

    state: REACHES, DOES_NOT_GROW or NOT_ENOUGH
    at, soonest, latest: UNIX seconds; None unless it reaches, ``latest`` also where it may well never do
    why:   in words
    """

    state: str
    why: str
    at: float | None = None
    soonest: float | None = None
    latest: float | None = None


@dataclass(frozen=True)
class Trend:
    """A line: its slope, and its level at one time with the error of that. may_end: something may take growth back."""

    slope: Slope
    time: float
    level: float
    error: float
    why: str
    may_end: bool = False


def forecast(points: Iterable[Sequence[float]], limit: float, now: float) -> Forecast:
    """When the measures reach ``limit``.

    points: (UNIX seconds, size) in any order; those later than ``now`` and those before WINDOW are left out
    limit:  in the unit of the sizes
    """
    measured = in_order((point for point in points if point[0] >= now - WINDOW), until=now)
    if measured and measured[-1][1] >= limit:
        last = measured[-1][0]
        return Forecast(REACHES, "it is there already", last, last, last)
    if len(measured) < MIN_POINTS:
        return Forecast(NOT_ENOUGH, f"{len(measured)} of the {MIN_POINTS} measures that it takes at least")
    span = measured[-1][0] - measured[0][0]
    if span < MIN_SPAN:
        return Forecast(NOT_ENOUGH, f"measured over {span / DAY:.1f} of {MIN_SPAN / DAY:.0f} days at least")
    pieces = cut_at_steps(thinned(measured, MAX_POINTS))
    trend = _trend(pieces, now)
    if trend is None:
        return Forecast(NOT_ENOUGH, "too few measures between its steps")
    return _reach(trend, pieces, limit, now)


def _trend(pieces: Pieces, now: float) -> Trend | None:
    drops = [at for at, step in enumerate(pieces.steps) if step.change < 0]
    going_on = _going_on([pieces.steps[at].time for at in drops], now)
    if going_on and len(drops) >= MIN_DROPS:
        return _long_term(pieces, drops)
    trend = _between_steps(pieces)
    if trend and going_on:
        return replace(trend, why=f"{trend.why}; drops may come again", may_end=True)
    return trend


def _going_on(times: Sequence[float], now: float) -> bool:
    """Whether there were several drops, and the next one is not long overdue."""
    if len(times) < 2:
        return False
    usual = median(later - earlier for earlier, later in pairwise(times))
    return now - times[-1] <= 2 * usual


def _long_term(pieces: Pieces, drops: Sequence[int]) -> Trend | None:
    between = stratified_slope(pieces.segments, CONFIDENCE)
    growth = max(0.0, between.estimate) if between else 0.0
    peaks, floors, unseen = [], [], []
    for at in drops:
        # A drop came at some time between two measures: taken to be halfway, the growth until then added.
        (before, peak), (after, floor) = pieces.segments[at][-1], pieces.segments[at + 1][0]
        half = (after - before) / 2
        peaks.append((before + half, peak + growth * half))
        floors.append((before + half, floor - growth * half))
        unseen.append(growth * half)
    slope = stratified_slope([peaks, floors], CONFIDENCE)
    if slope is None:
        return None
    trend = _through([peaks, floors], peaks, slope, f"{len(drops)} drops; the levels before and after them count")
    return replace(trend, error=trend.error + median(unseen))


def _between_steps(pieces: Pieces) -> Trend | None:
    slope = stratified_slope(pieces.segments, CONFIDENCE)
    if slope is None:
        return None
    steps = len(pieces.steps)
    why = f"growth between {steps} step{'s' if steps > 1 else ''}" if steps else "steady growth"
    return _through(pieces.segments, pieces.segments[-1], slope, why)


def _through(strata: Sequence[Sequence[Point]], last: Sequence[Point], slope: Slope, why: str) -> Trend:
    """The line of that slope through the median of what the points of ``last`` are above it."""
    offsets = [[value - slope.estimate * time for time, value in points] for points in strata]
    rest = [offset - median(stratum) for stratum in offsets if stratum for offset in stratum]
    # A median takes away one degree of freedom from each stratum.
    freedom = max(1, len(rest) - sum(1 for stratum in offsets if stratum))
    deviation = _MAD_TO_DEVIATION * median(abs(one) for one in rest) * math.sqrt(len(rest) / freedom)
    middle = median(time for time, _ in last)
    level = median(value - slope.estimate * (time - middle) for time, value in last)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return Trend(slope, middle, level, z * _MEDIAN_ERROR * deviation / math.sqrt(len(last)), why)


def _reach(trend: Trend, pieces: Pieces, limit: float, now: float) -> Forecast:
    soonest = _meets(trend, trend.slope.high, trend.error, limit, now)
    if trend.slope.low <= 0:
        return _no_growth_shown(pieces, soonest, now)
    at = _meets(trend, trend.slope.estimate, 0, limit, now)
    if soonest is None or at is None or soonest > now + FAR:
        return Forecast(DOES_NOT_GROW, f"{trend.why}; it takes more than {FAR / HORIZON:.0f} years")
    lowest, why = trend, trend.why
    if pieces.unconfirmed:
        # A drop puts it off, once it is one.
        time, value = pieces.unconfirmed
        lowest = replace(trend, level=min(trend.level, value - trend.slope.estimate * (time - trend.time)))
        why = f"{why}; the last measure jumps, which a second one has to confirm"
    latest = None if trend.may_end else _meets(lowest, trend.slope.low, -trend.error, limit, now)
    return Forecast(REACHES, why, at, soonest, latest)


def _meets(trend: Trend, slope: float, error: float, limit: float, now: float) -> float | None:
    """When the line is at the limit, not before ``now``; None for never."""
    if slope <= 0:
        return None
    return max(now, trend.time + (limit - trend.level - error) / slope)


def _no_growth_shown(pieces: Pieces, soonest: float | None, now: float) -> Forecast:
    risen = sum(step.change for step in pieces.steps)
    if risen > 0:
        return Forecast(NOT_ENOUGH, "it rises by steps, too few of them for a rate")
    if soonest is not None and soonest < now + HORIZON:
        return Forecast(NOT_ENOUGH, "the measures vary more than they grow")
    return Forecast(DOES_NOT_GROW, "no growth that the measures show reaches it within a year")


def first_to_redeploy(found: Iterable[tuple[str, str, Forecast]]) -> tuple[str, str, Forecast] | None:
    """Of (agent, what, forecast) the one that reaches its limit first."""
    reaching = [one for one in found if one[2].state == REACHES]
    return min(reaching, key=lambda one: (one[2].at, one[2].soonest, one[0], one[1]), default=None)
