# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict is a pure function of blockers and earlier readings."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import (
    MOVING,
    SIGNALS,
    SOURCES,
    UNKNOWN,
    Blocker,
    Counted,
    blocker_of,
    blockers_of,
    unreadable,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.verdict import (
    DRAINED,
    DRAINING,
    STUCK,
    UNDECIDED,
    Reading,
    judge,
    readings_of,
    unchanged_since,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st

HOUR = 3600.0
NOW = 1_000_000_000.0
ALL = frozenset(SOURCES)


def blocker(signal: str, count: int = 3, **more) -> Blocker:
    return Blocker(signal, SIGNALS[signal].kind, SIGNALS[signal].source, count, **more)


def reading(hours_ago: float, *blockers: Blocker) -> Reading:
    return Reading(NOW - hours_ago * HOUR, {one.signal: one for one in blockers}, {})


def verdict(*blockers: Blocker, earlier=(), read=ALL, stuck_after: float = 24 * HOUR) -> str:
    return judge(blockers, read, list(earlier), NOW, stuck_after).verdict


some_blockers = st.lists(
    st.one_of(
        st.builds(blocker, st.sampled_from(sorted(SIGNALS)), st.integers(1, 9), oldest=st.none() | st.integers(0, 9)),
        st.builds(unreadable, st.sampled_from(["jobs", "database", "condor"]), st.sampled_from(SOURCES), st.text()),
    ),
    max_size=5,
    unique_by=lambda one: one.signal,
)
readings = st.lists(
    st.builds(lambda ago, found: reading(ago, *found), st.floats(0.1, 90), some_blockers), max_size=4
).map(lambda found: sorted(found, key=lambda one: one.time))


@given(some_blockers, st.sets(st.sampled_from(SOURCES)), readings)
def test_drained_means_that_everything_was_read_and_nothing_is_left(blockers, read, earlier):
    assert (verdict(*blockers, read=read, earlier=earlier) == DRAINED) == (not blockers and read == ALL)


@given(some_blockers, readings)
def test_what_only_a_person_can_change_is_never_called_draining(blockers, earlier):
    left = [one for one in blockers if one.kind not in MOVING]
    found = verdict(*left, earlier=earlier)
    assert found != DRAINING
    if left:
        assert found == (UNDECIDED if any(one.kind == UNKNOWN for one in left) else STUCK)


@given(some_blockers, readings)
def test_stuck_is_only_said_where_everything_could_be_read(blockers, earlier):
    if any(one.kind == UNKNOWN for one in blockers):
        assert verdict(*blockers, earlier=earlier) != STUCK


@given(some_blockers, readings)
def test_one_line_of_reason(blockers, earlier):
    said = judge(blockers, ALL, earlier, NOW, HOUR).reason
    assert said and "\n" not in said


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_was_not_asked_is_no_source_without_blockers(source):
    assert verdict(read=ALL - {source}) == UNDECIDED
    assert source in judge([], ALL - {source}, [], NOW, HOUR).reason


def test_work_that_moves_drains_although_something_could_not_be_read():
    assert verdict(blocker("jobs_executing"), unreadable("condor", "condor", "no answer")) == DRAINING


def test_what_did_not_move_for_long_is_stuck():
    files = blocker("files_not_in_rucio", 276)
    assert verdict(files, earlier=[reading(25, files)]) == STUCK
    assert verdict(files, earlier=[reading(23, files)]) == DRAINING
    assert verdict(files, earlier=[reading(30, files), reading(2, replace(files, count=277))]) == DRAINING
    # The same number, but not the same files.
    assert verdict(files, earlier=[reading(30, files), reading(2, replace(files, oldest=7))]) == DRAINING
    assert verdict(files, blocker("blocks_not_closed"), earlier=[reading(25, files)]) == DRAINING


def test_a_job_that_runs_may_run_for_days():
    running = blocker("condor_running", 1)
    assert verdict(running, earlier=[reading(90, running)]) == DRAINING
    executing = blocker("jobs_executing", 1)
    assert verdict(executing, earlier=[reading(90, executing)]) == STUCK, "the batch system knows nothing of it"


def test_an_agent_that_takes_work_does_not_drain():
    assert verdict(blocker("drain_mode_off", 1)) == STUCK
    assert verdict(blocker("drain_mode_off", 1), blocker("jobs_executing")) == STUCK
    assert verdict(blocker("drain_mode_by_disk_only", 1), blocker("jobs_executing")) == DRAINING
    assert verdict(blocker("drain_mode_by_disk_only", 1)) == STUCK


def test_readings_that_could_not_tell_are_passed_over():
    files = blocker("files_not_in_rucio")
    failed = reading(10, unreadable("files", "database", "no answer"))
    assert unchanged_since(files, [reading(25, files), failed], NOW) == NOW - 25 * HOUR
    gone = reading(10, blocker("condor_idle"))
    assert unchanged_since(files, [reading(25, files), gone], NOW) == NOW


def result(hours_ago: float, *blockers: Blocker, **more) -> dict:
    return {
        "time": NOW - hours_ago * HOUR,
        "agent": "agent.example.org",
        "blockers": [one.as_dict() for one in blockers],
        "waived": [],
        "stages": [{"name": "upload", "count": 4}],
    } | more


def test_earlier_results_come_back_in_order():
    found = readings_of([result(1), result(2, blocker("files_acquired", 5))], "agent.example.org", NOW)
    assert [one.time for one in found] == [NOW - 2 * HOUR, NOW - HOUR]
    assert found[0].blockers["files_acquired"].count == 5
    assert found[0].stages == {"upload": 4}


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ({}, "lacks time"),
        ("text", "lacks time"),
        (result(1, agent="other.example.org"), "other.example.org"),
        (result(1, stages=[{}]), "no earlier result"),
        (result(1, blockers=[{"signal": "x"}]), "no earlier result"),
        (result(1, time="yesterday"), "no earlier result"),
        (result(-1), "ahead of this host's clock"),
    ],
)
def test_what_is_no_earlier_result_is_said_so(before, said):
    with pytest.raises(WMAgentError, match=said):
        readings_of([before], "agent.example.org", NOW)


@given(some_blockers)
def test_a_blocker_survives_a_result(blockers):
    for one in blockers:
        again = blocker_of(one.as_dict())
        assert (again.signal, again.kind, again.count, again.oldest) == (one.signal, one.kind, one.count, one.oldest)


counted = st.lists(
    st.builds(
        Counted,
        st.sampled_from(sorted(SIGNALS)),
        st.integers(0, 5),
        st.none() | st.sampled_from(["a", "b"]),
        st.sampled_from(["", "Open"]),
        st.none() | st.integers(0, 9),
    )
)


@given(counted)
def test_nothing_that_was_counted_is_lost(parts):
    found = {one.signal: one for one in blockers_of(parts)}
    for signal in SIGNALS:
        of_signal = [part for part in parts if part.signal == signal and part.count]
        assert (signal in found) == bool(of_signal)
        if of_signal:
            assert found[signal].count == sum(part.count for part in of_signal)
            times = [part.oldest for part in of_signal if part.oldest is not None]
            assert found[signal].oldest == (min(times) if times else None)
            assert sum(found[signal].by_state.values()) == sum(part.count for part in of_signal if part.state)
