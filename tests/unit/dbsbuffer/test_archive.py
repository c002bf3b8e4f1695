# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of a cleanup without a database: every value comes back, and a crash costs the last step at most."""

from __future__ import annotations

import errno
import gzip
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database import oracle_rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, ORACLE
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import archive as archive_module
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.archive import REFERENCES, Archive, plain
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.archive_reader import (
    Contents,
    describe,
    read_contents,
    read_rows,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.restore import Numbers, insertion
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import BLOCK, CLEANED, FILE, NEEDED
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_772_338_500
CHECKSUMS, RUNLUMI = "dbsbuffer_file_checksums", "dbsbuffer_file_runlumi_map"
ALL = "1 = 1"


class Session:
    """Answers what an archive asks; ``tables``: table → rows."""

    def __init__(self, tables: dict[str, list[tuple[Any, ...]]], dialect: str = ORACLE) -> None:
        self.dialect = dialect
        self.database = "WMAGENT"
        self.tables = tables

    def query(self, sql: str, params: Any = ()) -> list[tuple[Any, ...]]:
        assert "columns" in sql
        return [
            (table.upper(), column.upper(), "NUMBER", "Y")
            for table in CLEANED
            for column in reversed(NEEDED.get(table, ("id",)))
        ]

    def stream(self, sql: str) -> Iterator[tuple[Any, ...]]:
        if sql in REFERENCES.values():
            return iter([(1, "/a/b/RAW")])
        found = re.fullmatch(r"SELECT (?P<columns>[\w, ]+) FROM (?P<table>\w+) WHERE 1 = 1", sql)
        assert found and tuple(found["columns"].split(", ")) == NEEDED[found["table"]]
        return iter(self.tables.get(found["table"], []))

    def execute(self, sql: str, params: Any = ()) -> int:
        return 0


def made(folder: Path, steps: list[dict[str, list[tuple[Any, ...]]]]) -> Path:
    with Archive.create(folder, "wmagent", ORACLE, NOW) as archive:
        for step in steps:
            for table in step:
                archive.add(Session(step), table, ALL)
            archive.sync()
    return archive.path


def rows_of(contents: Contents) -> list[dict[str, list[list[Any]]]]:
    """For each step table → rows."""
    return [
        {table: [row for batch in read_rows(contents, step, table) for row in batch] for table in step.rows}
        for step in contents.steps
    ]


STEPS: list[dict[str, list[tuple[Any, ...]]]] = [
    {RUNLUMI: [(number,) for number in range(30)], CHECKSUMS: [(number, 1) for number in range(30)][:7]},
    {RUNLUMI: [(number,) for number in range(30, 50)]},
    {CHECKSUMS: [(1, "odd \u2028 \ud800 ' \\ \n")], BLOCK: [(1, 2, None, "Closed", b"\0\xff", Decimal("1.5"))]},
]
AS_LISTS = [{table: [list(row) for row in rows] for table, rows in step.items()} for step in STEPS]


def test_an_archive_as_it_is(tmp_path):
    path = made(tmp_path, STEPS)
    assert path == tmp_path / "dbsbuffer-wmagent-20260301T041500Z.jsonl.gz"
    assert path.stat().st_mode & 0o7777 == 0o600
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert lines[0] == {
        "format": 1,
        "database": "wmagent",
        "dialect": "oracle",
        "time": NOW,
        "columns": {table: list(NEEDED.get(table, ("id",))) for table in CLEANED},
    }
    marks = [line for line in lines[1:] if isinstance(line, dict)]
    assert marks == [
        {"step": 0, "rows": dict.fromkeys(REFERENCES, 1)},
        {"step": 1, "rows": {RUNLUMI: 30, CHECKSUMS: 7}},
        {"step": 2, "rows": {RUNLUMI: 20}},
        {"step": 3, "rows": {CHECKSUMS: 1, BLOCK: 1}},
        {"end": 3},
    ]
    assert rows_of(read_contents(path)) == AS_LISTS
    assert describe(path) == {
        "database": "wmagent",
        "dialect": "oracle",
        "time": "2026-03-01T04:15:00Z",
        "rows": {RUNLUMI: 50, CHECKSUMS: 8, BLOCK: 1},
        "steps": 3,
        "complete": True,
        "notice": "",
    }


VALUES = st.one_of(
    st.none(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.text(st.characters()),
    st.binary(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30),
    st.integers(0, 2**64).map(Decimal),
)


@given(st.lists(st.lists(st.tuples(VALUES, VALUES), max_size=20), max_size=4), st.integers(1, 7))
def test_every_value_comes_back(steps, rows_a_line):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive_module, "_ROWS_A_LINE", rows_a_line)
        # A row in each, so that there is an archive.
        path = made(Path(folder), [{CHECKSUMS: [*rows, (None, "last")]} for rows in [*steps, []]])
        found = [step[CHECKSUMS] for step in rows_of(read_contents(path))]
    expected = [[[plain(value) for value in row] for row in [*rows, (None, "last")]] for rows in [*steps, []]]
    assert found == expected
    assert [type(value) for step in found for row in step for value in row] == [
        type(value) for step in expected for row in step for value in row
    ]


@given(st.decimals(min_value=-(10**40), max_value=10**40))
def test_a_whole_decimal_is_an_integer(value):
    found = plain(value)
    assert found == value or math.isnan(value)
    assert isinstance(found, int) == (value.is_finite() and value == int(value))


def test_a_cut_at_any_byte_leaves_the_steps_before_it(tmp_path):
    whole = made(tmp_path, STEPS).read_bytes()
    cut = tmp_path / "cut.jsonl.gz"
    steps_found = []
    for size in range(len(whole) + 1):
        cut.write_bytes(whole[:size])
        try:
            contents = read_contents(cut)
        except WMAgentError as error:
            assert "cut short before its first step" in str(error) and not steps_found
            continue
        steps = len(contents.steps)
        steps_found.append(steps)
        assert rows_of(contents) == AS_LISTS[:steps]
        assert contents.complete == (size == len(whole))
        assert contents.complete == (contents.notice == "")
    assert steps_found == sorted(steps_found) and set(steps_found) == {0, 1, 2, 3}


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\0" * 100 + b"x" * 9000, b"\x1f\x8b\x08\0\0\0", b"x"])
def test_what_a_crash_left_behind_the_last_step_is_left_out(tmp_path, tail):
    path = made(tmp_path, STEPS)
    whole = path.read_bytes()
    end = whole.rindex(b"\x1f\x8b\x08\0\0\0\0\0")
    path.write_bytes(whole[:end] + tail)
    contents = read_contents(path)
    assert rows_of(contents) == AS_LISTS and not contents.complete
    assert contents.notice == (
        f"{path} was cut short: it has 3 complete steps and no end; {len(tail)} bytes behind them are no complete step "
        "and are left out"
    )


def test_a_damaged_byte_is_never_taken_for_the_end(tmp_path):
    path = made(tmp_path, STEPS)
    whole = path.read_bytes()
    end = whole.rindex(b"\x1f\x8b\x08\0\0\0\0\0")
    errors = 0
    for at in range(end):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            # Some bytes of a gzip header mean nothing.
            assert rows_of(read_contents(path)) == AS_LISTS
        except WMAgentError as error:
            errors += 1
            assert "is damaged" in str(error) or "no archive" in str(error)
    assert errors > 0.8 * end


def test_only_complete_archives_of_this_kind_are_read(tmp_path, monkeypatch):
    with pytest.raises(WMAgentError, match=r"cannot be read \(No such file"):
        read_contents(tmp_path / "none")
    for content in (b"", b"text", gzip.compress(b'{"step": 0, "rows": {}}\n'), gzip.compress(b"[]\n")):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(WMAgentError, match="is no archive of a cleanup"):
            read_contents(tmp_path / "other")
    monkeypatch.setattr(archive_module, "FORMAT", 2)
    with pytest.raises(WMAgentError, match="has format 2, this release of the collection reads 1"):
        read_contents(made(tmp_path, STEPS))


@pytest.mark.parametrize(
    "step",
    [
        b'["dbsbuffer_block",1,[[1]]]\n{"step":4,"rows":{"dbsbuffer_block":2}}\n',
        b'["dbsbuffer_block",1,[[1]]]\n{"step":5,"rows":{"dbsbuffer_block":1}}\n',
        b'["dbsbuffer_block",1,[[1]]]\n{"step":4,"rows":{"dbsbuffer_block":1}}\n["dbsbuffer_block",1,[[1',
        b'["dbsbuffer_block",1,[[1]]]\n',
    ],
    ids=["another number of rows", "another step", "half a line", "no mark"],
)
def test_a_step_that_does_not_say_what_it_holds_is_none(tmp_path, step):
    path = made(tmp_path, STEPS)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"\x1f\x8b\x08\0\0\0\0\0")] + gzip.compress(step, mtime=0))
    contents = read_contents(path)
    assert rows_of(contents) == AS_LISTS and not contents.complete


def test_it_never_overwrites_and_needs_its_folder(tmp_path):
    first = made(tmp_path, STEPS)
    content = first.read_bytes()
    with pytest.raises(WMAgentError, match=r"cannot be made \(File exists\)"):
        Archive.create(tmp_path, "wmagent", ORACLE, NOW)
    assert first.read_bytes() == content
    (tmp_path / "file").touch()
    for folder in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(WMAgentError, match="name a folder that exists and can be written"):
            Archive.create(folder, "wmagent", ORACLE, NOW)
    odd = Archive.create(tmp_path, "../odd name", ORACLE, NOW)
    odd.close()
    assert odd.path.name == "dbsbuffer-.._odd_name-20260301T041500Z.jsonl.gz"


def test_an_archive_without_a_step_is_removed(tmp_path):
    made(tmp_path, [{RUNLUMI: []}])
    assert list(tmp_path.iterdir()) == []


def test_what_is_discarded_is_not_in_it(tmp_path):
    with Archive.create(tmp_path, "wmagent", ORACLE, NOW) as archive:
        for kept in (False, True, False, True):
            archive.add(Session({RUNLUMI: [(int(kept),)] * 5000}), RUNLUMI, ALL)
            archive.sync() if kept else archive.discard()
    contents = read_contents(archive.path)
    assert rows_of(contents) == [{RUNLUMI: [[1]] * 5000}] * 2 and contents.complete
    assert archive.rows == {RUNLUMI: 10000}


def test_after_an_exception_the_open_step_is_not_in_it(tmp_path):
    with pytest.raises(KeyboardInterrupt), Archive.create(tmp_path, "wmagent", ORACLE, NOW) as archive:
        archive.add(Session({RUNLUMI: [(1,)]}), RUNLUMI, ALL)
        archive.sync()
        archive.add(Session({RUNLUMI: [(2,)]}), RUNLUMI, ALL)
        raise KeyboardInterrupt
    assert rows_of(read_contents(archive.path)) == [{RUNLUMI: [[1]]}]


def test_a_step_is_on_disk_once_synced(tmp_path, monkeypatch):
    synced: list[int] = []
    really = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (really(handle), synced.append(os.fstat(handle).st_size)))
    with Archive.create(tmp_path, "wmagent", ORACLE, NOW) as archive:
        assert len(synced) == 1  # the folder, for the file's name
        for step in range(3):
            archive.add(Session({RUNLUMI: [(step,)] * 3000}), RUNLUMI, ALL)
            archive.sync()
            assert synced[-1] == archive.path.stat().st_size
            assert len(read_contents(archive.path).steps) == step + 1


def full_after(monkeypatch: pytest.MonkeyPatch, room: int) -> Callable[[], None]:
    """A disk that takes so many bytes; call the result to make room."""
    left = [room]
    really = os.write

    def write(handle: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = really(handle, data[: left[0]])
        left[0] -= written
        return written

    monkeypatch.setattr(archive_module.os, "write", write)
    return lambda: left.__setitem__(0, 10**9)


def test_a_full_disk_costs_the_step_at_hand(tmp_path, monkeypatch):
    rows = [(number,) for number in range(100_000)]
    make_room = full_after(monkeypatch, 50_000)
    with Archive.create(tmp_path, "wmagent", ORACLE, NOW) as archive:
        archive.add(Session({RUNLUMI: rows[:10]}), RUNLUMI, ALL)
        archive.sync()
        with pytest.raises(
            WMAgentError, match=r"cannot be written \(No space left on device\); what is not in it must"
        ):
            archive.add(Session({RUNLUMI: rows}), RUNLUMI, ALL)
        archive.discard()
        make_room()
        archive.add(Session({RUNLUMI: rows[:20]}), RUNLUMI, ALL)
    contents = read_contents(archive.path)
    assert contents.rows == {RUNLUMI: 30} and contents.complete


def test_a_value_of_a_kind_it_does_not_know_is_refused(tmp_path):
    with Archive.create(tmp_path, "wmagent", ORACLE, NOW) as archive:
        with pytest.raises(WMAgentError, match="a value of type object cannot be archived"):
            archive.add(Session({RUNLUMI: [(object(),)]}), RUNLUMI, ALL)
        archive.discard()


@pytest.mark.parametrize("piece", ["[1],[1", "[1],[12", "[1]", None])
def test_a_group_that_mariadb_cut_off_is_refused(tmp_path, monkeypatch, piece):
    session = Session({}, MARIADB)
    monkeypatch.setattr(session, "query", lambda sql, params: [(table, "id", "int", "NO") for table in CLEANED])
    monkeypatch.setattr(
        session, "stream", lambda sql: iter([(2, piece)] if "GROUP_CONCAT" in sql else []), raising=True
    )
    with Archive.create(tmp_path, "wmagent", MARIADB, NOW) as archive:
        with pytest.raises(WMAgentError, match="one file has 2 rows in dbsbuffer_file_runlumi_map, too many"):
            archive.add(session, RUNLUMI, ALL)
        archive.discard()


WRITER = """
import itertools, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from test_archive import ALL, NOW, ORACLE, RUNLUMI, Archive, Session
archive = Archive.create(Path({folder!r}), "wmagent", ORACLE, NOW)
for step in itertools.count(1):
    archive.add(Session({{RUNLUMI: [(step,)] * (step * 37 % 5000 + 1)}}), RUNLUMI, ALL)
    archive.sync()
    print(step, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_every_step_that_it_told_of(tmp_path):
    for round_number in range(4):
        folder = tmp_path / str(round_number)
        folder.mkdir()
        script = WRITER.format(paths=[*sys.path, str(Path(__file__).parent)], folder=str(folder))
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout
            told = 0
            while told < 20 + 7 * round_number:
                told = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            told = int((["0", *writer.stdout.read().split()])[-1]) or told
        contents = read_contents(next(folder.iterdir()))
        assert told <= len(contents.steps) <= told + 1 and not contents.complete
        assert [step.rows for step in contents.steps] == [
            {RUNLUMI: step * 37 % 5000 + 1} for step in range(1, len(contents.steps) + 1)
        ]


@given(st.sets(st.integers(0, 10**12)), st.sets(st.integers(0, 300)), st.lists(st.integers(0, 10**12)))
def test_numbers_are_a_set(sparse, dense, others):
    numbers = Numbers()
    for number in sparse | dense:
        numbers.add(number)
    for number in [*sparse, *dense, *others]:
        assert (number in numbers) == (number in sparse | dense)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=5))
def test_insertions_are_statements_that_oracle_takes(rows):
    named = [dict(zip(("id", "lfn"), row, strict=True)) for row in rows]
    statement, params = insertion(ORACLE, FILE, ("id", "lfn"), named)
    assert oracle_rules.problems(statement) == []
    assert params == [value for row in rows for value in row if value is not None and not isinstance(value, int)]
    assert statement.count("%s") == len(params)
    assert insertion(MARIADB, FILE, ("id", "lfn"), named)[0].count("%s") == len(params)


def test_an_insertion_as_it_is():
    rows = [{"id": 1, "lfn": "a"}, {"id": 2, "lfn": None}]
    assert insertion(MARIADB, FILE, ("id", "lfn"), rows) == (
        "INSERT INTO dbsbuffer_file (id, lfn) VALUES (1, %s), (2, NULL)",
        ["a"],
    )
    assert insertion(ORACLE, FILE, ("id", "lfn"), rows) == (
        "INSERT INTO dbsbuffer_file (id, lfn) "
        "SELECT 1, CAST(%s AS VARCHAR2(4000)) FROM DUAL UNION ALL SELECT 2, NULL FROM DUAL",
        ["a"],
    )
