# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of the report as plain data: what pages are written from, and the JSON report itself.

Times are ISO 8601 in UTC (``2026-11-23T06:33:00Z``), days are ISO dates (``2027-01-31``), except where a point in time
is said to be in UNIX seconds. Sizes are bytes. ``None`` means that nobody knows, never zero.
"""

from __future__ import annotations

from typing import Any, TypedDict

VERSION = 1


class Difference(TypedDict):
    """What one agent has otherwise than the others. what: ``release``, ``digest``, ``drift`` or ``unknown``."""

    agent: str
    what: str
    details: str


class Fleet(TypedDict):
    """uniform: every agent was reached and runs the same release, unchanged. releases: for each release its agents."""

    agents: int
    uniform: bool
    releases: dict[str, list[str]]
    differences: list[Difference]


class RedeployFirst(TypedDict):
    """The agent whose disk or database is full first. name: of that disk; days as in a forecast."""

    agent: str
    name: str
    day: str
    soonest: str
    latest: str | None


class Drift(TypedDict):
    """Files of the current release that differ from its image. count: None where nobody looked."""

    count: int | None
    kinds: dict[str, int]
    examples: list[str]


class Disk(TypedDict):
    """One file system. name: where it is mounted."""

    name: str
    used: float
    total: float


class Size(TypedDict):
    """One curve. kind: ``disk``, ``database``, ``table``, ``couchdb`` or ``view``; points: [UNIX seconds, bytes]."""

    kind: str
    name: str
    points: list[list[float]]


class Forecast(TypedDict):
    """When a disk or database reaches the threshold, and why nobody can tell where that is so.

    kind:     ``disk``, ``database`` or ``couchdb``
    state:    ``reaches``, ``does not grow`` or ``not enough data``
    day:      expected; soonest: not before; each None unless it reaches
    latest:   None also where the slowest growth that fits the measures never reaches it
    """

    kind: str
    name: str
    state: str
    day: str | None
    soonest: str | None
    latest: str | None
    why: str


class Eta(TypedDict):
    """When all stages are empty, seconds from the reading on."""

    seconds: float | None
    soonest_seconds: float | None
    latest_seconds: float | None
    note: str


class Stage(TypedDict):
    """What work passes through. rate_per_hour: how many fewer, below 0 where it grows."""

    name: str
    count: int | None
    rate_per_hour: float | None


# "class" is a word of Python's.
Blocker = TypedDict("Blocker", {"name": str, "class": str, "count": int | None})


class Drain(TypedDict):
    """The last reading of a drain."""

    verdict: str
    bottleneck: str
    eta: Eta
    stages: list[Stage]
    blockers: list[Blocker]


# "from" is a word of Python's. details: whatever that action noted.
LedgerLine = TypedDict(
    "LedgerLine",
    {
        "time": str,
        "action": str,
        "from": str | None,
        "to": str | None,
        "verdict": str | None,
        "owner": str | None,
        "details": dict[str, Any],
    },
)


class Agent(TypedDict):
    """One agent. reached: in this very run; seen_at: when it last told anything; gaps: what could not be read, and why.

    cleanups: UNIX seconds. verdict: ``healthy``, ``unhealthy`` or ``inconclusive``.
    """

    name: str
    reached: bool
    seen_at: str | None
    gaps: list[str]
    release: str | None
    digest: str | None
    drift: Drift
    verdict: str | None
    reasons: list[str]
    disks: list[Disk]
    sizes: list[Size]
    cleanups: list[float]
    forecast: list[Forecast]
    drain: Drain | None
    ledger: list[LedgerLine]


# downtime: seconds.
RolloutAgent = TypedDict(
    "RolloutAgent",
    {"agent": str, "from": str | None, "to": str | None, "verdict": str | None, "downtime": float | None},
)


class Rollout(TypedDict):
    """One rollout out of the agents' ledgers. began: the first entry with its id."""

    id: str
    began: str
    label: str
    agents: list[RolloutAgent]


class Report(TypedDict):
    """Everything. threshold: share of a disk at which it counts as full; rollouts: newest first."""

    version: int
    generated_at: str
    threshold: float
    fleet: Fleet
    redeploy_first: RedeployFirst | None
    agents: list[Agent]
    rollouts: list[Rollout]
