# SPDX-License-Identifier: GPL-3.0-or-later
"""Forecasts: the true day lies in the range, cleanups and outliers are no growth, and little makes no date."""

from __future__ import annotations

import math
import random

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.forecast import (
    DAY,
    DOES_NOT_GROW,
    MIN_POINTS,
    NOT_ENOUGH,
    REACHES,
    Forecast,
    first_to_redeploy,
    forecast,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from support.growing import KINDS, random_disk

GB = 1e9
CASES = 400


def grown(rate: float, days: int = 60, start: float = 50 * GB, noise: float = 0.2, seed: int = 1) -> list[list[float]]:
    """A measure a day; rate and noise in GB."""
    chance = random.Random(seed)
    return [[day * DAY, start + rate * GB * day + chance.gauss(0, noise) * GB] for day in range(days)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_true_day_lies_in_the_range(kind: str) -> None:
    chance = random.Random(7)
    found = []
    for _ in range(CASES):
        disk = random_disk(chance, kind)
        told = forecast(disk.points, disk.limit, disk.now)
        if told.state == REACHES:
            assert told.soonest is not None
            found.append(told.soonest <= disk.full_at and (told.latest is None or disk.full_at <= told.latest))
    assert len(found) > 0.8 * CASES
    assert sum(found) >= 0.95 * len(found)


def test_the_range_says_something() -> None:
    told = forecast(grown(1), 200 * GB, 60 * DAY)
    assert told.at == pytest.approx(150 * DAY, rel=0.02)
    assert told.soonest is not None
    assert told.latest is not None
    assert told.latest - told.soonest < 10 * DAY


@pytest.mark.parametrize("rate", [0, -0.5])
def test_what_does_not_grow_is_told_so(rate: float) -> None:
    for seed in range(30):
        told = forecast(grown(rate, start=100 * GB, seed=seed), 200 * GB, 60 * DAY)
        assert told.state == DOES_NOT_GROW, told


def test_a_cleanup_is_no_negative_growth() -> None:
    points = [[time, size - (20 * GB if time > 40 * DAY else 0)] for time, size in grown(1)]
    told = forecast(points, 200 * GB, 60 * DAY)
    assert told.at == pytest.approx(170 * DAY, rel=0.03)
    assert told.why == "growth between 1 step"


def test_with_a_weekly_cleanup_the_level_that_stays_counts() -> None:
    points = [[day * DAY, (50 + 0.1 * day + 2 * (day % 7)) * GB] for day in range(70)]
    told = forecast(points, 85 * GB, 70 * DAY)
    assert told.state == REACHES
    # It is full just before a cleanup, which takes back 2 GB a day.
    assert told.at == pytest.approx((85 - 50 - 13) / 0.1 * DAY, rel=0.1)
    assert "9 drops" in told.why


def test_a_weekly_cleanup_that_takes_all_back_never_fills_a_disk() -> None:
    points = [[day * DAY, (50 + 2 * (day % 7)) * GB] for day in range(70)]
    assert forecast(points, 85 * GB, 70 * DAY).state == DOES_NOT_GROW


def test_cleanups_that_have_stopped_are_not_counted_on() -> None:
    points = [[day * DAY, (50 + 2 * (day % 7)) * GB] for day in range(42)]
    points += [[day * DAY, (50 + 2 * (day - 42)) * GB] for day in range(42, 58)]
    told = forecast(points, 100 * GB, 57 * DAY)
    assert told.state == REACHES
    assert told.at == pytest.approx((42 + 25) * DAY, rel=0.02)


def test_two_cleanups_leave_the_latest_day_open() -> None:
    points = [[day * DAY, (50 + 2 * (day % 7)) * GB] for day in range(20)]
    told = forecast(points, 85 * GB, 20 * DAY)
    assert (told.state, told.latest) == (REACHES, None)
    assert "drops may come again" in told.why


def test_one_odd_measure_changes_nothing() -> None:
    points = grown(1)
    clean = forecast(points, 200 * GB, 60 * DAY)
    for factor in (0.1, 3):
        odd = [*points]
        odd[30] = [odd[30][0], odd[30][1] * factor]
        told = forecast(odd, 500 * GB, 60 * DAY)
        assert told.state == REACHES
    odd[30] = [odd[30][0], odd[30][1] * 0.1]
    assert forecast(odd, 200 * GB, 60 * DAY).at == pytest.approx(clean.at, rel=0.01)


def test_a_drop_counts_once_a_second_measure_shows_it() -> None:
    points = [*grown(1), [60 * DAY, 20 * GB]]
    told = forecast(points, 200 * GB, 60 * DAY)
    assert told.at == pytest.approx(150 * DAY, rel=0.02)
    assert told.latest is not None
    assert told.latest > 230 * DAY
    assert "second one has to confirm" in told.why
    told = forecast([*points, [61 * DAY, 21 * GB]], 200 * GB, 61 * DAY)
    assert told.at == pytest.approx(240 * DAY, rel=0.02)


def test_what_rises_by_steps_is_not_called_level() -> None:
    points = [[day * DAY, (50 + 30 * (day > 20) + 30 * (day > 40)) * GB] for day in range(60)]
    assert forecast(points, 150 * GB, 60 * DAY).state == NOT_ENOUGH


def test_what_is_full_already_is_told_so() -> None:
    told = forecast([[0, 90 * GB]], 85 * GB, 0)
    assert (told.state, told.at, told.soonest, told.latest) == (REACHES, 0, 0, 0)


def test_a_measure_from_the_future_is_left_out() -> None:
    points = grown(1)
    ahead = [[day * DAY, 90 * GB] for day in range(1000, 1010)]
    assert forecast(points + ahead, 200 * GB, 60 * DAY) == forecast(points, 200 * GB, 60 * DAY)


def test_minutes_are_no_ground_for_months() -> None:
    points = [[minute * 60, 50 * GB + minute * GB] for minute in range(30)]
    assert forecast(points, 200 * GB, 1800).state == NOT_ENOUGH


def test_spikes_are_no_cleanups() -> None:
    points = [[time, size * (1.5 if time / DAY % 10 in (4, 5) else 1)] for time, size in grown(1)]
    told = forecast(points, 500 * GB, 60 * DAY)
    assert told.at == pytest.approx(450 * DAY, rel=0.02)
    assert told.why == "steady growth"


def test_a_level_known_by_two_measures_is_known_less_well() -> None:
    within = 0
    for seed in range(100):
        points = [[time, size - (60 * GB if time >= 58 * DAY else 0)] for time, size in grown(1, noise=2, seed=seed)]
        told = forecast(points, 100 * GB, 60 * DAY)
        assert told.soonest is not None
        within += told.soonest <= 110 * DAY and (told.latest is None or told.latest >= 110 * DAY)
    assert within >= 95


def test_eight_measures_are_the_fewest() -> None:
    assert MIN_POINTS == 8
    assert forecast(grown(1, days=7), 200 * GB, 7 * DAY).state == NOT_ENOUGH
    assert forecast(grown(1, days=8), 200 * GB, 8 * DAY).state == REACHES


MEASURES = st.lists(
    st.tuples(st.floats(0, 400 * DAY), st.floats(0, 1e13) | st.just(math.nan)),
    max_size=60,
    unique_by=lambda one: one[0],
)


@settings(max_examples=150, deadline=None)
@given(MEASURES, st.floats(1, 1e13))
def test_whatever_was_measured_the_answer_makes_sense(points: list[tuple[float, float]], limit: float) -> None:
    now = 400 * DAY
    told = forecast(points, limit, now)
    assert told.why
    assert (told.at is None) == (told.soonest is None) == (told.state != REACHES)
    if told.at is not None and told.soonest is not None:
        assert told.soonest <= told.at
        assert told.latest is None or told.at <= told.latest


@settings(max_examples=100, deadline=None)
@given(MEASURES.filter(lambda points: len(points) < MIN_POINTS))
def test_few_measures_never_make_a_date(points: list[tuple[float, float]]) -> None:
    assert forecast(points, 2e13, 400 * DAY).state == NOT_ENOUGH


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(KINDS), st.floats(1, 3), st.floats(1, 3))
def test_a_higher_threshold_is_never_reached_sooner(seed: int, kind: str, lower: float, more: float) -> None:
    disk = random_disk(random.Random(seed), kind)
    low, high = (forecast(disk.points, disk.limit * by, disk.now) for by in (lower, lower * more))
    if low.state == REACHES and high.state == REACHES:
        pairs = [(low.at, high.at), (low.soonest, high.soonest), (low.latest, high.latest)]
        assert all(first is None or second is None or first <= second for first, second in pairs)
    assert not (low.state == DOES_NOT_GROW and high.state == REACHES)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(KINDS), st.integers(-30, 30))
def test_the_unit_does_not_matter(seed: int, kind: str, power: int) -> None:
    disk = random_disk(random.Random(seed), kind)
    unit = 2.0**power  # exact, so that the answer is the very same
    scaled = [(time, value * unit) for time, value in disk.points]
    assert forecast(scaled, disk.limit * unit, disk.now) == forecast(disk.points, disk.limit, disk.now)


def test_the_first_to_redeploy_is_the_one_that_is_full_first() -> None:
    never, later, sooner = Forecast(DOES_NOT_GROW, ""), Forecast(REACHES, "", 9, 5, 20), Forecast(REACHES, "", 8, 7, 9)
    assert first_to_redeploy([("a", "/", never), ("b", "/", later), ("c", "/data", sooner)]) == ("c", "/data", sooner)
    assert first_to_redeploy([("a", "/", never)]) is None
