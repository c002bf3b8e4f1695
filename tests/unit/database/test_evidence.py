# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing two readings: nothing that happened, or that cannot be told, compares as equal."""

from __future__ import annotations

import copy
import json

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.evidence import (
    compare_records,
    digest,
    read_records,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.mariadb_evidence import _note_unsettled
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def table(**values):
    usual = {"kind": "BASE TABLE", "created": 1790000100, "updated": 1790000200, "empty": False}
    return usual | {"remembered": True, "checksum": None} | values


MARIADB = {
    "dialect": "mariadb",
    "database": "wmagent",
    "server": {
        "hostname": "h",
        "port": 3306,
        "datadir": "/d",
        "server_id": 1,
        "version": "10.11-MariaDB",
        "started": 1790000000,
    },
    "tables": {
        "wmbs_job": table(),
        "wmbs_new": table(updated=None, empty=True, checksum=0),
        "wm_workers": table(checksum=7),
        "wma_init": table(updated=None, checksum=5, remembered=False),
        "big": table(remembered=False),
    },
    "unsettled": [],
    "sessions": [],
    "last_transaction": 100,
    "definitions_opened": 50,
    "taken": 1790000300,
}
ORACLE = {
    "dialect": "oracle",
    "database": "WMA",
    "server": {"name": "cmsr", "container": "PDB1"},
    "tables": {
        "WMBS_JOB": {
            "object_id": 1,
            "data_object_id": 1,
            "last_ddl": "2026-01-01T00:00:00",
            "rows": 10,
            "newest_change": 77,
        }
    },
    "taken": "2026-02-01T00:00:00",
}


def later(before, path=(), value=None):
    after = copy.deepcopy(before)
    after["taken"] = before["taken"] + 60 if isinstance(before["taken"], int) else "2026-02-01T00:01:00"
    place = after
    for key in path[:-1]:
        place = place[key]
    if path:
        place[path[-1]] = value
    return after


def test_nothing_happened():
    for before in (MARIADB, ORACLE):
        assert compare_records(before, later(before)) == []
        assert digest(before) == digest(later(before))
        kept = json.loads(json.dumps(before))
        assert compare_records(kept, later(before)) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("tables", "wmbs_job", "updated"), 1790000250, "wmbs_job: was written at 2026-09-21T14:17:30Z"),
        (("tables", "wmbs_job", "updated"), 1790000150, "wmbs_job: was written"),
        (("tables", "wmbs_job", "updated"), None, "wmbs_job: the server forgot"),
        (("tables", "wmbs_new", "updated"), 1790000250, "wmbs_new: was written"),
        (("tables", "wmbs_new", "empty"), False, "wmbs_new: was filled"),
        (("tables", "wmbs_job", "empty"), True, "wmbs_job: was emptied"),
        (("tables", "wmbs_job", "created"), 1790000250, "wmbs_job: its definition was changed"),
        (("tables", "wm_workers", "checksum"), 8, "wm_workers: its rows have another checksum"),
        (("tables", "wm_workers", "updated"), None, "wm_workers: the server forgot"),
        (("tables", "wmbs_job", "remembered"), False, "wmbs_job: its definition was changed"),
        (("tables", "wma_init", "checksum"), 6, "wma_init: its rows have another checksum"),
        (("tables", "wma_init", "updated"), 1790000250, "wma_init: was written"),
        (("tables", "big", "updated"), None, "big: the server forgot"),
        (("tables", "other"), MARIADB["tables"]["wmbs_job"], "other: was created"),
        (("definitions_opened",), 51, "big: is too large for a checksum and was reopened"),
        (("server", "started"), 1790000290, "restarted"),
        (("server", "port"), 3307, "different servers"),
        (("database",), "other", "another database"),
        (("taken",), 1790000200, "clock went back"),
    ],
)
def test_mariadb(path, value, said):
    lines = compare_records(MARIADB, later(MARIADB, path, value))
    assert len(lines) == 1
    assert said in lines[0]


def test_a_dropped_table():
    after = later(MARIADB)
    del after["tables"]["wmbs_new"]
    assert compare_records(MARIADB, after) == ["wmbs_new: was dropped or renamed"]


def test_a_checksum_makes_up_for_a_forgotten_time():
    before = later(MARIADB, ("tables", "wma_init", "updated"), 1790000200)
    assert compare_records(before, later(before, ("tables", "wma_init", "updated"), None)) == []


def test_a_table_written_in_the_second_of_the_reading_needs_both_checksums():
    before = later(MARIADB, ("unsettled",), ["wm_workers"])
    assert compare_records(before, later(before)) == []
    grown = later(before, ("tables", "wm_workers", "checksum"), None)
    assert "wm_workers: was written in the second of the first reading" in compare_records(before, grown)[0]
    assert compare_records(MARIADB, later(MARIADB, ("tables", "wm_workers", "checksum"), None)) == []


def test_a_session_that_was_open_counts_once_something_was_written_on_the_server():
    before = later(MARIADB, ("sessions",), ["wma@h:1 (7)"])
    assert compare_records(before, later(before)) == []
    assert "wma@h:1 (7)" in compare_records(before, later(before, ("last_transaction",), 102))[0]
    assert compare_records(MARIADB, later(MARIADB, ("last_transaction",), 102)) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("tables", "WMBS_JOB", "rows"), 9, "WMBS_JOB: -1 rows"),
        (("tables", "WMBS_JOB", "newest_change"), 78, "WMBS_JOB: rows were written"),
        (("tables", "WMBS_JOB", "data_object_id"), 2, "WMBS_JOB: was truncated"),
        (("tables", "WMBS_JOB", "last_ddl"), "2026-02-01T00:00:30", "WMBS_JOB: its definition"),
        (("tables", "X"), ORACLE["tables"]["WMBS_JOB"], "X: was created"),
        (("server", "name"), "other", "different servers"),
    ],
)
def test_oracle(path, value, said):
    lines = compare_records(ORACLE, later(ORACLE, path, value))
    assert len(lines) == 1
    assert said in lines[0]


@pytest.mark.parametrize("wrong", [{}, None, {"dialect": "mariadb"}, MARIADB | {"tables": {}}])
def test_what_is_no_reading_is_an_error(wrong):
    with pytest.raises(WMAgentError, match="no reading"):
        compare_records(MARIADB, wrong)
    with pytest.raises(WMAgentError, match="no reading"):
        compare_records(wrong, MARIADB)


class OracleStandIn:
    """Answers as Oracle would; keeps what it was asked."""

    dialect = "oracle"
    database = "WMA"

    def __init__(self):
        self.asked = []

    class settings:  # noqa: N801
        where = "Oracle cms_tns"

    def query(self, sql, params=()):
        self.asked.append(" ".join(sql.split()))
        if "user_objects" in sql:
            return [("WMBS_JOB", 1, 1, "2026-01-01T00:00:00"), ("WM_WORKERS", 2, 2, "2026-01-01T00:00:00")]
        if "ORA_ROWSCN" in sql:
            return [(10, 77)]
        return [("cmsr", "PDB1")] if "USERENV" in sql else [("2026-02-01T00:00:00",)]

    def execute(self, sql, params=()):
        self.asked.append(sql)
        return 0

    def rollback(self):
        self.asked.append("rollback()")


def test_oracle_locks_all_tables_before_it_reads_and_lets_go():
    connection = OracleStandIn()
    records = read_records(connection, lock_wait=3)
    lock = connection.asked.index("LOCK TABLE WMBS_JOB, WM_WORKERS IN SHARE MODE WAIT 3")
    assert connection.asked[0] == "ROLLBACK"
    assert all(place > lock for place, sql in enumerate(connection.asked) if "ORA_ROWSCN" in sql)
    assert connection.asked[-1] == "rollback()"
    assert records["tables"]["WMBS_JOB"] == ORACLE["tables"]["WMBS_JOB"]


def test_which_tables_have_to_be_waited_for():
    def wait(now, **values):
        records = {"tables": {"t": table(created=1000, updated=1000) | values}}
        return _note_unsettled(records, now), records["unsettled"]

    assert wait(1001.1) == (0.0, [])
    assert wait(1000.5) == (pytest.approx(0.55), [])
    assert wait(1000.5, created=1, checksum=5) == (0.0, ["t"])
    assert wait(1000.5, updated=None) == (pytest.approx(0.55), [])
    assert wait(900.0)[0] > 100
    assert wait(1000.5, created=1, updated=None) == (0.0, [])
