# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tables of a rollout say."""

from __future__ import annotations

from ansible_collections.dmwm.wmagent.plugins.module_utils._rollout.outcome import (
    stop_reason,
    summarise_preflight,
    summarise_result,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._rollout.table import human_bytes, text_table


def look(root="m:1:2", problems=(), done=False):
    return {
        "wmagent_tools": {"python": "/p"},
        "wmagent_preflight": {
            "problems": list(problems),
            "root_id": root,
            "done": done,
            "release": {"name": "old-1"},
            "target_release": "new-2",
            "verdict": "healthy",
            "missing_bytes": 2048,
        },
    }


def test_a_fit_fleet_passes():
    summary = summarise_preflight({"a": look("m:1:1"), "b": look("m:1:2")})
    assert summary.failed == []
    assert summary.rows[0]["to send"] == "2.0 KiB"


def test_all_problems_of_all_agents_are_told():
    found = [{"check": "disk", "message": "full"}, {"check": "lock", "message": "held"}]
    summary = summarise_preflight({"a": look("r1", found), "b": {}, "c": look("r3")})
    assert summary.failed == ["a", "b"]
    assert summary.rows[0]["problems"] == ["disk: full", "lock: held"]
    assert summary.rows[1]["problems"][0].startswith("unreachable")
    assert "3 problems on 2 of 3" in summary.message


def test_unreachable_and_failed_answers_are_problems():
    gone = {"wmagent_tools": {"unreachable": True, "msg": "no route\nto host"}}
    failed = {"wmagent_tools": {"python": "/p"}, "wmagent_preflight": {"failed": True, "msg": "cannot\nbe"}}
    summary = summarise_preflight({"a": gone, "b": failed})
    assert summary.rows[0]["problems"] == ["unreachable: no route to host"]
    assert summary.rows[1]["problems"] == ["cannot"]


def test_two_agents_with_one_root_are_both_refused():
    summary = summarise_preflight({"a": look("same"), "b": look("same"), "c": look("other")})
    assert summary.failed == ["a", "b"]
    assert "b" in summary.rows[0]["problems"][0]


def outcome(verdict, **more):
    return {**look(), "wmagent_outcome": {"verdict": verdict, "from": "old-1", "to": "new-2", **more}}


def test_result_counts_and_names():
    told = {
        "a": outcome("healthy", downtime=2.0, records={"summary": "49 tables unchanged"}),
        "b": outcome("rolled back, healthy", failed=True, reasons=["JobCreator died"]),
        "c": look(),
        "d": look(done=True),
    }
    summary = summarise_result("abcd", told)
    assert summary.failed == ["b"]
    assert summary.not_reached == ["c"]
    assert summary.rows[1]["verdict"] == ["rolled back, healthy", "JobCreator died"]
    assert summary.rows[3]["verdict"] == ["up to date"]
    assert stop_reason(summary, 0) and not stop_reason(summary, 1)


def test_an_accepted_inconclusive_verdict_does_not_stop_the_rollout():
    assert summarise_result("a", {"a": outcome("inconclusive", accepted=True)}).failed == []
    assert summarise_result("a", {"a": outcome("inconclusive")}).failed == ["a"]


def test_changed_records_are_shouted():
    told = {"a": outcome("rolled back, healthy", failed=True, records={"changes": ["wmbs_job: written"]})}
    assert "CHANGED: wmbs_job" in summarise_result("a", told).rows[0]["records in the databases"]


def test_tables_keep_their_columns():
    lines = text_table([{"x": ["1", "22"], "y": None}], ["x", "y"])
    assert lines == ["x   y", "--  -", "1   -", "22"]
    assert [human_bytes(n) for n in (None, 5, 2048, 3 * 1024**2)] == ["-", "5 B", "2.0 KiB", "3.0 MiB"]


def test_an_agent_that_could_not_be_staged_counts_as_failed():
    told = {"a": {**look(), "wmagent_staged": {"failed": True, "msg": "disk full"}}, "b": look()}
    summary = summarise_result("ab", told)
    assert (summary.failed, summary.not_reached) == (["a"], ["b"])
    assert summary.rows[0]["verdict"] == ["not staged", "disk full"]
    assert stop_reason(summary, 0)


def test_inconclusive_stops_the_rollout_however_many_may_fail():
    assert stop_reason(summarise_result("a", {"a": outcome("inconclusive")}), 5)
    assert not stop_reason(summarise_result("a", {"a": outcome("inconclusive", accepted=True)}), 0)
