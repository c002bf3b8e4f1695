# SPDX-License-Identifier: GPL-3.0-or-later
"""From evidence about components to a verdict. Pure: nothing is read here, not even a clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.component_log import LogEvidence, fatal_reason
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.daemons import WATCHDOG
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.heartbeats import DEFAULT_THRESHOLD, Worker

HEALTHY = "healthy"
UNHEALTHY = "unhealthy"
INCONCLUSIVE = "inconclusive"

BEAT = 60.0
"""Seconds between two signs of life of a sleeping worker, or its poll interval where that is shorter
(WMCore.WorkerThreads.BaseWorkerThread.sleepThread)."""

SLACK = 30.0
"""Seconds a sign of life may be late: the worker counts seconds by sleeping, and the host may be loaded."""

_START_SLACK = 3.0


@dataclass(frozen=True)
class ComponentEvidence:
    """Everything known about one component at ``now`` (seconds since the epoch, the agent's clock).

    absent:          why there is no process of ours for it; empty where there is one
    others:          further processes that do this component's work beside ``pid``
    prefix:          whose interpreter it runs; expected_prefix: the current release's
    threads:         living threads beside the main one; lost: those of threads.json that have ended
    expected:        how many threads threads.json expects, None where there is no such file
    active:          a thread is running, or something was logged within the last BEAT + SLACK
    registered_pid:  pid in wm_components, None where it has no row
    threshold:       seconds of silence after which WMCore itself calls the component down
    database_error:  why wm_workers could not be read; empty where it could
    unreadable:      why something else could not be read
    """

    component: str
    now: float
    pid: int | None = None
    absent: str = ""
    others: tuple[int, ...] = ()
    started: float = 0.0
    prefix: str = ""
    expected_prefix: str = ""
    threads: int = 0
    lost: tuple[int, ...] = ()
    expected: int | None = None
    active: bool = False
    registered_pid: int | None = None
    threshold: float = DEFAULT_THRESHOLD
    workers: tuple[Worker, ...] = ()
    database_error: str = ""
    unreadable: str = ""
    log: LogEvidence = field(default_factory=lambda: LogEvidence(""))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for module results."""
        return asdict(self)


@dataclass(frozen=True)
class Finding:
    """One thing that speaks against a component, or a note (state healthy). ``final``: waiting will not mend it."""

    state: str
    text: str
    final: bool = False


@dataclass(frozen=True)
class ComponentVerdict:
    """Verdict on one component."""

    component: str
    state: str
    findings: tuple[Finding, ...]
    evidence: ComponentEvidence

    @property
    def final(self) -> bool:
        """True where waiting will not make it healthy."""
        return any(one.final for one in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for module results."""
        return {
            "component": self.component,
            "verdict": self.state,
            "reasons": [one.text for one in self.findings if one.state != HEALTHY],
            "notes": [one.text for one in self.findings if one.state == HEALTHY],
            "evidence": self.evidence.as_dict(),
        }


@dataclass(frozen=True)
class Verdict:
    """Verdict on an agent: its worst component's. ``reason`` is one line, empty where healthy."""

    state: str
    components: tuple[ComponentVerdict, ...]
    reason: str = ""

    @property
    def final(self) -> bool:
        """True where waiting will not make it healthy."""
        return any(one.final for one in self.components)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for module results."""
        return {
            "verdict": self.state,
            "reason": self.reason,
            "reasons": [
                f"{one.component}: {finding.text}"
                for one in self.components
                for finding in one.findings
                if finding.state != HEALTHY
            ]
            or [self.reason] * bool(self.reason),
            "components": [one.as_dict() for one in self.components],
        }


def judge(
    evidence: Sequence[ComponentEvidence],
    since: float | None = None,
    *,
    new_tracebacks: bool | None = None,
    known_tracebacks: Sequence[str] = (),
) -> Verdict:
    """The verdict that this evidence allows.

    since:          seconds since the epoch; a component that was started before is unhealthy
    new_tracebacks: whether a traceback that is new since a component's start makes it unhealthy: right for an agent
                    just started (and so the default where ``since`` is given); one that runs for weeks has collected
                    some, and they are noted only. Those that ended a worker count always.

    known_tracebacks: regular expressions, searched in "<exception type> <functions it came through>: <message>"; a
                    traceback that one of them fits is noted only, unless it ended a worker

    No evidence at all is inconclusive.
    """
    if not evidence:
        return Verdict(INCONCLUSIVE, (), "no component is known, so there is nothing to judge")
    strict = since is not None if new_tracebacks is None else new_tracebacks
    harmless = re.compile("|".join(f"(?:{pattern})" for pattern in known_tracebacks) or r"(?!)")
    verdicts = tuple(_judge_one(one, since, strict, harmless) for one in evidence)
    state = _worst(one.state for one in verdicts)
    parts = [
        f"{one.component}: {next(finding.text for finding in one.findings if finding.state == state)}"
        for one in verdicts
        if one.state == state != HEALTHY
    ]
    more = f" (and {len(parts) - 3} more)" if len(parts) > 3 else ""
    return Verdict(state, verdicts, "; ".join(parts[:3]) + more)


def _worst(states: Iterable[str]) -> str:
    order = (HEALTHY, INCONCLUSIVE, UNHEALTHY)
    return order[max((order.index(state) for state in states), default=0)]


def _judge_one(
    one: ComponentEvidence, since: float | None, strict: bool, harmless: re.Pattern[str]
) -> ComponentVerdict:
    findings = _process_findings(one, since)
    if not one.absent:
        # What tells most comes first.
        findings += _worker_findings(one) + _log_findings(one, strict, harmless) + _thread_findings(one)
    return ComponentVerdict(one.component, _worst(finding.state for finding in findings), tuple(findings), one)


def _process_findings(one: ComponentEvidence, since: float | None) -> list[Finding]:
    if one.unreadable:
        return [Finding(INCONCLUSIVE, one.unreadable)]
    if one.absent:
        return [Finding(UNHEALTHY, one.absent, final=True)]
    found = []
    if one.prefix != one.expected_prefix:
        found.append(Finding(UNHEALTHY, f"runs from {one.prefix}, not from {one.expected_prefix}", final=True))
    if one.others:
        listed = ", ".join(map(str, one.others))
        found.append(Finding(UNHEALTHY, f"pid {listed} does its work as well as pid {one.pid}", final=True))
    if since is not None and one.started < since - _START_SLACK:
        found.append(
            Finding(UNHEALTHY, f"was not started anew: it runs since {one.now - one.started:.0f} s", final=True)
        )
    return found


def _thread_findings(one: ComponentEvidence) -> list[Finding]:
    known = len(one.workers)
    if not one.database_error and one.threads < known:
        return [Finding(UNHEALTHY, f"{known} workers have only {one.threads} living threads", final=True)]
    # AgentWatchdog's timers are threads that come and go.
    if not one.lost or one.component == WATCHDOG:
        return []
    text = f"{len(one.lost)} of {one.expected} threads of its start have ended"
    if not one.database_error and known:
        return [Finding(INCONCLUSIVE, f"{text}, but there are enough for its {known} workers")]
    return [Finding(UNHEALTHY, text, final=True)]


def _worker_findings(one: ComponentEvidence) -> list[Finding]:
    if one.database_error:
        return [Finding(INCONCLUSIVE, one.database_error)]
    if one.registered_pid != one.pid:
        what = "no row" if one.registered_pid is None else f"pid {one.registered_pid}"
        return [Finding(UNHEALTHY, f"wm_components has {what} for it, its process is pid {one.pid}")]
    if not one.workers and (one.threads or one.expected):
        return [Finding(UNHEALTHY, "none of its workers has registered in wm_workers")]
    return [finding for worker in one.workers for finding in _one_worker(one, worker)]


def _one_worker(one: ComponentEvidence, worker: Worker) -> list[Finding]:
    name = worker.name
    if worker.pid != one.pid or worker.last_updated < one.started - _START_SLACK:
        return [Finding(UNHEALTHY, f"worker {name} has not reported since the start")]
    if worker.state == "Error":
        return [Finding(UNHEALTHY, f"worker {name} has ended: {fatal_reason(worker.error_message)}", final=True)]
    if worker.state not in ("Start", "Running"):
        return [Finding(INCONCLUSIVE, f"worker {name} is in the unknown state {worker.state!r}")]
    silence = one.now - worker.last_updated
    if silence < -(BEAT + SLACK):
        return [Finding(INCONCLUSIVE, f"worker {name} reported {-silence:.0f} s in the future; look at the clock")]
    if silence <= allowed_silence(worker):
        return []
    if silence > one.threshold:
        return [Finding(UNHEALTHY, f"worker {name} is silent for {silence:.0f} s")]
    if one.active:
        return [Finding(HEALTHY, f"worker {name} is in a cycle for {silence:.0f} s")]
    return [Finding(INCONCLUSIVE, f"worker {name} is silent for {silence:.0f} s: in a long cycle, or stuck")]


def allowed_silence(worker: Worker) -> float:
    """Seconds within which a worker that is well gives a sign of life.

    Asleep it writes every BEAT seconds, or when its next cycle begins. In a cycle it writes nothing, so the length of
    its last one is added twice. Before its first cycle, in state Start, it may sleep without a word for as long as its
    poll interval: WorkQueueManager's pollers do, so as not to begin all at once (WMComponent.WorkQueueManager).
    """
    if worker.state == "Start":
        return worker.poll_interval + BEAT + SLACK
    asleep = min(BEAT, worker.poll_interval) if worker.poll_interval > 0 else BEAT
    return asleep + SLACK + 2 * worker.cycle_time


def _log_findings(one: ComponentEvidence, strict: bool, harmless: re.Pattern[str]) -> list[Finding]:
    if one.log.error:
        return [Finding(INCONCLUSIVE, one.log.error)]
    found = []
    for trace in one.log.new:
        if trace.fatal:
            found.append(Finding(UNHEALTHY, f"a thread of it has ended: {trace.reason}", final=True))
        elif strict and not harmless.search(f"{trace.signature}: {trace.reason}"):
            found.append(Finding(UNHEALTHY, f"new traceback in ComponentLog: {trace.reason}", final=True))
        else:
            found.append(Finding(HEALTHY, f"traceback since its start: {trace.reason}"))
    if one.log.known:
        found.append(Finding(HEALTHY, f"{one.log.known} tracebacks that its log had before the start, too"))
    return found
