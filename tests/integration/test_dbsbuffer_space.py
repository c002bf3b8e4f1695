# SPDX-License-Identifier: GPL-3.0-or-later
"""Space that deleted rows leave, on a real MariaDB: it is seen, it is given back, and nothing else changes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.sizes import read_table_sizes
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import space
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.space_plan import plan_optimize
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import CLEANED, FILE
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.dbsbuffer.fixtures import mariadb_session, oracle_session

RUNLUMI = "dbsbuffer_file_runlumi_map"
FILES, LUMIS = 20_000, 10
MB = 1_000_000
_RESERVED = 6 * MB
"""Of a file's bytes, what InnoDB keeps for itself and counts nowhere."""

ROWS = (
    "INSERT INTO dbsbuffer_dataset (id, path, processing_ver) VALUES (1, '/a/b/RAW', 1)",
    "INSERT INTO dbsbuffer_algo (id, app_name) VALUES (1, 'cmsRun')",
    "INSERT INTO dbsbuffer_algo_dataset_assoc (id, algo_id, dataset_id) VALUES (1, 1, 1)",
    "INSERT INTO dbsbuffer_workflow (id, name, task) VALUES (1, 'one', '/one')",
    f"""INSERT INTO {FILE} (id, lfn, filesize, dataset_algo, status, workflow)
        SELECT s.seq, CONCAT('/store/data/Run2026A/Primary/RAW/v1/000/', MD5(s.seq), '.root'), 1, 1, 'InDBS', 1
        FROM seq_1_to_{FILES} s""",
    f"INSERT INTO {RUNLUMI} SELECT f.seq, 1, l.seq, 100 FROM seq_1_to_{FILES} f, seq_1_to_{LUMIS} l",
)


EMPTIED = (*CLEANED, "dbsbuffer_algo_dataset_assoc", "dbsbuffer_algo", "dbsbuffer_dataset")


@pytest.fixture(scope="module")
def agent(mariadb_server: MariaDBServer) -> Iterator[Connection]:
    """A session with an agent's database."""
    with mariadb_session(mariadb_server, timeout=60) as session:
        yield session


@pytest.fixture
def connection(agent: Connection) -> Connection:
    """The same, its tables fresh and filled in order."""
    agent.execute("SET SESSION foreign_key_checks = 0")
    for table in EMPTIED:
        agent.execute(f"TRUNCATE TABLE {table}")
    agent.execute("SET SESSION foreign_key_checks = 1")
    for statement in ROWS:
        agent.execute(statement)
    return agent


def delete(connection: Connection, condition: str) -> None:
    connection.begin()
    connection.execute(f"DELETE FROM {RUNLUMI} WHERE {condition.format('filename')}")
    connection.execute(f"DELETE FROM {FILE} WHERE {condition.format('id')}")
    connection.commit()
    assert space.wait_for_purge(connection, 60)


def file_bytes(server: MariaDBServer, connection: Connection, table: str) -> int:
    return (server.data / connection.database / f"{table}.ibd").stat().st_size


def definitions(connection: Connection) -> str:
    """What ``mariadb-dump --no-data`` says, AUTO_INCREMENT with it."""
    text = "\n".join(str(connection.query(f"SHOW CREATE TABLE {table}")) for table in CLEANED)
    if program := shutil.which("mariadb-dump"):
        settings = connection.settings
        options = ["--no-data", "--skip-dump-date", f"--host={settings.host}", f"--port={settings.port}"]
        text += subprocess.run(
            [program, "--no-defaults", *options, f"--user={settings.user}", settings.name],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "MYSQL_PWD": settings.password},
        ).stdout
    return text


def test_sizes_are_those_of_the_files(mariadb_server, connection):
    sizes = space.table_sizes(connection)
    assert sizes[FILE].rows == FILES and sizes[RUNLUMI].rows == FILES * LUMIS
    for table in (FILE, RUNLUMI):
        size = sizes[table]
        assert size.total is not None and size.packed is not None and size.free is not None
        assert 0 <= file_bytes(mariadb_server, connection, table) - size.total <= _RESERVED
    # The lumis were written in order, the index of LFNs was not.
    assert sizes[RUNLUMI].packed == pytest.approx((sizes[RUNLUMI].total or 0) - (sizes[RUNLUMI].free or 0), rel=0.25)
    with connect(connection.settings) as reader:
        assert {table: size.total for table, size in space.table_sizes(reader).items()} == {
            table: size.total for table, size in sizes.items()
        }


@pytest.mark.parametrize("condition", ["MOD({}, 10) <> 0", "{} > 2000"], ids=["here and there", "the newest"])
def test_what_deleted_rows_leave_is_given_back_and_nothing_else_changes(mariadb_server, connection, condition):
    before = space.table_sizes(connection)
    delete(connection, condition)
    sizes = space.table_sizes(connection)
    bytes_before = file_bytes(mariadb_server, connection, RUNLUMI)
    assert sizes[RUNLUMI].rows == pytest.approx(FILES * LUMIS // 10, abs=LUMIS)
    chosen = [
        one
        for one in plan_optimize(sizes, minimum_bytes=MB, free_disk=space.free_disk(connection), before=before)
        if one.optimize
    ]
    assert chosen[0].table == RUNLUMI and FILE in [one.table for one in chosen]
    described = definitions(connection)
    rows = connection.query(f"CHECKSUM TABLE {', '.join(CLEANED)}")
    for one in chosen:
        done = space.optimize(connection, one.table)
        assert not done.problem and done.gained is not None
        assert one.gain is not None and done.gained > 0.7 * one.gain
    given = bytes_before - file_bytes(mariadb_server, connection, RUNLUMI)
    assert given > 0.6 * bytes_before
    # A megabyte is reckoned for each index, which a table of this size does not take.
    assert given > 0.9 * (chosen[0].gain or 0)
    assert definitions(connection) == described
    assert connection.query(f"CHECKSUM TABLE {', '.join(CLEANED)}") == rows
    # No id is ever given out twice, also where the highest were deleted.
    connection.execute(f"INSERT INTO {FILE} (lfn, dataset_algo) VALUES ('new', 1)")
    assert connection.query(f"SELECT id FROM {FILE} WHERE lfn = 'new'")[0][0] > FILES
    assert not any(
        one.optimize for one in plan_optimize(space.table_sizes(connection), minimum_bytes=MB, free_disk=10**15)
    )


def test_no_room_no_second_copy(connection):
    delete(connection, "MOD({}, 10) <> 0")
    sizes = space.table_sizes(connection)
    for free, reason in ((MB, "its second copy needs"), (None, "is unknown from here")):
        refused = plan_optimize(sizes, minimum_bytes=MB, free_disk=free)
        assert not any(one.optimize for one in refused)
        assert reason in next(one.reason for one in refused if one.table == RUNLUMI)


def test_the_disk_of_a_server_on_this_host(mariadb_server, connection):
    free = space.free_disk(connection)
    assert free == pytest.approx(shutil.disk_usage(mariadb_server.data).free, rel=0.2)
    assert Path(connection.query("SELECT @@datadir")[0][0]) == mariadb_server.data


def test_an_old_transaction_holds_the_space(connection):
    free = space.table_sizes(connection)[RUNLUMI].free or 0
    with connect(connection.settings) as other:
        other.begin_snapshot()
        other.query(f"SELECT COUNT(*) FROM {FILE}")
        connection.execute(f"DELETE FROM {RUNLUMI} WHERE filename > 2000")
        assert not space.wait_for_purge(connection, 0.5)
        assert space.table_sizes(connection)[RUNLUMI].free == free
        other.rollback()
    assert space.wait_for_purge(connection, 60)
    purged = space.table_sizes(connection)[RUNLUMI].free or 0
    assert purged > free + 8 * MB
    # Nothing comes any more: it was right to go on.
    connection.query("SELECT SLEEP(1)")
    assert space.table_sizes(connection)[RUNLUMI].free == purged


def test_a_time_limit_leaves_the_table_as_it_was(mariadb_server, connection):
    rows = connection.query(f"CHECKSUM TABLE {RUNLUMI}")
    described = definitions(connection)
    with connect(connection.settings, 60, read_only=False) as hasty:
        hasty.execute("SET SESSION max_statement_time = 0.05")
        with pytest.raises(WMAgentError, match=r"OPTIMIZE TABLE .* failed|did not answer"):
            space.optimize(hasty, RUNLUMI)
    assert connection.query(f"CHECKSUM TABLE {RUNLUMI}") == rows and definitions(connection) == described
    assert not list((mariadb_server.data / connection.database).glob("#sql*"))


def test_h2_tells_no_sizes():
    with oracle_session() as session:
        if os.environ.get("ORACLE_DSN"):
            pytest.skip("this is a real Oracle")
        sizes = space.table_sizes(session)
        assert sizes[FILE].rows == 0 and sizes[FILE].total is None
        assert "the dictionary has no user_segments" in plan_optimize(sizes, in_place=True)[0].reason


def test_oracles_dictionary_is_added_up_table_by_table():
    """H2 has none of these views: they stand here as tables, so the statement runs and its sums are right."""
    with oracle_session() as session:
        if os.environ.get("ORACLE_DSN"):
            assert read_table_sizes(session)[FILE].keys() == {"bytes", "rows"}
            return
        for statement in (
            "CREATE TABLE user_tables (table_name VARCHAR2(128), num_rows NUMBER)",
            "CREATE TABLE user_segments (segment_name VARCHAR2(128), segment_type VARCHAR2(18), bytes NUMBER)",
            "CREATE TABLE user_indexes (index_name VARCHAR2(128), table_name VARCHAR2(128))",
            "INSERT INTO user_tables VALUES ('A', 7)",
            "INSERT INTO user_tables VALUES ('B', NULL)",
            "INSERT INTO user_segments VALUES ('A', 'TABLE', 1000)",
            "INSERT INTO user_segments VALUES ('A', 'TABLE PARTITION', 200)",
            "INSERT INTO user_segments VALUES ('A_PK', 'INDEX', 30)",
            "INSERT INTO user_segments VALUES ('GONE', 'TABLE', 5)",
            "INSERT INTO user_indexes VALUES ('A_PK', 'A')",
        ):
            session.execute(statement)
        assert read_table_sizes(session) == {"a": {"bytes": 1230, "rows": 7}, "b": {"bytes": None, "rows": None}}
