# SPDX-License-Identifier: GPL-3.0-or-later
"""Components of an agent, in one place: start, stop, evidence, verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.component_evidence import (
    collect_evidence,
    configured_components,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.health import (
    HEALTHY,
    INCONCLUSIVE,
    UNHEALTHY,
    ComponentEvidence,
    Verdict,
    judge,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.heartbeats import heartbeat_reader
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import mask
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.starting import (
    PreparedStart,
    Started,
    failures,
    prepare_start,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.stopping import (
    Stopped,
    owner_of,
    plan_stop,
    stop_components,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

__all__ = [
    "HEALTHY",
    "INCONCLUSIVE",
    "UNHEALTHY",
    "ComponentEvidence",
    "PreparedStart",
    "Started",
    "Stopped",
    "Verdict",
    "Waited",
    "collect_evidence",
    "configured_components",
    "failures",
    "heartbeat_reader",
    "judge",
    "masked",
    "owner_of",
    "plan_stop",
    "prepare_start",
    "stop_components",
    "wait_for_verdict",
]


def masked(value: Any, secrets: Sequence[str]) -> Any:
    """The same plain data without secrets: a log may quote a database's address with its password."""
    if isinstance(value, str):
        return mask(value, secrets)
    if isinstance(value, dict):
        return {name: masked(item, secrets) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(item, secrets) for item in value]
    return value


@dataclass(frozen=True)
class Waited:
    """A verdict and how it came about: ``seconds`` waited, ``looks`` taken, healthy for how many seconds at the end."""

    verdict: Verdict
    seconds: float
    looks: int
    healthy_for: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for module results."""
        return {
            **self.verdict.as_dict(),
            "waited_seconds": round(self.seconds, 3),
            "looks": self.looks,
            "healthy_seconds": round(self.healthy_for, 3),
        }


def wait_for_verdict(
    look: Callable[[], Sequence[ComponentEvidence]],
    *,
    healthy_for: float,
    healthy_within: float,
    since: float | None = None,
    known_tracebacks: Sequence[str] = (),
    every: float = 0.5,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Waited:
    """Look again and again until the verdict is decided.

    healthy_for:    seconds the agent must be healthy without interruption; 0 takes one look, at an agent that runs for
                    long: tracebacks are noted only then
    healthy_within: seconds from now within which that must be the case
    since, known_tracebacks: see :func:`judge`
    every:          seconds between two looks

    It ends early: healthy as soon as ``healthy_for`` is reached; unhealthy as soon as something is found that waiting
    does not mend. What is still missing at the end gives unhealthy or inconclusive, as the last look says. Raises
    WMAgentError where the two times cannot both be met.
    """
    if healthy_for > healthy_within:
        raise WMAgentError(f"healthy_for ({healthy_for:g} s) is longer than healthy_within ({healthy_within:g} s)")
    began = clock()
    healthy_since: float | None = None
    looks = 0
    while True:
        moment = clock()
        strict = since is not None or healthy_for > 0
        verdict = judge(look(), since, new_tracebacks=strict, known_tracebacks=known_tracebacks)
        looks += 1
        if verdict.state != HEALTHY:
            healthy_since = None
        elif healthy_since is None:
            healthy_since = moment
        lasted = 0.0 if healthy_since is None else moment - healthy_since
        left = began + healthy_within - moment
        if (verdict.state == HEALTHY and lasted >= healthy_for) or verdict.final or healthy_for == 0:
            return Waited(verdict, clock() - began, looks, lasted)
        if left < healthy_for - lasted:
            return Waited(_too_late(verdict, healthy_within), clock() - began, looks, lasted)
        sleep(max(0.0, min(every, healthy_for - lasted if lasted else every)))


def _too_late(verdict: Verdict, healthy_within: float) -> Verdict:
    if verdict.state != HEALTHY:
        return verdict
    return Verdict(UNHEALTHY, verdict.components, f"it was not healthy for long enough within {healthy_within:g} s")
