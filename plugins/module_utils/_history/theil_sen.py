# SPDX-License-Identifier: GPL-3.0-or-later
"""The slope of noisy measures that outliers do not move, and how well it is known. Pure.

Theil–Sen: the median of the slopes between all pairs of points, with the confidence interval that follows from the
distribution of Kendall's S (P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", Journal of the
American Statistical Association 63, 1968). Pairs are taken within a stratum only, as for the seasonal Kendall slope
(R. M. Hirsch, J. R. Slack, R. A. Smith, "Techniques of trend analysis for monthly water quality data", Water Resources
Research 18, 1982; R. O. Gilbert, "Statistical methods for environmental pollution monitoring", 1987, section 17.2). So
a step between two strata is no growth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

Point = tuple[float, float]

_EXACT_PAIRS = 150
"""Up to so many pairs the distribution of S is counted; beyond, the normal one is as good."""


@dataclass(frozen=True)
class Slope:
    """Units of y per unit of x: the estimate and its confidence interval."""

    estimate: float
    low: float
    high: float


def stratified_slope(strata: Sequence[Sequence[Point]], confidence: float) -> Slope | None:
    """The slope that all strata share.

    strata:     points (x, y) of each, every x once
    confidence: of the interval, 0 to 1

    None where there are too few points for any interval of that confidence.
    """
    outside = _outside([len(points) for points in strata if len(points) > 1], confidence)
    if outside is None:
        return None
    slopes = sorted(slope for points in strata for slope in _slopes(points))
    return Slope(median(slopes), slopes[outside], slopes[-1 - outside])


def _slopes(points: Sequence[Point]) -> list[float]:
    return [(y2 - y1) / (x2 - x1) for i, (x2, y2) in enumerate(points) for x1, y1 in points[:i]]


def _outside(sizes: Sequence[int], confidence: float) -> int | None:
    """How many of the sorted slopes lie outside of the interval at each end; None where even the whole is too narrow.

    The true slope lies below the (k+1)st of them exactly where at most k pairs, the growth taken out, fall.
    """
    pairs = sum(n * (n - 1) // 2 for n in sizes)
    if not pairs:
        return None
    if pairs > _EXACT_PAIRS:
        variance = sum(n * (n - 1) * (2 * n + 5) for n in sizes) / 18
        deviation = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
        outside = math.floor((pairs - deviation - 1) / 2)
        return outside if outside >= 0 else None
    counts = _inversions(sizes)
    left = (1 - confidence) / 2 * sum(counts)
    for outside, count in enumerate(counts):
        left -= count
        if left < 0:
            return outside - 1 if outside else None
    return None


def _inversions(sizes: Sequence[int]) -> list[int]:
    """How many orders of all strata together have 0, 1, 2 … inversions, that is pairs that fall."""
    counts = [1]
    for size in sizes:
        for place in range(2, size + 1):
            wider = [0] * (len(counts) + place - 1)
            for at, count in enumerate(counts):
                for more in range(place):
                    wider[at + more] += count
            counts = wider
    return counts
