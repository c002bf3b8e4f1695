# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans and sizes as results tell them."""

from __future__ import annotations

import json

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import telling
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.space_plan import Size
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import FILE

PLAN = Plan(
    workflows={1: "a", 2: "a", 3: "b"},
    blocks=[1, 2],
    files=30,
    placeholders=5,
    oldest=1000,
    held={"y": {"file NOTUPLOADED": 3, "still in WMBS": 1}, "x": {"file NOTUPLOADED": 100}, "z": {"still in WMBS": 1}},
    held_files=103,
    held_blocks={"block not Closed": 2},
)


def test_a_plan():
    told = telling.plan_as_dict(PLAN)
    assert told["eligible"] == {"workflows": 2, "files": 30, "blocks": 2, "placeholders": 5, "oldest": 1000}
    assert told["held_back"] == {
        "workflows": 3,
        "files": 103,
        "reasons": {"file NOTUPLOADED": 2, "still in WMBS": 2},
        "blocks": {"block not Closed": 2},
        "by_workflow": PLAN.held,
    }
    assert list(told["held_back"]["by_workflow"]) == ["x", "y", "z"]
    assert json.loads(json.dumps(told)) == told


def test_what_keeps_most_workflows_comes_first_however_many_files():
    held = {"a": {"rare": 9000}, "b": {"usual": 1}, "c": {"usual": 1}}
    assert list(telling.plan_as_dict(Plan(held=held))["held_back"]["reasons"]) == ["usual", "rare"]


def test_many_workflows_are_counted_and_not_all_named():
    held = {f"w{number:04d}": {"still in WMBS": 1} for number in range(1200)}
    told = telling.plan_as_dict(Plan(held=held))["held_back"]
    assert told["workflows"] == told["reasons"]["still in WMBS"] == 1200
    assert list(told["by_workflow"]) == sorted(held)[:500]


SIZES = {FILE: Size(100, 60, 30, 10, 50), "dbsbuffer_block": Size(5, 7, 3, 0, 10)}


def test_sizes():
    told = telling.sizes_as_dict({**SIZES, "t": Size(3, unknown="nobody tells")})
    assert told[FILE] == {"rows": 100, "bytes": 100, "free_bytes": 10}
    assert told["t"] == {"rows": 3, "bytes": None, "free_bytes": None, "unknown": "nobody tells"}


def test_bytes_of_all_tables():
    assert telling.bytes_of(SIZES) == 110
    assert telling.bytes_of({**SIZES, "t": Size(3)}) is None
    assert telling.bytes_of({}) == 0


@pytest.mark.parametrize(("going", "bytes_"), [(0, 10), (30, 10 + int(0.3 * 100)), (100, 110)])
def test_what_can_be_had_back(going, bytes_):
    assert telling.reclaimable(SIZES, Plan(files=going)) == bytes_


def test_what_can_be_had_back_of_nothing_or_of_the_unknown():
    assert telling.reclaimable({FILE: Size(0, 0, 0, 0, 0)}, Plan()) == 0
    assert telling.reclaimable({**SIZES, "t": Size(3)}, Plan()) is None


def test_growth_is_told_per_day():
    before = {"time": 0, "tables": {FILE: {"rows": 100, "bytes": 1000}, "gone": {"rows": 1, "bytes": 1}}}
    tables = {FILE: {"rows": 130, "bytes": 900}, "new": {"rows": 1, "bytes": 1}}
    assert telling.growth(before, tables, 2 * 86400) == {
        "days": 2.0,
        "tables": {FILE: {"rows": 15.0, "bytes": -50.0}},
    }


def test_growth_of_the_unknown_is_unknown():
    before = {"time": "0", "tables": {"a": {"rows": 1, "bytes": None}, "b": {"rows": 1}}}
    tables = {"a": {"rows": 2, "bytes": 5}, "b": {"rows": 2, "bytes": None}}
    assert telling.growth(before, tables, 86400)["tables"] == {
        "a": {"rows": 1.0, "bytes": None},
        "b": {"rows": 1.0, "bytes": None},
    }


@pytest.mark.parametrize("then", [1000, 2000])
def test_there_is_no_growth_without_time(then):
    assert telling.growth({"time": then, "tables": {}}, {}, 1000) == {"days": 0.0, "tables": {}}


def result(**changes):
    done = {"method": "delete", "deleted": {FILE: 10, "dbsbuffer_block": 2}, "rate": 5.0, "stopped_by": ""}
    return done | {"bytes_before": 2_000_000, "bytes_after": 1_500_000, "left_by_a_rebuild": []} | changes


def test_a_summary_is_one_line():
    planned = telling.plan_as_dict(PLAN)
    told = telling.summary(planned, result(), check=False)
    assert told == (
        "deleted 10 of 30 files of 2 workflows, 12 rows in all, by delete, 5 files/s, 2.0 MB -> 1.5 MB; "
        "3 workflows stay (file NOTUPLOADED most often)"
    )
    assert telling.summary(planned, result(), check=True).startswith("would delete 30 files of 2 workflows; 3 ")


@pytest.mark.parametrize(
    ("changes", "said", "unsaid"),
    [
        ({"method": "none"}, "nothing to delete", "deleted"),
        ({"method": "none", "left_by_a_rebuild": ["dropped a", "dropped b"]}, "dropped a; dropped b", "stay"),
        ({"stopped_by": "max_rows"}, "ended by max_rows, run again for the rest", "nothing"),
        ({"bytes_after": None}, "5 files/s", "MB"),
        ({"deleted": {}}, "deleted 0 of 30", "MB ;"),
    ],
)
def test_what_a_summary_says(changes, said, unsaid):
    told = telling.summary(telling.plan_as_dict(PLAN), result(**changes), check=False)
    assert said in told and unsaid not in told and "\n" not in told


def test_a_summary_where_nothing_stays():
    told = telling.summary(telling.plan_as_dict(Plan()), result(method="none"), check=False)
    assert told == "nothing to delete; 0 workflows stay"
