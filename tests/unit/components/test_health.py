# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge: one table of what speaks against a component, and laws that hold for any evidence."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.component_log import LogEvidence, Trace
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.components import wait_for_verdict
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.health import (
    HEALTHY,
    INCONCLUSIVE,
    UNHEALTHY,
    ComponentEvidence,
    allowed_silence,
    judge,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.heartbeats import Worker
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st

NOW = 10_000.0
WORKER = Worker("A", "APoller", 7, "Running", NOW - 20, 120, 0.5)
TRACE = Trace("ValueError A.py:x", "ValueError: no", "…")
GOOD = ComponentEvidence(
    component="A",
    now=NOW,
    pid=7,
    started=NOW - 100,
    prefix="/r",
    expected_prefix="/r",
    threads=1,
    expected=1,
    registered_pid=7,
    workers=(WORKER,),
    log=LogEvidence("/log", 10, 0, True),
)


def with_worker(**changes: Any) -> ComponentEvidence:
    return dataclasses.replace(GOOD, workers=(dataclasses.replace(WORKER, **changes),))


def but(**changes: Any) -> ComponentEvidence:
    return dataclasses.replace(GOOD, **changes)


CASES = [
    (GOOD, HEALTHY, ""),
    (but(absent="is stopped: no Daemon.xml"), UNHEALTHY, "is stopped"),
    (but(unreadable="pid 7 cannot be looked at"), INCONCLUSIVE, "cannot be looked at"),
    (but(prefix="/old"), UNHEALTHY, "runs from /old, not from /r"),
    (but(others=(9,)), UNHEALTHY, "pid 9 does its work as well"),
    (but(started=NOW - 1000), UNHEALTHY, "was not started anew"),
    (but(threads=0, lost=(8,)), UNHEALTHY, "1 workers have only 0 living threads"),
    (but(threads=0), UNHEALTHY, "only 0 living threads"),
    (but(lost=(8,)), INCONCLUSIVE, "1 of 1 threads of its start have ended"),
    (but(lost=(8,), workers=()), UNHEALTHY, "none of its workers has registered"),
    (but(lost=(8,), database_error="down"), UNHEALTHY, "threads of its start have ended"),
    (but(component="AgentWatchdog", lost=(8,)), HEALTHY, ""),
    (but(database_error="MariaDB is down"), INCONCLUSIVE, "MariaDB is down"),
    (but(registered_pid=None), UNHEALTHY, "no row"),
    (but(registered_pid=6), UNHEALTHY, "pid 6"),
    (but(workers=()), UNHEALTHY, "none of its workers has registered"),
    (but(workers=(), threads=0, expected=0), HEALTHY, ""),
    (with_worker(pid=6), UNHEALTHY, "has not reported since the start"),
    (with_worker(last_updated=NOW - 200), UNHEALTHY, "has not reported since the start"),
    (with_worker(state="Error", error_message="boom\nmore"), UNHEALTHY, "worker APoller has ended: boom"),
    (with_worker(state="Paused"), INCONCLUSIVE, "unknown state 'Paused'"),
    (with_worker(state="Start"), HEALTHY, ""),
    (with_worker(last_updated=NOW - 89), HEALTHY, ""),
    (with_worker(last_updated=NOW - 95), INCONCLUSIVE, "silent for 95 s"),
    (dataclasses.replace(with_worker(last_updated=NOW - 95), active=True), HEALTHY, ""),
    (dataclasses.replace(with_worker(last_updated=NOW - 95), threshold=50), UNHEALTHY, "silent for 95 s"),
    (with_worker(last_updated=NOW - 95, cycle_time=10), HEALTHY, ""),
    (with_worker(last_updated=NOW - 45, poll_interval=10), INCONCLUSIVE, "silent for 45 s"),
    (with_worker(last_updated=NOW + 3600), INCONCLUSIVE, "in the future"),
    (but(log=LogEvidence("/log", error="/log cannot be read")), INCONCLUSIVE, "/log cannot be read"),
    (but(log=LogEvidence("/log", new=(TRACE,))), UNHEALTHY, "new traceback in ComponentLog: ValueError: no"),
    (but(log=LogEvidence("/log", known=3)), HEALTHY, ""),
]


@pytest.mark.parametrize(("evidence", "state", "reason"), CASES)
def test_table(evidence: ComponentEvidence, state: str, reason: str) -> None:
    verdict = judge([evidence], since=NOW - 101)
    assert verdict.state == state, verdict.reason
    assert reason in verdict.reason
    json.dumps(verdict.as_dict())


def test_a_running_agent_may_have_collected_tracebacks() -> None:
    old = but(started=NOW - 99_999, log=LogEvidence("/log", new=(TRACE,)))
    assert judge([old]).state == HEALTHY
    assert judge([old], new_tracebacks=True).state == UNHEALTHY
    fatal = but(log=LogEvidence("/log", new=(dataclasses.replace(TRACE, fatal=True),)))
    assert judge([fatal]).state == UNHEALTHY


def test_nothing_to_judge_is_not_healthy() -> None:
    assert judge([]).state == INCONCLUSIVE


def test_the_reason_names_the_worst_first_and_counts_the_rest() -> None:
    down = [but(component=f"C{n}", absent="has died") for n in range(5)]
    verdict = judge([but(component="I", database_error="down"), *down])
    assert verdict.reason == "C0: has died; C1: has died; C2: has died (and 2 more)"
    assert len(verdict.as_dict()["reasons"]) == 6


workers = st.builds(
    Worker,
    component=st.just("A"),
    name=st.sampled_from(["X", "Y"]),
    pid=st.sampled_from([7, 7, 6]),
    state=st.sampled_from(["Running", "Running", "Start", "Error", "?"]),
    last_updated=st.floats(NOW - 9000, NOW + 200),
    poll_interval=st.integers(0, 43200),
    cycle_time=st.floats(0, 500),
)
evidences = st.builds(
    ComponentEvidence,
    component=st.sampled_from(["A", "AgentWatchdog"]),
    now=st.just(NOW),
    pid=st.just(7),
    absent=st.sampled_from(["", "", "has died"]),
    others=st.sampled_from([(), (), (9,)]),
    started=st.floats(NOW - 9000, NOW),
    prefix=st.sampled_from(["/r", "/r", "/old"]),
    expected_prefix=st.just("/r"),
    threads=st.integers(0, 3),
    lost=st.sampled_from([(), (), (8,)]),
    expected=st.sampled_from([None, 1, 2]),
    active=st.booleans(),
    registered_pid=st.sampled_from([7, 7, None]),
    workers=st.lists(workers, max_size=2).map(tuple),
    database_error=st.sampled_from(["", "", "down"]),
    unreadable=st.sampled_from(["", "", "no permission"]),
    log=st.builds(
        LogEvidence,
        path=st.just("/log"),
        new=st.sampled_from([(), (), (TRACE,), (dataclasses.replace(TRACE, fatal=True),)]),
        error=st.sampled_from(["", "", "unreadable"]),
    ),
)


@given(st.lists(evidences, min_size=1, max_size=4))
def test_healthy_means_that_everything_was_read_and_nothing_is_wrong(evidence: list[ComponentEvidence]) -> None:
    verdict = judge(evidence, new_tracebacks=True)
    if verdict.state == HEALTHY:
        for one in evidence:
            assert not (one.absent or one.unreadable or one.database_error or one.log.error or one.others)
            assert one.prefix == one.expected_prefix and one.registered_pid == one.pid and not one.log.new
            assert one.threads >= len(one.workers)
            for worker in one.workers:
                assert worker.pid == one.pid and worker.state in ("Start", "Running")
                assert one.active or NOW - worker.last_updated <= allowed_silence(worker)
    else:
        assert verdict.reason
    assert [one.state for one in verdict.components].count(HEALTHY) == len(evidence) or verdict.state != HEALTHY


@given(evidences, evidences)
def test_one_more_component_never_makes_an_agent_healthier(one: ComponentEvidence, other: ComponentEvidence) -> None:
    order = (HEALTHY, INCONCLUSIVE, UNHEALTHY)
    assert order.index(judge([one, other]).state) >= order.index(judge([one]).state)


class Clock:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.001)


NOT_YET = but(workers=())
DEAD = but(absent="has died")
DOWN = but(database_error="down")


def wait(timeline: list[tuple[float, ComponentEvidence]], healthy_for: float, healthy_within: float):
    """``timeline``: from which second on which evidence is seen."""
    clock = Clock()
    return wait_for_verdict(
        lambda: [next(seen for at, seen in reversed(timeline) if clock.now >= at)],
        healthy_for=healthy_for,
        healthy_within=healthy_within,
        clock=clock,
        sleep=clock.sleep,
    )


def test_waits_until_it_was_healthy_for_long_enough() -> None:
    waited = wait([(0, NOT_YET), (5, GOOD)], 10, 60)
    assert waited.verdict.state == HEALTHY
    assert 15 <= waited.seconds <= 16


def test_an_interruption_starts_the_count_anew() -> None:
    waited = wait([(0, GOOD), (9, NOT_YET), (12, GOOD)], 10, 60)
    assert waited.verdict.state == HEALTHY and 22 <= waited.seconds <= 23


def test_death_is_told_at_once() -> None:
    waited = wait([(0, GOOD), (3, DEAD)], 10, 60)
    assert waited.verdict.state == UNHEALTHY and waited.seconds <= 4


def test_too_late_is_told_as_soon_as_it_is_certain() -> None:
    waited = wait([(0, NOT_YET)], 40, 60)
    assert waited.verdict.state == UNHEALTHY and 20 <= waited.seconds <= 21
    assert "none of its workers" in waited.verdict.reason


def test_what_cannot_be_read_to_the_end_is_inconclusive() -> None:
    assert wait([(0, DOWN)], 10, 20).verdict.state == INCONCLUSIVE
    assert wait([(0, DOWN), (4, GOOD)], 10, 20).verdict.state == HEALTHY


def test_one_look() -> None:
    waited = wait([(0, but(log=LogEvidence("/log", new=(TRACE,))))], 0, 0)
    assert (waited.verdict.state, waited.looks, waited.seconds) == (HEALTHY, 1, 0)


def test_times_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(WMAgentError, match="longer than healthy_within"):
        wait([(0, GOOD)], 20, 10)


def test_exactly_as_long_as_asked() -> None:
    assert wait([(0, GOOD)], 10, 10).verdict.state == HEALTHY


@pytest.mark.parametrize("poll_interval,verdict", [(900, HEALTHY), (600, INCONCLUSIVE)])
def test_before_its_first_cycle_a_worker_may_sleep_for_its_poll_interval(poll_interval: int, verdict: str) -> None:
    asleep = with_worker(state="Start", last_updated=NOW - 900, poll_interval=poll_interval)
    assert judge([dataclasses.replace(asleep, started=NOW - 901)]).state == verdict


def test_a_traceback_known_to_do_no_harm_is_noted_only() -> None:
    harmless = Trace("KeyError A.py:algorithm CMSCouch.py:checkReplicationState", "KeyError: 'source'", "…")
    one = but(log=dataclasses.replace(GOOD.log, new=(harmless,)))
    known = ["KeyError .*checkReplicationState"]
    assert judge([one], new_tracebacks=True).state == UNHEALTHY
    assert judge([one], new_tracebacks=True, known_tracebacks=["ValueError"]).state == UNHEALTHY
    assert judge([one], new_tracebacks=True, known_tracebacks=known).state == HEALTHY
    fatal = but(log=dataclasses.replace(GOOD.log, new=(dataclasses.replace(harmless, fatal=True),)))
    assert judge([fatal], new_tracebacks=True, known_tracebacks=known).state == UNHEALTHY
