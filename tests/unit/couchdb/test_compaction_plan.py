# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files are compacted, in which order, and whether there is room for it: without a server."""

from __future__ import annotations

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import compaction_plan as planning
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import (
    DATABASES,
    VIEWS,
    Disks,
    Part,
    Remembered,
    Rules,
    plan,
    worst_case,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import Sizes
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st

RULES = Rules(minimum_fragmentation=0.5, minimum_gain=100, large_gain=10_000, leave_alone=7 * 86400, minimum_free=50)
ONE_DISK = {DATABASES: "a", VIEWS: "a"}
NOW = 1_000_000.0

sizes = st.tuples(st.integers(0, 50_000), st.integers(0, 50_000)).map(lambda pair: Sizes(pair[0], pair[1], 0))
parts = st.lists(
    st.builds(Part, st.sampled_from("abcdef"), st.sampled_from(["", "One", "Two"]), sizes, st.booleans()),
    unique_by=lambda part: part.key,
)
disks = st.one_of(
    st.builds(lambda free: Disks(ONE_DISK, {"a": free}), st.integers(0, 100_000)),
    st.builds(
        lambda one, two: Disks({DATABASES: "a", VIEWS: "b"}, {"a": one, "b": two}),
        st.integers(0, 100_000),
        st.integers(0, 100_000),
    ),
    st.just(Disks({}, {}, "nobody can see it")),
)
memories = st.dictionaries(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", "One"])),
    st.builds(Remembered, st.floats(0, NOW), st.integers(0, 50_000)),
)


def part(file: int, active: int, name: str = "jobs", view: str = "") -> Part:
    return Part(name, view, Sizes(file, active, 0))


def decide(*given_: Part, free: int = 10**9, remembered: dict | None = None):
    return plan(given_, RULES, Disks(ONE_DISK, {"a": free}), remembered or {}, NOW)


@given(parts, disks, memories)
def test_everything_is_decided_once_and_nothing_is_begun_without_room(given_, there, remembered):
    decisions = plan(given_, RULES, there, remembered, NOW)
    assert sorted(one.part.key for one in decisions) == sorted(one.key for one in given_)
    due = [one for one in decisions if one.due]
    assert decisions[: len(due)] == due
    free = dict(there.free)
    for one in due:
        disk = there.disk_of[one.part.kind]
        assert RULES.worth_it(one.part.sizes)
        assert free[disk] >= one.part.sizes.active * (1 if one.part.view else 2) + RULES.minimum_free == one.needed
        free[disk] += one.part.sizes.reclaimable
    for one in decisions:
        if one.why == planning.NO_ROOM and there.free:
            assert free[there.disk_of[one.part.kind]] < one.needed
    assert all(worst_case(decisions) >= max(one.part.sizes.file, one.needed - RULES.minimum_free) for one in due)
    assert due or worst_case(decisions) == 0


def test_what_couchdb_compacts_now_comes_last_and_is_due_only_where_it_is_worth_it():
    running, other = Part("running", "", Sizes(9000, 10, 0), True), part(1000, 400, "other")
    decisions = decide(running, other, Part("small", "", Sizes(90, 10, 0), True))
    assert [(one.part.database, one.due, one.why) for one in decisions] == [
        ("other", True, planning.WORTH_IT),
        ("running", True, planning.WORTH_IT),
        ("small", False, planning.RUNS),
    ]
    assert "waited for" in decisions[1].reason


@pytest.mark.parametrize(
    ("file", "active", "due"),
    [
        (1000, 500, True),
        (1000, 501, False),  # half of the file is asked for
        (199, 99, True),
        (198, 99, False),  # 99 bytes are fewer than the smallest gain
        (100_000, 90_000, True),  # a tenth only, but large
        (100_000, 90_001, False),
        (0, 0, False),
        (100, 200, False),  # written meanwhile
    ],
)
def test_what_is_worth_it(file, active, due):
    assert [one.due for one in decide(part(file, active))] == [due]


def test_nothing_to_gain_is_never_worth_it():
    rules = Rules(0, 0, 0, 0, 0)
    assert not rules.worth_it(Sizes(500, 500, 0)) and rules.worth_it(Sizes(500, 499, 0))


def test_the_emptiest_comes_first_and_makes_room_for_the_next():
    large, empty = part(10_000, 4000, "large"), part(9000, 100, "empty")
    decisions = decide(large, empty, free=250)
    assert [(one.part.database, one.due) for one in decisions] == [("empty", True), ("large", True)]
    assert [one.due for one in decide(large, free=8049)] == [False]
    assert decide(large, free=8049)[0].reason == "needs 8050 bytes free, 8049 are"
    assert [one.due for one in decide(large, free=8050)] == [True]
    assert [one.due for one in decide(part(10_000, 4000, view="View"), free=4050)] == [True]
    assert worst_case(decide(large)) == 10_000 and worst_case(decide(part(100_000, 80_000))) == 160_000


def test_where_nobody_knows_what_is_free_nothing_is_begun():
    decisions = plan([part(1000, 1)], RULES, Disks({}, {}, "nobody can see it"), {}, NOW)
    assert [(one.due, one.reason) for one in decisions] == [(False, "nobody can see it")]


def test_what_the_last_compaction_left_is_left_alone_for_a_while():
    days = 86400.0
    assert decide(part(1000, 1), remembered={("jobs", ""): Remembered(NOW - 6 * days, 999)})[0].why == "left alone"
    assert decide(part(1000, 1), remembered={("jobs", ""): Remembered(NOW - 7 * days, 999)})[0].due
    assert decide(part(1000, 1), remembered={("jobs", ""): Remembered(NOW + 1, 999)})[0].due
    assert decide(part(1000, 1), remembered={("jobs", "View"): Remembered(NOW, 999)})[0].due
    grown = decide(part(2000, 1), remembered={("jobs", ""): Remembered(NOW, 999)})
    assert grown[0].due  # more than twice as much as then


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((1.1, 0, 0, 0, 0), "minimum_fragmentation is 1.1"),
        ((-0.1, 0, 0, 0, 0), "minimum_fragmentation is -0.1"),
        ((float("nan"), 0, 0, 0, 0), "minimum_fragmentation is nan"),
        ((0.5, -1, 0, 0, 0), "minimum_gain is -1"),
        ((0.5, 0, -1, 0, 0), "large_gain is -1"),
        ((0.5, 0, 0, 0, -1), "minimum_free is -1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(numbers, said):
    with pytest.raises(WMAgentError, match=said):
        Rules(*numbers)
