# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates, bottleneck and ETA."""

from __future__ import annotations

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import (
    SIGNALS,
    STUCK,
    UNKNOWN,
    Counted,
    blockers_of,
    unreadable,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.progress import (
    NOT_ENOUGH,
    STAGES,
    Progress,
    measure,
    stage_counts,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.verdict import Reading
from hypothesis import given
from hypothesis import strategies as st

HOUR = 3600.0
NOW = 1_000_000_000.0


def of(**series: list[int | None]) -> Progress:
    """Progress of stages with these counts, an hour apart, the last one now; the others are empty."""
    length = max(len(counts) for counts in series.values())
    rows = [{name: series.get(name, [0] * length)[at] for name in STAGES} for at in range(length)]
    earlier = [Reading(NOW - (length - 1 - at) * HOUR, {}, row) for at, row in enumerate(rows[:-1])]
    return measure(rows[-1], earlier, NOW)


def stage(progress: Progress, name: str):
    return next(one for one in progress.stages if one.name == name)


def test_what_needs_a_person_is_in_no_stage_and_every_signal_in_one_at_most():
    signals = [signal for signals in STAGES.values() for signal in signals]
    assert len(signals) == len(set(signals))
    assert not {SIGNALS[signal].kind for signal in signals} & {STUCK, UNKNOWN}


def test_nothing_left_is_done_now():
    found = of(upload=[0])
    assert (found.eta, found.bottleneck, found.note) == (0.0, "", "")


def test_one_reading_tells_nothing_and_two_a_rate_only():
    assert (of(upload=[10]).eta, of(upload=[10]).note, of(upload=[10]).bottleneck) == (None, NOT_ENOUGH, "")
    found = of(upload=[10, 7])
    assert (stage(found, "upload").rate, found.eta, found.note, found.bottleneck) == (3.0, None, NOT_ENOUGH, "upload")


def test_a_steady_rate_has_no_spread():
    found = of(upload=[40, 30, 20])
    assert (found.eta, found.soonest, found.latest) == (2 * HOUR, 2 * HOUR, 2 * HOUR)


def test_an_uneven_rate_has_one():
    found = of(upload=[100, 90, 60, 55, 40])
    assert found.soonest < found.eta < found.latest
    assert stage(found, "upload").rate == 15.0


def test_where_it_may_not_shrink_at_all_there_is_no_latest():
    found = of(upload=[100, 80, 80, 81, 60])
    assert found.eta is not None
    assert found.latest is None


def test_the_stage_that_takes_longest_is_waited_for():
    found = of(jobs=[300, 200, 100], registration=[40, 39, 38])
    assert (found.bottleneck, found.eta) == ("registration", 38 * HOUR)


def test_the_first_stage_that_does_not_shrink_is_waited_for():
    found = of(jobs=[300, 200, 100], upload=[40, 50, 60], registration=[10, 20, 30])
    assert (found.bottleneck, found.eta, found.note) == ("upload", None, "upload does not shrink")


def test_what_could_not_be_read_is_not_empty():
    found = of(jobs=[300, 200, 100], batch=[5, 5, None])
    assert (found.eta, found.note) == (None, "a stage could not be read")
    assert (stage(found, "batch").count, stage(found, "batch").rate) == (None, None)
    found = of(jobs=[300, None, 100])
    assert stage(found, "jobs").rate == 100.0, "the last reading that could tell"


def test_counts_come_from_blockers():
    found = stage_counts(
        [
            *blockers_of([Counted("jobs_waiting", 4), Counted("jobs_executing", 5), Counted("jobs_paused", 100)]),
            unreadable("condor", "condor", "no answer"),
        ]
    )
    assert found["jobs"] == 9
    assert found["batch"] is None
    assert found["upload"] == 0


counts = st.lists(st.integers(0, 1000), min_size=1, max_size=8)


@given(st.sampled_from(sorted(STAGES)), counts)
def test_the_spread_is_around_the_eta_and_no_eta_comes_from_nothing(name, series):
    found = of(**{name: series})
    one = stage(found, name)
    if one.eta is None:
        assert one.note
    elif series[-1]:
        assert len(series) >= 3
        assert 0 < one.soonest <= one.eta * (1 + 1e-9)
        assert one.latest is None or one.latest >= one.eta * (1 - 1e-9)
    if len(series) > 1:
        assert one.rate == pytest.approx(series[-2] - series[-1])


@given(
    st.dictionaries(st.sampled_from(sorted(STAGES)), st.lists(st.integers(0, 99), min_size=4, max_size=4), min_size=1)
)
def test_all_are_done_when_the_last_one_is(series):
    found = of(**series)
    busy = [one for one in found.stages if one.count]
    assert found.bottleneck in {one.name for one in busy} | {""}
    if found.eta is not None:
        assert found.eta == max((one.eta for one in busy), default=0.0)
    if found.eta:
        assert stage(found, found.bottleneck).count
