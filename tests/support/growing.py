# SPDX-License-Identifier: GPL-3.0-or-later
"""Made-up disks that fill up in a known way, to see whether a forecast finds it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

DAY = 86400.0
KINDS = ("steady", "steps", "gaps", "outliers", "cleanups")


@dataclass(frozen=True)
class Disk:
    """points: measured; limit, and when it is reached in truth; now: of the last measure."""

    points: list[tuple[float, float]]
    limit: float
    full_at: float
    now: float


def random_disk(chance: random.Random, kind: str) -> Disk:
    """10 to 120 measures over up to 120 days of a disk that grows by 5 % to 300 % of its base, with noise up to 3 %."""
    count = chance.randint(10 if kind != "cleanups" else 30, 120)
    apart = DAY * chance.choice([0.25, 0.5, 1])
    span = count * apart
    base = chance.uniform(1e9, 1e12)
    growth = base * chance.uniform(0.05, 3) / span
    noise = base * chance.uniform(0, 0.03)
    level, full_at = _truth(chance, kind, base, growth, span, apart)
    points = []
    hole = chance.uniform(0.2, 0.7) * span if kind == "gaps" else span
    for number in range(count):
        time = (number + chance.uniform(-0.3, 0.3)) * apart
        if hole < time < hole + 0.15 * span:
            continue
        value = level(time) + chance.gauss(0, noise)
        if kind == "outliers" and 2 < number < count - 2 and chance.random() < 0.05:
            value *= chance.choice([0.3, 2])
        points.append((time, value))
    limit = max(value for _, value in points) * chance.uniform(1.05, 2)
    return Disk(points, limit, full_at(limit), points[-1][0])


def _truth(
    chance: random.Random, kind: str, base: float, growth: float, span: float, apart: float
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Level by time, and time by limit."""
    if kind == "cleanups":
        # Each takes back all but a share of what came since the last one.
        every, stays = min(chance.uniform(5, 15) * apart, span / 6), chance.uniform(0.02, 0.5)
        kept = growth * stays
        return (
            lambda time: 3 * base + kept * (time // every) * every + growth * (time % every),
            lambda limit: every + (limit - 3 * base - growth * every) / kept,
        )
    steps = []
    if kind == "steps":
        for _ in range(chance.randint(1, 2)):
            steps.append(
                (chance.uniform(0.1, 0.9) * span, chance.choice([-1, -1, 1]) * chance.uniform(0.3, 0.5) * base)
            )
    total = sum(change for _, change in steps)
    return (
        lambda time: 3 * base + growth * time + sum(change for at, change in steps if at <= time),
        lambda limit: (limit - 3 * base - total) / growth,
    )
