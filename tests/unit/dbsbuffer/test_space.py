# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables are written anew, and what is asked of a server for it; no server here."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database import oracle_rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    MARIADB,
    ORACLE,
    DatabaseSettings,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import space
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.packed import estimate
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.space_plan import (
    Decision,
    Size,
    plan_optimize,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import CLEANED, FILE
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st

MB = 1_000_000
RUNLUMI, CHECKSUMS = "dbsbuffer_file_runlumi_map", "dbsbuffer_file_checksums"


def size(total: int, packed: int | None, free: int = 0, rows: int = 1) -> Size:
    return Size(rows, total - free, 0, free, packed, "" if packed is not None else "nobody knows")


def test_those_that_pay_come_first_by_gain():
    sizes = {
        "small": size(50 * MB, 10 * MB),
        "dense": size(1000 * MB, 900 * MB),
        "second": size(400 * MB, 200 * MB),
        "first": size(900 * MB, 300 * MB),
        "unknown": size(900 * MB, None),
    }
    assert plan_optimize(sizes, free_disk=10_000 * MB) == [
        Decision("first", True, 600 * MB, "it gives back 600.0 of 900.0 MB"),
        Decision("second", True, 200 * MB, "it gives back 200.0 of 400.0 MB"),
        Decision("dense", False, 100 * MB, "it would give back 100.0 of 1000.0 MB, which is little"),
        Decision("small", False, 40 * MB, "it would give back 40.0 of 50.0 MB, which is little"),
        Decision("unknown", False, None, "what it would give back is unknown: nobody knows"),
    ]


def test_what_is_free_for_certain_counts_where_the_estimate_is_off():
    assert plan_optimize({"a": size(900 * MB, 1200 * MB, free=500 * MB)}, free_disk=10**12)[0].gain == 500 * MB
    assert plan_optimize({"a": size(900 * MB, 1200 * MB)}, free_disk=10**12)[0].gain == 0


def test_a_second_copy_has_to_fit():
    sizes = {"big": size(1000 * MB, 400 * MB), "other": size(500 * MB, 100 * MB)}
    assert [one.optimize for one in plan_optimize(sizes, free_disk=479 * MB)] == [True, True]
    # 400 × 1.2 = 480 does not fit at first; 100 × 1.2 does, and its 400 make the room.
    assert [one.table for one in plan_optimize(sizes, free_disk=479 * MB)] == ["other", "big"]
    assert [one.table for one in plan_optimize(sizes, free_disk=480 * MB)] == ["big", "other"]
    refused = plan_optimize(sizes, free_disk=119 * MB)
    assert [one.optimize for one in refused] == [False, False]
    assert refused[0].reason == "its second copy needs 480.0 MB on the database's disk, which has 119.0 MB free"
    unknown = plan_optimize(sizes, free_disk=None)
    assert not any(one.optimize for one in unknown) and "is unknown from here" in unknown[0].reason
    assert all(one.optimize for one in plan_optimize(sizes, free_disk=None, in_place=True))


def test_without_an_estimate_the_share_of_rows_that_are_left_is_one():
    before, after = {"a": size(1000 * MB, None, rows=1000)}, {"a": size(1000 * MB, None, rows=250)}
    assert plan_optimize(after, before=before, free_disk=10**12) == [
        Decision("a", True, 750 * MB, "it gives back 750.0 of 1000.0 MB")
    ]
    for empty in ({}, {"a": Size(1000)}, {"a": size(0, None, rows=0)}):
        assert plan_optimize(after, before=empty, free_disk=10**12)[0].gain is None


TABLES = st.dictionaries(
    st.sampled_from("abcdefg"),
    st.builds(
        lambda data, free, packed, known: Size(
            1, data if known else None, 0 if known else None, free, packed, "" if packed is not None else "x"
        ),
        st.integers(0, 1000),
        st.integers(0, 1000),
        st.none() | st.integers(0, 2000),
        st.booleans(),
    ),
)


@given(TABLES, st.none() | st.integers(0, 3000), st.floats(0, 1), st.integers(0, 1000), st.booleans())
def test_every_decision_holds(sizes, free, fragmentation, minimum, in_place):
    decisions = plan_optimize(
        sizes,
        minimum_fragmentation=fragmentation,
        minimum_bytes=minimum,
        free_disk=free,
        in_place=in_place,
    )
    assert sorted(one.table for one in decisions) == sorted(sizes)
    chosen = [one.optimize for one in decisions]
    assert chosen == sorted(chosen, reverse=True)
    left = free
    for one in decisions:
        total = sizes[one.table].total or 0
        pays = one.gain is not None and one.gain >= minimum and one.gain >= fragmentation * total
        fits = in_place or (left is not None and int((total - (one.gain or 0)) * 1.2) <= left)
        assert one.optimize == (pays and fits), one
        if one.optimize and left is not None:
            left += one.gain or 0
        assert one.reason
    rest = [one.gain or 0 for one in decisions if not one.optimize]
    assert rest == sorted(rest, reverse=True)


def test_the_estimate_is_what_innodb_takes_for_rows_loaded_in_order():
    # A million rows each, MariaDB 10.11: data 49.9 + index 16.3 MB, and for 100,000 files 16.3 + 19.6 MB.
    lumis = estimate({"filename": 4, "run": 4, "lumi": 4, "num_events": 8.125}, {"i": ["filename"]}, 1_000_000)
    assert lumis == pytest.approx(66.2 * MB, rel=0.05)
    widths = {"filename": 4.0, "location": 4.0}
    keys = {"PRIMARY": ["filename", "location"], "a": ["location"], "b": ["filename"]}
    assert estimate(widths, keys, 0) == 3 * 1024 * 1024
    assert estimate(widths, keys, 1_000_000) > estimate(widths, {"PRIMARY": keys["PRIMARY"]}, 1_000_000)


class Server:
    """Gives answers by the beginning of a statement, and keeps what it was asked."""

    def __init__(self, dialect: str, answers: dict[str, Any], read_only: bool = False) -> None:
        self.settings = DatabaseSettings(dialect, "wmagent", "word", "test")
        self.dialect = dialect
        self.database = "WMAGENT"
        self.read_only = read_only
        self.answers = answers
        self.asked: list[str] = []

    def query(self, sql: str, params: Any = ()) -> Any:
        text = " ".join(sql.split())
        self.asked.append(text)
        if self.dialect == ORACLE:
            assert oracle_rules.problems(sql) == []
        found = next((answer for start, answer in self.answers.items() if text.startswith(start)), None)
        if isinstance(found, list) and found and isinstance(found[0], list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(found, Exception):
            raise found
        return [] if found is None else found

    def execute(self, sql: str, params: Any = ()) -> int:
        self.query(sql, params)
        return 0


SEGMENTS = {
    "SELECT COUNT(*)": [(5,)],
    "SELECT s.segment_name": [("DBSBUFFER_FILE", 3000), ("WMBS_JOB", 1)],
    "SELECT i.table_name": [("DBSBUFFER_FILE", 500)],
}


def test_sizes_on_oracle():
    sizes = space.table_sizes(Server(ORACLE, dict(SEGMENTS)))
    assert list(sizes) == list(CLEANED)
    assert sizes[FILE].total == 3500 and sizes[FILE].rows == 5 and sizes[FILE].free is None
    assert sizes[RUNLUMI].total == 0
    assert "does not tell how full a segment is" in plan_optimize(sizes)[0].reason


def test_a_dictionary_view_that_is_not_there_is_unknown_and_said():
    missing = WMAgentError("Oracle test answered with an error: ORA-00942: table or view does not exist")
    sizes = space.table_sizes(Server(ORACLE, SEGMENTS | {"SELECT s.segment_name": missing}))
    assert set(sizes.values()) == {Size(5, unknown="the dictionary has no user_segments")}
    assert sizes[FILE].total is None
    assert plan_optimize(sizes)[0].reason == ("what it would give back is unknown: the dictionary has no user_segments")
    with pytest.raises(WMAgentError, match="closed the connection"):
        space.table_sizes(Server(ORACLE, SEGMENTS | {"SELECT s.segment_name": WMAgentError("closed the connection")}))


def test_oracle_shrinks_only_what_its_owner_allows_already():
    enabled = {"SELECT t.row_movement": [("ENABLED",)]}
    segments = {"SELECT s.segment_name": [[("DBSBUFFER_FILE", 900)], [("DBSBUFFER_FILE", 300)]]}
    server = Server(ORACLE, enabled | segments)
    assert space.optimize(server, FILE) == space.Optimized(FILE, 600)
    assert "ALTER TABLE dbsbuffer_file SHRINK SPACE CASCADE" in server.asked
    assert not any("MOVEMENT" in asked for asked in server.asked[1:])
    for answer in ([("DISABLED",)], []):
        server = Server(ORACLE, {"SELECT t.row_movement": answer})
        problem = space.optimize(server, FILE).problem
        assert "row movement is not enabled" in problem and len(server.asked) == 1


@pytest.mark.parametrize("code", ["ORA-10635", "ORA-10636", "ORA-10631"])
def test_why_oracle_does_not_shrink_is_said(code):
    answers = {"SELECT t.row_movement": [("ENABLED",)], "ALTER TABLE": WMAgentError(f"Oracle … {code}: Invalid")}
    done = space.optimize(Server(ORACLE, answers), FILE)
    assert done.gained is None and done.problem.startswith("dbsbuffer_file was not shrunk: ")
    with pytest.raises(WMAgentError, match="ORA-00054"):
        space.optimize(Server(ORACLE, answers | {"ALTER TABLE": WMAgentError("ORA-00054: busy")}), FILE)


NOTE = ("t", "optimize", "note", "Table does not support optimize, doing recreate + analyze instead")


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [NOTE],
        [NOTE, ("t", "optimize", "error", "The table is full"), ("t", "optimize", "status", "Operation failed")],
        [NOTE, ("t", "optimize", "Error", "The table is full"), ("t", "optimize", "status", "OK")],
    ],
)
def test_an_optimization_that_failed_is_an_error(answer):
    with pytest.raises(WMAgentError, match=r"OPTIMIZE TABLE dbsbuffer_file failed \(.*the table is as it was"):
        space.optimize(Server(MARIADB, {"OPTIMIZE": answer}), FILE)


def test_what_an_optimization_gained_is_measured():
    sizes = [[(FILE, 500, 200, 100)], [(FILE, 300, 100, 0)]]
    answers = {"OPTIMIZE": [NOTE, ("t", "optimize", "status", "OK")], "SELECT table_name": sizes}
    server = Server(MARIADB, answers)
    assert space.optimize(server, FILE) == space.Optimized(FILE, 400)
    assert server.asked.count("ANALYZE NO_WRITE_TO_BINLOG TABLE dbsbuffer_file") == 2


def test_a_shared_tablespace_gives_nothing_back():
    answers = {
        "SELECT COUNT(*)": [(5,)],
        "SELECT @@innodb_file_per_table": [(0,)],
        "SELECT table_name": [(FILE, 500, 200, 10**9)],
    }
    server = Server(MARIADB, answers, read_only=True)
    sizes = space.table_sizes(server)
    assert sizes[FILE].total == 700 and "all tables share one file" in sizes[FILE].unknown
    assert not any(asked.startswith("ANALYZE") for asked in server.asked)


def test_free_disk_is_only_told_of_this_host(tmp_path):
    here = socket.gethostname()
    assert space.free_disk(Server(MARIADB, {"SELECT": [(str(tmp_path), here)]})) > 0
    assert space.free_disk(Server(MARIADB, {"SELECT": [(str(tmp_path), "elsewhere")]})) is None
    assert space.free_disk(Server(MARIADB, {"SELECT": [(str(tmp_path / "none"), here)]})) is None
    assert space.free_disk(Server(ORACLE, {})) is None


def statuses(*pairs: tuple[int, int]) -> list[list[tuple[str, str]]]:
    return [[("INNODB_HISTORY_LIST_LENGTH", str(history)), ("INNODB_MAX_TRX_ID", str(last))] for history, last in pairs]


@pytest.mark.parametrize(
    ("answers", "seconds"),
    [
        (statuses((9, 100), (9, 100), (3, 100), (0, 100)), 2),
        (statuses((9, 100), (9, 116), (9, 117), (9, 118)), 2),
        (statuses((0, 100), (0, 100)), 0),
        (statuses((9, 100), (9, 110)), None),
    ],
    ids=["idle", "others write", "nothing to do", "an old transaction"],
)
def test_waiting_for_purge(answers, seconds):
    now = [0.0]
    done = space.wait_for_purge(
        Server(MARIADB, {"SELECT variable_name": answers}),
        5,
        clock=lambda: now[0],
        sleep=lambda _: now.__setitem__(0, now[0] + 1),
    )
    assert done == (seconds is not None)
    assert now[0] == (5 if seconds is None else seconds)


def test_nothing_to_wait_for_on_oracle():
    server = Server(ORACLE, {})
    assert space.wait_for_purge(server, 5) and server.asked == []
