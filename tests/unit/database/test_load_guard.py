# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard that pauses while a server is busy, on a clock that only sleeping moves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.load import Load, LoadGuard
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from hypothesis import given
from hypothesis import strategies as st

NO_LIMITS = Limits(None, None, None)


class Clock:
    """Time that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def guard(clock: Clock, loads: Iterable[Load], **options) -> LoadGuard:
    """Pauses at 25 and ends at 50; pauses at a lag of 10 s and ends at 100 s."""
    answers = iter(loads)
    return LoadGuard(lambda: next(answers), 25, 50, 10, 100, clock, clock.sleep, **options)


def running(*numbers: int) -> list[Load]:
    return [Load(number, None) for number in numbers]


@pytest.mark.parametrize("load", [Load(24, 9.9), Load(0, 0), Load(24, None), Load(None, None)])
def test_below_all_limits_it_goes_on_at_once(load):
    clock = Clock()
    watch = guard(clock, [load])
    assert watch.wait(NO_LIMITS) == ""
    assert (watch.why, watch.throttled_seconds, clock.slept) == ("", 0, [])


def test_it_pauses_until_the_load_is_below_the_limit():
    clock = Clock()
    watch = guard(clock, running(25, 49, 25, 24, 30, 10), poll=0.5)
    assert watch.wait(NO_LIMITS) == ""
    assert clock.slept == [0.5, 0.5, 0.5]
    assert watch.throttled_seconds == 1.5
    assert watch.wait(NO_LIMITS) == ""
    assert watch.throttled_seconds == 2.0
    assert watch.why == ""


def test_it_tells_what_it_pauses_for_while_it_does():
    clock = Clock()
    seen = []
    answers = iter([Load(30, None), Load(3, 12.0, replica="MariaDB at far:3306"), Load(3, 0)])
    watch = LoadGuard(lambda: next(answers), 25, 50, 10, 100, clock, lambda seconds: seen.append(watch.why))
    assert watch.wait(NO_LIMITS) == ""
    assert seen == ["Threads_running 30 >= 25", "MariaDB at far:3306 lags 12 s >= 10 s"]


@pytest.mark.parametrize(
    ("load", "why"),
    [
        (Load(71, None), "Threads_running 71 >= 50"),
        (Load(50, 0.0), "Threads_running 50 >= 50"),
        (Load(71, None, "active sessions"), "active sessions 71 >= 50"),
        (Load(30, 100.0, replica="MariaDB at far:3306"), "MariaDB at far:3306 lags 100 s >= 100 s"),
        (Load(None, 250.0), "a replica lags 250 s >= 100 s"),
    ],
)
def test_too_much_load_ends_the_work(load, why):
    clock = Clock()
    watch = guard(clock, [load])
    assert watch.wait(NO_LIMITS) == "load"
    assert watch.why == why
    assert clock.slept == []


def test_too_much_load_during_a_pause_ends_the_work():
    clock = Clock()
    watch = guard(clock, running(30, 30, 60))
    assert watch.wait(NO_LIMITS) == "load"
    assert watch.why == "Threads_running 60 >= 50"
    assert watch.throttled_seconds == 1.0


def test_a_pause_without_end_ends_the_work():
    clock = Clock()
    watch = guard(clock, running(*[30] * 100), max_pause=2.2, poll=0.5)
    assert watch.wait(NO_LIMITS) == "load"
    assert watch.why == "Threads_running 30 >= 25 for 2 s"
    assert watch.throttled_seconds == pytest.approx(2.2)


def test_each_pause_has_its_own_longest_time():
    clock = Clock()
    watch = guard(clock, running(30, 30, 1, 30, 30, 1), max_pause=1.1)
    assert [watch.wait(NO_LIMITS), watch.wait(NO_LIMITS)] == ["", ""]


def test_the_run_time_ends_a_pause():
    clock = Clock()
    watch = guard(clock, running(*[30] * 100))
    assert watch.wait(Limits(1.2, None, None, clock)) == "max_runtime"
    assert clock.slept == pytest.approx([0.5, 0.5, 0.2])
    assert watch.why == "Threads_running 30 >= 25"


def test_a_stop_file_ends_a_pause(tmp_path: Path):
    clock = Clock()
    stop = tmp_path / "stop"
    watch = LoadGuard(lambda: Load(30, None), 25, 50, 10, 100, clock, lambda seconds: stop.touch())
    assert watch.wait(Limits(None, None, stop)) == "stop_file"


def test_a_load_that_nobody_knows_is_an_error_also_during_a_pause():
    def read():
        yield Load(30, None)
        raise WMAgentError("the server is gone")

    clock = Clock()
    with pytest.raises(WMAgentError, match="gone"):
        guard(clock, read()).wait(NO_LIMITS)


loads = st.lists(st.one_of(st.integers(0, 60), st.none()), min_size=1, max_size=30)


@given(loads)
def test_it_goes_on_only_below_the_limit_and_ends_only_at_the_other(numbers):
    clock = Clock()
    seen = []

    def read() -> Load:
        seen.append(numbers[len(seen)] if len(seen) < len(numbers) else 0)
        return Load(seen[-1], None)

    answer = LoadGuard(read, 25, 50, 10, 100, clock, clock.sleep).wait(NO_LIMITS)
    assert all(25 <= number < 50 for number in seen[:-1])
    last = seen[-1]
    assert answer == ("load" if last is not None and last >= 50 else "")
    assert last is None or last < 25 or last >= 50
    assert len(clock.slept) == len(seen) - 1


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ((0, 50, 10, 100), "load: pausing at 0"),
        ((-1, 50, 10, 100), "load: pausing at -1"),
        ((25, 24, 10, 100), "load: pausing at 25 and ending at 24"),
        ((25, 50, 0, 100), "replica lag: pausing at 0"),
        ((25, 50, 10, 9), "replica lag: pausing at 10 and ending at 9"),
        ((25, 50, float("nan"), 100), "replica lag"),
        ((25, 50, 10, 100, {"poll": 0}), "poll is 0 s"),
        ((25, 50, 10, 100, {"max_pause": -1}), "max_pause is -1 s"),
    ],
)
def test_limits_that_make_no_sense(limits, said):
    options = limits[4] if len(limits) > 4 else {}
    with pytest.raises(WMAgentError, match=said) as error:
        LoadGuard(lambda: Load(0, 0), *limits[:4], **options)
    assert "\n" not in str(error.value)
