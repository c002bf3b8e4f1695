# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: who differs, what is full when, and what of the history is still so."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._history.build import build_report, known_of, summary_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.forecast import DAY, NOT_ENOUGH, REACHES
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.store import Event, Measure
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.told import Told

NOW = datetime(2027, 1, 15, tzinfo=UTC).timestamp()
GB = 1e9
Points = list[list[float]]


def growing(rate: float, last: float = 60, days: int = 30) -> Points:
    """GB, a measure a day until now."""
    return [[NOW - day * DAY, (last - rate * day) * GB] for day in reversed(range(days))]


def steady(value: float, days: int = 30) -> Points:
    return growing(0, value, days)


def release(name: str = "2.4.5-01", drift: int = 0) -> Event:
    found = {"count": drift, "kinds": {"modified": drift}, "examples": ["modified: a.py"] * drift}
    return Event(NOW, "", "release", {"name": name, "digest": f"sha256:{name}", "drift": found})


def known(name: str, rate: float = 1, *events: Event, told: Told | None = None, reached: bool = True, **more: Points):
    series = {
        ("disk", "/data", "bytes"): growing(rate),
        ("disk", "/data", "total"): steady(100),
        **{tuple(key.split("__")): points for key, points in more.items()},
    }
    events = events or (release(),)
    return known_of(name, series, events, told or Told(), reached)


def report(*agents: Any) -> dict[str, Any]:
    built = build_report(agents, 0.85, NOW)
    assert json.loads(json.dumps(built)) == built, "it is the JSON report as well"
    return built


def test_the_first_to_redeploy_is_told_with_its_day() -> None:
    built = report(known("slow", 0.2), known("fast", 1), known("level", 0))
    assert built["redeploy_first"] == {
        "agent": "fast",
        "name": "/data",
        "day": "2027-02-09",
        "soonest": "2027-02-09",
        "latest": "2027-02-09",
    }
    assert summary_of(built) == (
        "3 of 3 agents reached; uniform; to be redeployed first: fast, where /data is full on 2027-02-09"
    )


def test_a_database_is_full_when_it_alone_fills_its_disk() -> None:
    holds = Event(NOW, "", "disks", {"holds": {"/data/srv": "/data"}})
    built = report(known("a", 0, release(), holds, couchdb__jobs__bytes=growing(0.5, 20)))
    disk, database = built["agents"][0]["forecast"]
    assert (disk["kind"], disk["state"]) == ("disk", "does not grow")
    assert (database["kind"], database["name"], database["state"]) == ("couchdb", "jobs", REACHES)
    assert database["day"] == "2027-03-06", "25 GB more, 0.5 GB a day"
    assert built["redeploy_first"]["name"] == "jobs"


def test_a_database_whose_disk_nobody_knows_has_no_day() -> None:
    built = report(known("a", 0, couchdb__jobs__bytes=growing(0.5, 20)))
    assert built["agents"][0]["forecast"][1]["state"] == NOT_ENOUGH


def test_a_database_on_oracle_fills_no_disk_of_the_agent() -> None:
    built = report(known("a", 0, database__Oracle__bytes=growing(1), database__DBSBuffer__bytes=growing(1)))
    assert [one["kind"] for one in built["agents"][0]["forecast"]] == ["disk"]


def test_a_database_that_was_dropped_has_no_forecast_any_more() -> None:
    gone = [[time - 5 * DAY, size] for time, size in growing(1)]
    built = report(known("a", 0, couchdb__gone__bytes=gone, couchdb__jobs__bytes=growing(0.5, 20)))
    assert [one["name"] for one in built["agents"][0]["forecast"]] == ["/data", "jobs"]


def test_what_was_measured_long_ago_is_told_so() -> None:
    agent = known("a", 1)
    old = build_report([agent], 0.85, NOW + 20 * DAY)
    assert old["agents"][0]["forecast"][0]["why"].endswith("last measured 20 days ago")
    assert old["agents"][0]["seen_at"] == "2027-01-15T00:00:00Z"


def test_a_fleet_is_uniform_only_where_everybody_was_reached_and_runs_the_same_unchanged() -> None:
    assert report(known("a"), known("b"))["fleet"]["uniform"]
    cases = {
        "release": known("x", 1, release("2.4.4-02")),
        "drift": known("x", 1, release(drift=2)),
        "unknown": known("x", 1, Event(NOW, "", "disks", {})),
    }
    for what, other in cases.items():
        fleet = report(known("a"), known("b"), other)["fleet"]
        assert not fleet["uniform"]
        assert [(one["agent"], one["what"]) for one in fleet["differences"]] == [("x", what)]
    away = report(known("a"), known("x", reached=False))["fleet"]
    assert [(one["agent"], one["what"]) for one in away["differences"]] == [("x", "unknown")]
    untold = report(known("a"), known("x", told=Told(gaps=["release: no answer"])))["fleet"]
    assert [one["what"] for one in untold["differences"]] == ["unknown"]
    assert not report()["fleet"]["uniform"]


def test_what_was_told_now_counts_and_is_not_doubled() -> None:
    event = Event(NOW, "a", "ledger", {"action": "cleanup", "time": "2027-01-15T00:00:00Z"})
    told = Told([Measure(NOW, "a", "disk", "/data", "bytes", 90 * GB)], [event, release("2.4.6-03")])
    agent = report(known("a", 1, release(), event, told=told))["agents"][0]
    assert agent["release"] == "2.4.6-03"
    assert agent["disks"][0]["used"] == 90 * GB
    assert agent["cleanups"] == [NOW]
    assert len(agent["ledger"]) == 1


def entry(time: str, action: str, rollout: str, **more: Any) -> Event:
    details = {"time": time, "action": action, "rollout": rollout, "by": "operator@controller", **more}
    return Event(datetime.fromisoformat(time).timestamp(), "", "ledger", details)


def test_rollouts_are_told_with_what_each_agent_came_to() -> None:
    first = entry(
        "2027-01-02T00:00:00Z", "upgrade", "20270102T000000-2.4.5", **{"from": "a", "to": "b"}, verdict="healthy"
    )
    back = entry("2027-01-02T00:09:00Z", "rollback", "20270102T000000-2.4.5", verdict="healthy", downtime=2.5)
    later = entry("2027-01-09T00:00:00Z", "aborted", "20270109T000000-2.4.6", verdict="none")
    cleanup = entry("2027-01-10T00:00:00Z", "cleanup", "cleanup-20270110", verdict="none")
    rollouts = report(known("a", 1, first), known("b", 1, first, back, later, cleanup))["rollouts"]
    assert [(one["id"], one["label"]) for one in rollouts] == [
        ("20270109T000000-2.4.6", "2.4.6"),
        ("20270102T000000-2.4.5", "2.4.5"),
    ]
    assert [one["verdict"] for one in rollouts[0]["agents"]] == ["aborted"]
    assert [(one["agent"], one["verdict"], one["downtime"]) for one in rollouts[1]["agents"]] == [
        ("a", "healthy", None),
        ("b", "rolled back, healthy", 2.5),
    ]


def drain(**flags: bool) -> Event:
    stage = {"name": "upload", "count": 4, "rate_per_hour": 2.0, "note": "much more"}
    blocker = {"signal": "files in DBSBuffer", "class": "upload to DBS", "count": 4, "examples": []}
    return Event(
        NOW,
        "",
        "drain",
        {
            "verdict": "draining",
            "bottleneck": "upload",
            "eta": {"seconds": 7200, "soonest_seconds": 7000, "latest_seconds": None, "note": ""},
            "stages": [stage],
            "blockers": [blocker],
            "flags": flags or None,
        },
    )


def test_a_drain_is_told_of_where_there_is_one_or_nobody_knows() -> None:
    told = [
        report(known("a", 1, release(), drain(**flags)))["agents"][0]["drain"]
        for flags in (
            {"UserDrainMode": False, "AgentDrainMode": False},
            {"UserDrainMode": True, "AgentDrainMode": False},
            {},
        )
    ]
    assert told[0] is None
    assert told[1] == told[2]
    assert told[1]["stages"] == [{"name": "upload", "count": 4, "rate_per_hour": 2.0}]
    assert told[1]["blockers"] == [{"name": "files in DBSBuffer", "class": "upload to DBS", "count": 4}]


def test_curves_are_those_of_the_largest_and_have_few_points() -> None:
    tables = {f"table__t{number:02}__bytes": steady(number) for number in range(30)}
    sizes = report(known("a", 1, **tables, view__jobs__bytes=steady(1, days=500)))["agents"][0]["sizes"]
    assert [one["name"] for one in sizes if one["kind"] == "table"] == [f"t{number:02}" for number in range(29, 19, -1)]
    assert max(len(one["points"]) for one in sizes) == 120


def test_an_agent_that_never_told_anything_is_told_of() -> None:
    agent = report(known_of("never", {}, [], Told(gaps=["not reached: no route"]), False))["agents"][0]
    assert agent["seen_at"] is None
    assert agent["gaps"] == ["not reached: no route"]
    assert agent["forecast"] == agent["disks"] == agent["sizes"] == []
    assert agent["drift"]["count"] is None
