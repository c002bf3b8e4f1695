# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps an agent from being drained: signals, their classes, blockers. Pure; docs/drain.md tells it in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

RUNNING = "running work"
WAITING = "waiting work"
UPLOAD = "upload to DBS"
REGISTRATION = "registration in Rucio"
STUCK = "stuck: needs a person"
UNKNOWN = "unknown"

CLASSES = (RUNNING, WAITING, UPLOAD, REGISTRATION, STUCK, UNKNOWN)
MOVING = frozenset([RUNNING, WAITING, UPLOAD, REGISTRATION])
"""Classes of what goes away by itself."""

DATABASE, WORKQUEUE, GLOBAL_WORKQUEUE, CONDOR, AGENT_CONFIG, REQUESTS = SOURCES = (
    "database",
    "workqueue",
    "global_workqueue",
    "condor",
    "agent_config",
    "requests",
)
"""Where signals come from. All of them have to answer before anything is called drained."""

_SHOWN = 10


@dataclass(frozen=True)
class Signal:
    """One thing that is counted. kind: its class; source: one of SOURCES."""

    kind: str
    source: str


SIGNALS: dict[str, Signal] = {
    # WMBS and BossAir
    "jobs_waiting": Signal(WAITING, DATABASE),
    "jobs_executing": Signal(RUNNING, DATABASE),
    "jobs_finishing": Signal(RUNNING, DATABASE),
    "jobs_paused": Signal(STUCK, DATABASE),
    "jobs_state_unknown": Signal(UNKNOWN, DATABASE),
    "batch_jobs": Signal(RUNNING, DATABASE),
    "subscriptions_unfinished": Signal(WAITING, DATABASE),
    "workflows_not_injected": Signal(WAITING, DATABASE),
    "files_available": Signal(WAITING, DATABASE),
    "files_acquired": Signal(RUNNING, DATABASE),
    # DBSBuffer
    "workflows_open": Signal(RUNNING, DATABASE),
    "workflows_open_gone": Signal(STUCK, DATABASE),
    "workflows_completion_unknown": Signal(STUCK, DATABASE),
    "files_not_uploaded": Signal(UPLOAD, DATABASE),
    "files_without_workflow": Signal(STUCK, DATABASE),
    "files_without_block": Signal(STUCK, DATABASE),
    "files_of_missing_block": Signal(STUCK, DATABASE),
    "files_status_unknown": Signal(STUCK, DATABASE),
    "files_not_in_rucio": Signal(REGISTRATION, DATABASE),
    "files_registration_unknown": Signal(STUCK, DATABASE),
    "blocks_not_in_dbs": Signal(UPLOAD, DATABASE),
    "blocks_not_closed": Signal(REGISTRATION, DATABASE),
    "blocks_status_unknown": Signal(STUCK, DATABASE),
    "blocks_status_null": Signal(STUCK, DATABASE),
    # HTCondor
    "condor_idle": Signal(WAITING, CONDOR),
    "condor_running": Signal(RUNNING, CONDOR),
    "condor_leaving": Signal(RUNNING, CONDOR),
    "condor_held": Signal(STUCK, CONDOR),
    "condor_status_unknown": Signal(UNKNOWN, CONDOR),
    # WorkQueue, on the agent and central
    **{
        f"{queue}_{state}": Signal(kind, source)
        for queue, source in (
            ("workqueue", WORKQUEUE),
            ("inbox", WORKQUEUE),
            ("global_workqueue", GLOBAL_WORKQUEUE),
        )
        for state, kind in (
            ("waiting", WAITING),
            ("running", RUNNING),
            ("canceling", WAITING),
            ("status_unknown", UNKNOWN),
        )
    },
    # ReqMgr2
    "drain_mode_off": Signal(STUCK, AGENT_CONFIG),
    "drain_mode_by_disk_only": Signal(STUCK, AGENT_CONFIG),
    "requests_unknown": Signal(STUCK, REQUESTS),
}
"""All that is counted."""


@dataclass(frozen=True)
class Blocker:
    """One thing that keeps an agent from being drained.

    signal:   one of SIGNALS; where a reader failed, what it wanted to read
    kind:     one of CLASSES
    source:   one of SOURCES
    count:    how many; None where nobody knows
    oldest:   since when, UNIX time in seconds; None where the source keeps no time
    by_state: state, as the source calls it -> how many
    examples: workflow (blocks: the block's name) -> how many, those with the most
    text:     one line: why it could not be read, or what there is to know
    """

    signal: str
    kind: str
    source: str
    count: int | None
    oldest: int | None = None
    by_state: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, int] = field(default_factory=dict)
    text: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for a result; :func:`blocker_of` reads it."""
        return {
            "signal": self.signal,
            "class": self.kind,
            "source": self.source,
            "count": self.count,
            "oldest": self.oldest,
            "by_state": dict(self.by_state),
            "examples": dict(self.examples),
            "text": self.text,
        }

    def __str__(self) -> str:
        return f"{self.signal} ({'not read' if self.count is None else self.count})"


@dataclass(frozen=True)
class Counted:
    """Some things of one signal that a reader counted.

    workflow: None where the source names none
    """

    signal: str
    count: int
    workflow: str | None = None
    state: str = ""
    oldest: int | None = None


def blockers_of(counted: Iterable[Counted]) -> list[Blocker]:
    """One blocker for each signal of which there is anything, in the order of SIGNALS."""
    found: dict[str, list[Counted]] = {}
    for one in counted:
        if one.count > 0:
            found.setdefault(one.signal, []).append(one)
    return [_blocker(name, found[name]) for name in SIGNALS if name in found]


def _blocker(name: str, parts: list[Counted]) -> Blocker:
    states: Counter[str] = Counter()
    workflows: Counter[str] = Counter()
    for part in parts:
        states[part.state] += part.count
        workflows["(no workflow)" if part.workflow is None else part.workflow] += part.count
    times = [part.oldest for part in parts if part.oldest is not None]
    named = workflows.keys() != {"(no workflow)"}
    return Blocker(
        signal=name,
        kind=SIGNALS[name].kind,
        source=SIGNALS[name].source,
        count=sum(part.count for part in parts),
        oldest=min(times, default=None),
        by_state=dict(sorted((state, count) for state, count in states.items() if state)),
        # By name among equals, so that the same databases always give the same result.
        examples=dict(sorted(workflows.items(), key=lambda one: (-one[1], one[0]))[:_SHOWN]) if named else {},
    )


def unreadable(what: str, source: str, why: WMAgentError | str) -> Blocker:
    """What could not be read: it may be anything, so it blocks."""
    return Blocker(what, UNKNOWN, source, None, text=" ".join(str(why).split()))


def blocker_of(found: Any) -> Blocker:
    """A blocker out of an earlier result. Raises WMAgentError where it is none."""
    try:
        count, oldest = found["count"], found["oldest"]
        return Blocker(
            signal=str(found["signal"]),
            kind=str(found["class"]),
            source=str(found["source"]),
            count=None if count is None else int(count),
            oldest=None if oldest is None else int(oldest),
            by_state={str(state): int(number) for state, number in found["by_state"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise WMAgentError(
            "before holds something that is no earlier result of drain_info (its blockers are others)"
        ) from None
