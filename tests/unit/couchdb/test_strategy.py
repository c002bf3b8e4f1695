# SPDX-License-Identifier: GPL-3.0-or-later
"""Purge or rotate: the faster of what is possible."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.strategy import (
    DEFAULT_RATES,
    NONE,
    PURGE,
    ROTATE,
    ROTATION_SECONDS,
    Rates,
    Work,
    choose,
    estimate,
)
from hypothesis import given
from hypothesis import strategies as st

RATES = Rates(purges=1000, copies=500, indexed=250, compacted=1e6, each_bytes=400)
rates = st.builds(Rates, *[st.floats(0.1, 1e6)] * 5)
works = st.builds(Work, *[st.integers(0, 10**7)] * 3)


def test_an_estimate_adds_up_what_there_is_to_do():
    assert estimate(Work(1000, 20_000, 600_000), RATES) == {PURGE: 20 + 1, ROTATE: ROTATION_SECONDS + 4 + 4}
    assert estimate(Work(1000, 0), replace(RATES, indexed=float("inf")))[ROTATE] == ROTATION_SECONDS + 4


def test_the_faster_one_is_chosen_and_its_reason_told():
    many = choose(Work(1000, 20_000, 600_000), RATES, 1, [])
    assert many.choice == ROTATE and many.reason == "a purge takes about 21 s, a rotation 18 s"
    assert choose(Work(1000, 10_000), RATES, 1, []).choice == PURGE
    few = choose(Work(1000, 9), RATES, 10, [])
    assert few.choice == NONE and "9 tombstones are too few" in few.reason
    held = choose(Work(1000, 20_000, 600_000), RATES, 1, ["it runs", "it is replicated"])
    assert held.choice == PURGE and held.reason == "it may not be rotated: it runs; it is replicated"
    assert choose(Work(100, 10**6), DEFAULT_RATES, 1, []).reason.endswith("by rates of another server")


@given(works, rates, st.integers(0, 10**6), st.lists(st.just("it runs"), max_size=1))
def test_a_rotation_is_told_only_where_it_is_possible_and_faster(work, measured, minimum, obstacles):
    told = choose(work, measured, minimum, obstacles)
    assert told.choice == NONE or work.tombstones >= max(1, minimum)
    if told.choice == ROTATE:
        assert not obstacles and told.seconds[ROTATE] < told.seconds[PURGE]
    if told.choice == PURGE and not obstacles:
        assert told.seconds[PURGE] <= told.seconds[ROTATE]


@given(works, rates, st.integers(0, 10**6))
def test_more_tombstones_never_speak_against_a_rotation(work, measured, more):
    if choose(work, measured, 1, []).choice == ROTATE:
        assert choose(replace(work, tombstones=work.tombstones + more), measured, 1, []).choice == ROTATE
