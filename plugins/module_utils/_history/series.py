# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures over time: put in order, and cut where they jump. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from ansible_collections.dmwm.wmagent.plugins.module_utils._history.theil_sen import Point

_STEP_SCALES = 5.0
"""A jump is a step from so many robust standard deviations of all changes on. A false one costs little."""

_STEP_SHARE = 0.02
"""And from this share of the level on; what is smaller does not matter to a forecast."""

_MAD_TO_DEVIATION = 1.4826


@dataclass(frozen=True)
class Step:
    """A jump: when it was first seen and by how much, growth taken out; below 0 for a drop."""

    time: float
    change: float


@dataclass(frozen=True)
class Pieces:
    """A series cut at its steps, outliers left out.

    segments:    points between two steps, oldest first; one more than there are steps
    unconfirmed: the last point, where it jumps and no second one shows whether it is a step or an outlier
    """

    segments: list[list[Point]]
    steps: list[Step] = field(default_factory=list)
    unconfirmed: Point | None = None


def in_order(points: Iterable[Sequence[float]], until: float = math.inf) -> list[Point]:
    """Points by time. The last of several at one time counts; what is no size, or later than ``until``, does not."""
    known: dict[float, float] = {}
    for time, value in points:
        if math.isfinite(time) and math.isfinite(value) and value >= 0 and time <= until:
            known[float(time)] = float(value)
    return sorted(known.items())


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most so many points, the last one of each of as many stretches of time; every one is a measured one."""
    if len(points) <= most:
        return list(points)
    first, width = points[0][0], (points[-1][0] - points[0][0]) / most
    kept = {min(int((point[0] - first) / width), most - 1): point for point in points}
    return [kept[stretch] for stretch in sorted(kept)]


def cut_at_steps(points: Sequence[Point]) -> Pieces:
    """Cut a series where it jumps.

    A change is a jump where it is far from what the usual growth makes of the time in between. Two in opposite
    directions around one or two points, that come to nothing, are outliers; several in a row are one step.
    """
    left = list(points)
    while True:
        jumps, limit = _jumps(left)
        outliers = _outliers(left, jumps, limit)
        if not outliers:
            return _cut(left, jumps)
        left = [point for at, point in enumerate(left) if at not in outliers]


def _jumps(points: Sequence[Point]) -> tuple[dict[int, float], float]:
    """By index of the first point after it, each jump, growth taken out; and from what size on it is one."""
    if len(points) < 3:  # two changes cannot tell which of them is unusual
        return {}, math.inf
    changes = [(t2 - t1, v2 - v1) for (t1, v1), (t2, v2) in pairwise(points)]
    rate = median(change / seconds for seconds, change in changes)
    rest = [change - rate * seconds for seconds, change in changes]
    middle = median(rest)
    scale = _MAD_TO_DEVIATION * median(abs(one - middle) for one in rest)
    limit = max(_STEP_SCALES * scale, _STEP_SHARE * median(value for _, value in points))
    usual = median(seconds for seconds, _ in changes)
    # Over a gap, what is unknown of the rate counts as many times as there are measures missing.
    return {
        at + 1: one
        for at, (one, (seconds, _)) in enumerate(zip(rest, changes, strict=True))
        if abs(one) > limit * max(1.0, seconds / usual)
    }, limit


def _outliers(points: Sequence[Point], jumps: dict[int, float], limit: float) -> set[int]:
    """Indexes of points that jump away and back."""
    for first, second in pairwise(sorted(jumps)):
        if second - first <= 2 and jumps[first] * jumps[second] < 0 and abs(jumps[first] + jumps[second]) <= limit:
            return set(range(first, second))
    return set()


def _cut(points: list[Point], jumps: dict[int, float]) -> Pieces:
    if len(points) - 1 in jumps and len(points) - 2 not in jumps:
        cut = _cut(points[:-1], jumps)
        return Pieces(cut.segments, cut.steps, points[-1])
    segments: list[list[Point]] = [[]]
    steps: list[Step] = []
    for at, point in enumerate(points):
        if at in jumps:
            if len(segments[-1]) == 1 and at - 1 in jumps:
                # Seen halfway: the point in between belongs to neither side.
                segments[-1] = []
                steps[-1] = Step(point[0], steps[-1].change + jumps[at])
            else:
                segments.append([])
                steps.append(Step(point[0], jumps[at]))
        segments[-1].append(point)
    return Pieces(segments, steps)
