# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules told, as measures and events: nothing that failed or is empty becomes a zero."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.told import SOURCES, Told, read_results

NOW = 1_800_000_000.0

GOOD: dict[str, dict[str, Any]] = {
    "disks": {"disks": [{"name": "/data", "used": 60, "total": 100}], "holds": {"/data/srv": "/data"}, "time": 5},
    "dbsbuffer": {
        "tables": {"dbsbuffer_file": {"rows": 7, "bytes": 16384}, "dbsbuffer_block": {"rows": 1, "bytes": 100}},
        "reclaimable_bytes": 5,
    },
    "database": {
        "dialect": "mariadb",
        "tables": {"wmbs_job": {"bytes": 50, "rows": None}, "dbsbuffer_file": {"bytes": 9, "rows": 9}},
        "bytes": 59,
    },
    "couchdb": {
        "databases": {
            "jobs": {
                "file": 10,
                "documents": 1,
                "tombstones": 2,
                "update_seq": 3,
                "views": {"JobDump": {"file": 40}},
            }
        }
    },
    "release": {
        "current": {"name": "2.4.4-01", "image": "2.4.4", "digest": "sha256:01", "adopted": False, "path": "/x"},
        "problem": "",
        "drift": [{"kind": "modified", "path": f"file{number}"} for number in range(20)],
    },
    "components": {"verdict": "unhealthy", "reasons": ["JobCreator: no process"], "components": ["much more"]},
    "drain": {
        "time": NOW,
        "agent": "agent.example.org",
        "verdict": "draining",
        "reason": "",
        "blockers": [],
        "waived": [],
        "stages": [{"name": "upload", "count": 4, "rate_per_hour": None}],
        "bottleneck": "upload",
        "eta": {},
        "flags": None,
        "sources": {},
    },
    "ledger": {"entries": [{"time": "2026-11-23T06:33:00Z", "action": "adopt"}]},
}


def read(**results: Any) -> Told:
    return read_results("agent", results, NOW)


def test_every_source_that_there_is_is_told_of() -> None:
    assert GOOD.keys() == SOURCES.keys()
    told = read(**GOOD)
    assert told.gaps == []
    values = {(one.kind, one.name, one.quantity): one.value for one in told.measures}
    assert values == {
        ("disk", "/data", "bytes"): 60,
        ("disk", "/data", "total"): 100,
        ("table", "dbsbuffer_file", "rows"): 7,
        ("table", "dbsbuffer_file", "bytes"): 16384,
        ("table", "dbsbuffer_block", "rows"): 1,
        ("table", "dbsbuffer_block", "bytes"): 100,
        ("database", "DBSBuffer", "bytes"): 16484,
        ("database", "DBSBuffer", "reclaimable"): 5,
        ("table", "wmbs_job", "bytes"): 50,
        ("database", "MariaDB", "bytes"): 59,
        ("couchdb", "jobs", "bytes"): 10,
        ("couchdb", "jobs", "documents"): 1,
        ("couchdb", "jobs", "tombstones"): 2,
        ("couchdb", "jobs", "updates"): 3,
        ("view", "jobs/JobDump", "bytes"): 40,
        ("stage", "upload", "count"): 4,
    }
    events = {event.kind: event for event in told.events}
    assert events.keys() == {"disks", "release", "verdict", "drain", "ledger"}
    assert events["release"].details["drift"]["count"] == 20
    assert len(events["release"].details["drift"]["examples"]) == 10
    assert events["verdict"].details == {"verdict": "unhealthy", "reasons": ["JobCreator: no process"]}
    assert events["ledger"].time == 1795415580


def test_the_controller_s_clock_counts_and_the_ledger_s_own() -> None:
    told = read(**GOOD)
    assert {one.time for one in told.measures} == {NOW}
    assert {event.time for event in told.events if event.kind != "ledger"} == {NOW}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "answer",
    [{"failed": True, "msg": "no\nanswer"}, {"unreachable": True, "msg": "no answer"}, {}, {"failed": True}],
)
def test_what_is_no_answer_is_a_gap_and_the_others_are_told(source: str, answer: dict[str, Any]) -> None:
    told = read(**{**GOOD, source: {**GOOD[source], **answer} if answer else {}})
    assert [gap.partition(":")[0] for gap in told.gaps] == [source]
    assert "\n" not in told.gaps[0]
    kept = read(**{name: result for name, result in GOOD.items() if name != source})
    assert (told.measures, told.events) == (kept.measures, kept.events)


@pytest.mark.parametrize(
    ("source", "answer", "said"),
    [
        ("disks", {"disks": [], "holds": {}}, "told of no disk"),
        ("dbsbuffer", {"tables": {}}, "told of no table"),
        ("database", {"tables": {}}, "told of no table"),
        ("couchdb", {"databases": {}}, "told of no database"),
        ("release", {"current": None, "problem": "current leads nowhere", "drift": []}, "current leads nowhere"),
        ("ledger", {"entries": [{"time": "yesterday", "action": "adopt"}]}, "not as expected"),
    ],
)
def test_what_is_empty_is_a_gap(source: str, answer: dict[str, Any], said: str) -> None:
    told = read(**{source: answer})
    assert said in told.gaps[0]
    assert not told.measures
    assert not told.events


def test_what_was_not_asked_is_no_gap() -> None:
    assert read(drain={"skipped": True}) == Told()


def test_a_size_that_the_server_does_not_tell_is_none() -> None:
    tables = {"dbsbuffer_file": {"rows": 7, "bytes": None}, "dbsbuffer_block": {"rows": 1, "bytes": 5}}
    told = read(dbsbuffer={"tables": tables, "reclaimable_bytes": None})
    assert ("database", "bytes") not in {(one.kind, one.quantity) for one in told.measures}
    assert told.gaps == []
