# SPDX-License-Identifier: GPL-3.0-or-later
"""How large the next step is, when one is tried again, and when a run ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.driver_errors import DatabaseBusyError
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.steps import StepSize, retried
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from hypothesis import given
from hypothesis import strategies as st

bounds = st.tuples(st.integers(1, 5000), st.integers(1, 100_000)).map(sorted)
steps = st.tuples(st.integers(0, 200_000), st.floats(0, 1), st.floats(0, 1e6))
events = st.lists(st.one_of(steps, st.just("busy")), max_size=60)
costs = st.floats(1e-6, 0.05)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(size: StepSize, cost: float, times: int, full: float = 1.0) -> None:
    for _ in range(times):
        size.finished(size.size, int(size.size * full), size.size * cost)


@given(bounds, st.integers(1, 200_000), events)
def test_the_size_stays_within_its_bounds_and_at_most_doubles(limits, start, happened):
    size = StepSize(0.5, start, *limits)
    assert limits[0] <= size.size <= limits[1]
    for event in happened:
        before = size.size
        if event == "busy":
            size.halve()
            assert size.size == max(before // 2, limits[0])
        else:
            walked, share, seconds = event
            size.finished(walked, int(walked * share), seconds)
        assert isinstance(size.size, int)
        assert limits[0] <= size.size <= min(limits[1], max(2 * before, limits[0]))


@given(costs, st.integers(1, 100_000), st.floats(0, 1), st.floats(0.01, 10))
def test_a_steady_cost_for_each_id_leads_to_the_target_time(cost, start, full, target):
    size = StepSize(target, start)
    run(size, cost, 60, full)
    fitting = min(max(int(target / cost), 1), 100_000)
    assert abs(size.size - fitting) <= 1 + fitting // 1000


@given(costs, st.integers(1, 30), st.floats(2, 1000), st.integers(0, 5))
def test_after_a_burst_the_size_comes_back(cost, length, times_slower, busy):
    size = StepSize(0.5)
    run(size, cost, 30)
    settled = size.size
    run(size, cost * times_slower, length)
    assert size.size <= settled
    for _ in range(busy):
        size.halve()
    run(size, cost, 80)
    assert size.size >= settled * 0.99 - 1


def test_a_step_that_takes_too_long_makes_the_next_one_shorter_at_once():
    size = StepSize(0.5, 1000)
    size.finished(1000, 1000, 5.0)
    assert size.size == 100


def test_empty_windows_make_the_size_grow_to_its_maximum():
    size = StepSize(0.5, 1000, maximum=50_000)
    sizes = []
    for _ in range(6):
        size.finished(size.size, 0, 0.0001)
        sizes.append(size.size)
    assert sizes == [2000, 4000, 8000, 16_000, 32_000, 50_000]


def test_a_window_without_an_id_tells_nothing_about_ids():
    size = StepSize(0.5, 1000)
    size.finished(0, 0, 0.001)
    assert size.size == 2000
    size.finished(0, 0, 0.4)
    assert size.size == 2000
    size.finished(2000, 2000, 1.0)
    assert size.size == 1000


def test_a_full_window_after_a_gap_is_no_giant_step():
    size = StepSize(0.5)
    run(size, 0.001, 20)
    assert size.size == 500
    run(size, 1e-8, 200, full=0)
    assert size.size == 8 * 500


def test_after_a_lock_time_out_it_does_not_double_at_once():
    size = StepSize(0.5)
    run(size, 1e-5, 20)
    size.halve()
    halved = size.size
    run(size, 1e-5, 1)
    assert halved < size.size < 1.5 * halved
    run(size, 1e-5, 40)
    assert size.size >= 49_900


@pytest.mark.parametrize(
    "given",
    [
        {"target": 0},
        {"target": float("nan")},
        {"target": float("inf")},
        {"start": 0},
        {"minimum": 0},
        {"minimum": 10, "maximum": 9},
    ],
)
def test_sizes_that_make_no_sense(given):
    with pytest.raises(WMAgentError) as error:
        StepSize(**given)
    assert "\n" not in str(error.value)


def busy_while(condition, sizes):
    def step(ids: int) -> str:
        sizes.append(ids)
        if condition(ids):
            raise DatabaseBusyError(f"no lock, try {len(sizes)}")
        return f"done {ids}"

    return step


def test_a_busy_step_is_tried_again_with_half_the_ids():
    sizes, pauses = [], []
    size = StepSize(start=1000)
    assert retried(busy_while(lambda ids: ids > 200, sizes), size, sleep=pauses.append) == "done 125"
    assert sizes == [1000, 500, 250, 125]
    assert size.size == 125
    assert len(pauses) == 3


def test_pauses_grow_differ_and_stay_short():
    pauses = []
    jitter = iter([0.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5])
    with pytest.raises(DatabaseBusyError):
        retried(
            busy_while(lambda ids: True, []),
            StepSize(maximum=1),
            tries=8,
            sleep=pauses.append,
            jitter=lambda: next(jitter),
        )
    assert pauses == pytest.approx([0.05, 0.3, 0.4, 0.8, 1.6, 2.0, 2.0])


@given(st.integers(1, 100_000), st.integers(1, 50), st.integers(1, 9))
def test_a_step_that_never_gets_its_lock_ends_with_that_error(start, minimum, tries):
    sizes = []
    with pytest.raises(DatabaseBusyError, match="no lock") as error:
        retried(
            busy_while(lambda ids: True, sizes), StepSize(0.5, start, minimum), tries=tries, sleep=lambda seconds: None
        )
    assert str(error.value).endswith(f"try {len(sizes)}")
    assert sizes.count(minimum) == tries
    assert len(sizes) <= tries + 17
    assert sizes[-tries:] == [minimum] * tries


def test_any_other_error_ends_it_at_once():
    calls = []

    def step(ids: int) -> None:
        calls.append(ids)
        raise WMAgentError("the server is gone")

    size = StepSize(start=1000)
    with pytest.raises(WMAgentError, match="gone"):
        retried(step, size, sleep=lambda seconds: None)
    assert calls == [1000]
    assert size.size == 1000


def test_no_limits():
    limits = Limits(None, None, None)
    assert limits.reason(10**12) == ""
    assert limits.rows_left(10**12) is None
    assert limits.seconds_left() is None


def test_the_time_counts_from_the_beginning():
    clock = Clock()
    limits = Limits(60, None, None, clock)
    clock.now += 59.5
    assert limits.reason(0) == ""
    assert limits.seconds_left() == 0.5
    clock.now += 0.5
    assert limits.reason(0) == "max_runtime"
    clock.now += 10
    assert limits.seconds_left() == 0


def test_rows():
    limits = Limits(None, 100, None)
    assert limits.reason(99) == ""
    assert limits.rows_left(99) == 1
    assert limits.reason(100) == "max_rows"
    assert limits.rows_left(120) == 0


def test_a_stop_file_that_appears_and_goes(tmp_path: Path):
    file = tmp_path / "stop"
    limits = Limits(0, 0, file)
    assert limits.reason(0) == "max_runtime"
    file.touch()
    assert limits.reason(0) == "stop_file"
    file.unlink()
    file.symlink_to(tmp_path / "nowhere")
    assert limits.reason(0) == "stop_file"
    file.unlink()
    assert Limits(None, None, file).reason(0) == ""
    assert Limits(None, None, tmp_path / "no folder" / "stop").reason(0) == ""


def test_a_stop_file_that_nobody_can_look_for_ends_the_run(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(WMAgentError, match=r"cannot tell whether the stop file .* is there"):
        Limits(None, None, tmp_path / "file" / "stop").reason(0)


@pytest.mark.parametrize("given", [(-1, None), (None, -1), (float("nan"), None)])
def test_limits_that_make_no_sense(given):
    with pytest.raises(WMAgentError, match="must be 0 or more"):
        Limits(*given, None)
