# SPDX-License-Identifier: GPL-3.0-or-later
"""Archive, delete, restore: the tables are what they were, on a real MariaDB and on H2 in Oracle mode."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.archive import Archive
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.archive_reader import Contents, read_contents
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.restore import Restored, restore
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import (
    BLOCK,
    CHILDREN,
    CLEANED,
    FILE,
    PARENT,
    WORKFLOW,
    in_list,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dbsbuffer import rows as table
from support.dbsbuffer.fixtures import mariadb_session, oracle_session
from support.dbsbuffer.generator import generate
from support.dbsbuffer.random_rows import databases
from support.dbsbuffer.rows import Rows, load
from support.dbsbuffer.schema import clear
from support.playbook import run_tasks
from support.secrets import write_secrets

CHECKSUMS, LOCATION = "dbsbuffer_file_checksums", "dbsbuffer_file_location"
RUNLUMI = "dbsbuffer_file_runlumi_map"
_numbers = itertools.count(1)

# H2 has no Oracle dictionary; the columns' names and types are all that is asked of it here.
_COLUMNS_VIEW = """
    CREATE VIEW user_tab_columns AS
    SELECT table_name, column_name, data_type, CASE is_nullable WHEN 'YES' THEN 'Y' ELSE 'N' END nullable
    FROM information_schema.columns WHERE table_schema = 'WMAGENT'"""


@pytest.fixture(scope="module")
def on_mariadb(mariadb_server) -> Iterator[Connection]:
    """A session with an agent's database on MariaDB."""
    with mariadb_session(mariadb_server) as connection:
        yield connection


@pytest.fixture(scope="module", params=["mariadb", "oracle"])
def agent(request) -> Iterator[Connection]:
    """A session with an agent's database."""
    if request.param == "mariadb":
        yield request.getfixturevalue("on_mariadb")
    else:
        with oracle_session() as connection:
            if not os.environ.get("ORACLE_DSN"):
                connection.execute(_COLUMNS_VIEW)
            yield connection


@pytest.fixture
def connection(agent: Connection) -> Iterator[Connection]:
    """The same, cleared before; what a failed test left open is undone."""
    agent.rollback()
    clear(agent)
    yield agent
    agent.rollback()


SMALL = Rows(
    workflows=[table.Workflow(1, "one", "/one/task"), table.Workflow(2, "two", None), table.Workflow(3, None, "/x")],
    datasets=[table.Dataset(1, "/a/b/RAW"), table.Dataset(2, "bogus")],
    assocs=[table.Assoc(1, 1), table.Assoc(2, 2)],
    locations=[table.Location(1, "T1_US_FNAL_Disk"), table.Location(2, "T2_CH_CERN")],
    blocks=[table.Block(1, 1, "/a/b/RAW#1", 1, 1700000000), table.Block(2, 1, "/a/b/RAW#2", 1, None, None, None)],
    files=[
        *(table.File(n, f"/store/data/é%s'\"\\{n}.root", 1, 1 + n % 2, workflow=1 + n % 2) for n in range(1, 9)),
        table.File(9, "/store/input.root", 2, None, "GLOBAL", 1),
    ],
    parents=[table.Parent(2, 1), table.Parent(8, 1), *(table.Parent(n, 9) for n in range(1, 9))],
    runlumis=[table.RunLumi(n, 1, lumi % 2, None if n == 3 else 2**36) for n in range(1, 9) for lumi in range(3)],
    file_locations=[table.FileLocation(n, 1 + n % 2) for n in range(1, 9)],
    checksums=[table.Checksum(n, kind, None if n == 4 else f"{n}x") for n in range(1, 9) for kind in (1, 3)],
)


def contents_of(connection: Connection) -> dict[str, list[str]]:
    """All columns of all rows that a cleanup may delete."""
    return {name: sorted(map(repr, connection.query(f"SELECT * FROM {name}"))) for name in CLEANED}


def row_counts(connection: Connection) -> Counter[str]:
    return Counter({name: len(rows) for name, rows in contents_of(connection).items()})


def file_step(
    connection: Connection, archive: Archive, first: int, last: int, *, undo: bool = False, where: str = ""
) -> None:
    """Delete a range of files as a cleanup does; ``undo``: the transaction is rolled back after all."""
    connection.begin()
    for name, columns in (*CHILDREN, (FILE, ("id",))):
        for column in columns:
            condition = f"{column} BETWEEN {first} AND {last}"
            added = archive.add(connection, name, condition)
            assert connection.execute(f"DELETE FROM {name} WHERE {condition}") == added
    archive.sync()
    connection.rollback() if undo else connection.commit()


def delete_all(connection: Connection, folder: Path, ends: list[int]) -> Contents:
    """Delete all files, by steps that end at these ids, then all blocks, then all workflow rows."""
    with Archive.create(folder, connection.database, connection.dialect, time.time()) as archive:
        for first, last in itertools.pairwise([0, *sorted({*ends, 10**6})]):
            file_step(connection, archive, first + 1, last)
        for name in (BLOCK, WORKFLOW):
            ids = [row[0] for row in connection.query(f"SELECT id FROM {name}")]
            connection.begin()
            archive.add(connection, name, in_list("id", ids))
            connection.execute(f"DELETE FROM {name}")
            archive.sync()
            connection.commit()
    return read_contents(archive.path)


def restored(connection: Connection, contents: Contents) -> Restored:
    """Restore; check mode before and after tells the same."""
    before = row_counts(connection)
    expected = restore(connection, contents, check=True)
    assert row_counts(connection) == before
    done = restore(connection, contents)
    connection.rollback()
    assert done == expected
    assert row_counts(connection) == before + done.inserted
    again = restore(connection, contents, check=True)
    assert not again.inserted.total() and again.skipped == done.inserted + done.skipped
    return done


@settings(max_examples=20)
@given(rows=databases(), ends=st.lists(st.integers(1, 25), max_size=5))
def test_everything_comes_back(agent, rows, ends):
    clear(agent)
    blocks = {block.id for block in rows.blocks} | {None}
    # A cleanup leaves files of a block that is not there.
    rows.files[:] = [file if file.block_id in blocks else file._replace(block_id=None) for file in rows.files]
    load(agent, rows)
    before, counts = contents_of(agent), row_counts(agent)
    with tempfile.TemporaryDirectory() as folder:
        contents = delete_all(agent, Path(folder), ends)
        assert not row_counts(agent).total() and Counter(contents.rows) == counts
        done = restored(agent, contents)
    assert contents_of(agent) == before
    assert done.inserted == counts and not done.skipped.total()


def test_odd_values_come_back(connection, tmp_path):
    load(connection, SMALL)
    before = contents_of(connection)
    contents = delete_all(connection, tmp_path, [2, 5])
    assert contents.columns[FILE][:2] == ["id", "lfn"] and set(contents.columns[FILE]) >= {"filesize", "events"}
    restored(connection, contents)
    assert contents_of(connection) == before


class _InterruptedError(WMAgentError):
    """What a test raises."""


def interrupt_at(connection: Connection, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The insertion of this number fails."""
    really = connection.execute
    left = [number]

    def execute(sql: str, params: Any = ()) -> int:
        if sql.startswith("INSERT"):
            left[0] -= 1
            if not left[0]:
                raise _InterruptedError("the connection is gone")
        return really(sql, params)

    monkeypatch.setattr(connection, "execute", execute)


def test_an_interrupted_restore_is_ended_by_the_next(connection, tmp_path):
    load(connection, SMALL)
    before, counts = contents_of(connection), row_counts(connection)
    contents = delete_all(connection, tmp_path, [2, 5])
    for number in itertools.count(1):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_at(connection, patch, number)
            try:
                done = restore(connection, contents)
            except _InterruptedError:
                continue
        break
    # One interruption after the other, each after a little more of what the one before had not undone.
    assert contents_of(connection) == before and number > 5
    assert done.inserted + done.skipped == counts and done.skipped.total()


def test_a_step_that_was_rolled_back_and_deleted_later_comes_back_as_it_was_then(connection, tmp_path):
    load(connection, SMALL)
    with Archive.create(tmp_path, "wmagent", connection.dialect, 0) as archive:
        file_step(connection, archive, 1, 9, undo=True)
        connection.execute(f"UPDATE {FILE} SET in_phedex = 7 WHERE id = 2")
        connection.commit()
        before = contents_of(connection)
        file_step(connection, archive, 1, 4)
        file_step(connection, archive, 5, 6, undo=True)
        file_step(connection, archive, 5, 6)
    # Files 7 to 9 are in the archive and in the database, as a run leaves them that ends there.
    done = restored(connection, read_contents(archive.path))
    assert contents_of(connection) == before
    assert done.inserted[FILE] == 6 and done.inserted[RUNLUMI] == 18 and done.skipped[FILE] == 11


def test_lumis_come_back_with_their_file_only(connection, tmp_path):
    load(connection, SMALL)
    with Archive.create(tmp_path, "wmagent", connection.dialect, 0) as archive:
        file_step(connection, archive, 1, 8, undo=True)
    connection.execute(f"DELETE FROM {RUNLUMI} WHERE filename < 3")
    connection.execute(f"DELETE FROM {CHECKSUMS} WHERE fileid < 3 AND typeid = 1")
    connection.commit()
    done = restored(connection, read_contents(archive.path))
    assert +done.inserted == {CHECKSUMS: 2}
    assert done.skipped == {FILE: 8, RUNLUMI: 24, CHECKSUMS: 14, LOCATION: 8, PARENT: 10}


REFUSED = {
    "other contents": (
        f"UPDATE {FILE} SET in_phedex = 0 WHERE id = 8",
        "dbsbuffer_file with id 8 .* in_phedex is 0, in",
    ),
    "other checksum": (
        f"UPDATE {CHECKSUMS} SET cksum = 'q' WHERE fileid = 8 AND typeid = 3",
        "dbsbuffer_file_checksums with fileid 8, typeid 3 is in database .* cksum is 'q', in the archive '8x'",
    ),
    "lfn taken": (
        f"INSERT INTO {FILE} (id, lfn, dataset_algo) SELECT 77, '/store/input.root', 1 FROM DUAL",
        "dbsbuffer_file has /store/input.root in database .* as row 77, in the archive it has another id",
    ),
    "dataset is another": (
        "UPDATE dbsbuffer_dataset SET path = '/other' WHERE id = 2",
        r"dataset_algo refers to row 2 of dbsbuffer_algo_dataset_assoc \(bogus, .* has as /other",
    ),
    "location is gone": (
        f"DELETE FROM {LOCATION} WHERE location = 2;DELETE FROM dbsbuffer_location WHERE id = 2",
        r"location refers to row 2 of dbsbuffer_location \(T2_CH_CERN\), which database \w+ does not have",
    ),
    "workflow is gone": (
        f"UPDATE {FILE} SET workflow = 1 WHERE id = 8;DELETE FROM {WORKFLOW} WHERE id = 2",
        "workflow refers to row 2 of dbsbuffer_workflow, .* restore the later archives of this database first",
    ),
    "block is gone": (
        f"DELETE FROM {BLOCK} WHERE id = 1",
        "block_id refers to row 1 of dbsbuffer_block, which is neither in database",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_written(connection, tmp_path, name):
    statements, message = REFUSED[name]
    load(connection, SMALL)
    with Archive.create(tmp_path, "wmagent", connection.dialect, 0) as archive:
        file_step(connection, archive, 8, 8, undo=True)
        file_step(connection, archive, 1, 7)
        file_step(connection, archive, 9, 9)
    for statement in statements.split(";"):
        connection.execute(statement)
    connection.commit()
    before = contents_of(connection)
    for check in (True, False):
        with pytest.raises(WMAgentError, match=message) as raised:
            restore(connection, read_contents(archive.path), check=check)
        assert "\n" not in str(raised.value)
        assert contents_of(connection) == before


def test_a_link_whose_other_end_is_in_a_later_archive_waits_for_it(connection, tmp_path):
    load(connection, SMALL)
    before = contents_of(connection)
    archives = []
    for number, (first, last) in enumerate([(1, 8), (9, 9)]):
        with Archive.create(tmp_path, "wmagent", connection.dialect, number) as archive:
            file_step(connection, archive, first, last)
        archives.append(read_contents(archive.path))
    with pytest.raises(WMAgentError, match="parent refers to row 9 of dbsbuffer_file"):
        restore(connection, archives[0])
    for contents in reversed(archives):
        restored(connection, contents)
    assert contents_of(connection) == before


def test_an_archive_of_another_kind_of_database_is_refused(connection, tmp_path):
    load(connection, SMALL)
    contents = delete_all(connection, tmp_path, [])
    other = Contents(**(vars(contents) | {"dialect": "other"}))
    with pytest.raises(WMAgentError, match="is of a database in other, this one is in"):
        restore(connection, other)
    columns = contents.columns | {BLOCK: [*contents.columns[BLOCK], "open_since"]}
    with pytest.raises(WMAgentError, match=r"has no column dbsbuffer_block\.open_since, which .* in the same release"):
        restore(connection, Contents(**(vars(contents) | {"columns": columns})))


@pytest.fixture
def mariadb(on_mariadb: Connection) -> Iterator[Connection]:
    """The session with MariaDB alone, cleared before and left as the server makes one."""
    clear(on_mariadb)
    yield on_mariadb
    on_mariadb.execute("SET SESSION group_concat_max_len = DEFAULT")


def checksums(connection: Connection) -> list[tuple[Any, ...]]:
    assert connection.dialect == MARIADB
    return connection.query(f"CHECKSUM TABLE {', '.join(CLEANED)}")


def test_a_long_group_of_lumis_comes_back(mariadb, tmp_path):
    load(mariadb, SMALL)
    mariadb.execute("SET SESSION group_concat_max_len = 1024")
    mariadb.execute(f"INSERT INTO {RUNLUMI} SELECT 1, 1, s.seq, NULL FROM seq_1_to_50000 s")
    before = checksums(mariadb)
    restored(mariadb, delete_all(mariadb, tmp_path, [1, 2]))
    assert checksums(mariadb) == before


def modules(folder: Path, *tasks: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each task returned, by its number."""
    named = [{"name": str(number), "ignore_errors": True, **task} for number, task in enumerate(tasks)]
    hosts = {"agent": {"ansible_python_interpreter": sys.executable}}
    outcome = run_tasks(folder / f"run{next(_numbers)}", named, hosts)
    assert len(outcome.results.get("agent", {})) == len(tasks), outcome.output
    return outcome.results["agent"]


def test_a_cleanup_and_its_restore_by_the_modules(mariadb, tmp_path):
    made = generate(mariadb.settings, 2000, seed=3, eligible=0.8)
    before, counts = checksums(mariadb), row_counts(mariadb)
    (tmp_path / "archives").mkdir()
    login = {
        "secrets": str(write_secrets(tmp_path / "WMAgent.secrets", mariadb.settings)),
        "database_name": mariadb.database,
    }
    clean = login | {"retention": "0s", "archive": str(tmp_path / "archives"), "optimize": False}
    back = {"dmwm.wmagent.dbsbuffer_restore": login | {"archive": "{{ cleaned.archive }}"}}
    outcome = modules(
        tmp_path,
        {"dmwm.wmagent.dbsbuffer_cleanup": clean, "register": "cleaned"},
        back | {"check_mode": True, "diff": True},
        back | {"diff": True},
        back,
    )
    cleaned, check, real, again = (outcome[name] for name in "0123")
    gone = Counter(cleaned["deleted"])
    assert gone[FILE] >= made.eligible_files
    assert check["changed"] and check["restored"] == real["restored"] == gone
    diff = {
        "before": "".join(f"{name}: {(counts - gone)[name]} rows\n" for name in CLEANED),
        "after": "".join(f"{name}: {counts[name]} rows\n" for name in CLEANED),
    }
    assert check["diff"] == diff and real["diff"] == diff
    assert real["changed"] and real["already_there"] == {} and "warnings" not in real
    assert real["archive"]["complete"] and real["archive"]["rows"] == gone
    assert not again["changed"] and again["restored"] == {} and again["already_there"] == gone
    assert "diff" not in again
    assert checksums(mariadb) == before


def test_the_module_says_in_one_line_what_is_wrong(mariadb, tmp_path):
    load(mariadb, SMALL)
    before = checksums(mariadb)
    contents = delete_all(mariadb, tmp_path, [4])
    whole = contents.file.read_bytes()
    files = {"text": b"no archive", "cut": whole[: contents.steps[1].start + 10], "without end": whole[:-1]}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    login = {
        "secrets": str(write_secrets(tmp_path / "WMAgent.secrets", mariadb.settings)),
        "database_name": mariadb.database,
    }
    options = [*({"archive": str(tmp_path / name)} for name in ("none", *files)), {}]
    outcome = modules(tmp_path, *({"dmwm.wmagent.dbsbuffer_restore": login | one} for one in options))
    assert "No such file" in outcome["0"]["msg"]
    assert "is no archive of a cleanup" in outcome["1"]["msg"]
    # The first step's files are of a workflow that a later step deleted.
    assert "restore the later archives of this database first" in outcome["2"]["msg"]
    assert "missing required arguments: archive" in outcome["4"]["msg"]
    assert not any("\n" in outcome[name]["msg"] or outcome[name].get("changed") for name in "0124")
    assert "it has 4 complete steps and no end" in outcome["3"]["warnings"][0]
    assert outcome["3"]["changed"] and not outcome["3"]["archive"]["complete"]
    assert checksums(mariadb) == before
