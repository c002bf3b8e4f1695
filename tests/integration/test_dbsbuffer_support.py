# SPDX-License-Identifier: GPL-3.0-or-later
"""The DBSBuffer databases that other tests stand on: schemas, sessions, small contents and large ones."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    ORACLE,
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.driver_errors import DatabaseBusyError
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import HealthCheck, given, settings
from support.dbsbuffer.fixtures import mariadb_agent, mariadb_session, oracle_agent, oracle_session
from support.dbsbuffer.generator import Generated, generate
from support.dbsbuffer.oracle import OracleDatabase
from support.dbsbuffer.random_rows import databases
from support.dbsbuffer.rows import Block, Dataset, File, Location, Rows, Workflow, load, read
from support.dbsbuffer.schema import CLEARED, clear

ROW = Rows(
    workflows=[Workflow(1, "request", "/request/Task")],
    datasets=[Dataset(1, "/Primary/Era/RAW")],
    locations=[Location(1, "T1_XX_Disk")],
    blocks=[Block(1, 1, "/Primary/Era/RAW#1", 1)],
    wmbs_names=["request"],
)


@pytest.fixture(scope="module")
def oracle() -> Iterator[OracleDatabase]:
    with oracle_agent() as database:
        yield database


@pytest.fixture(scope="module", params=["mariadb", "oracle"])
def session(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A session of either dialect."""
    with ExitStack() as stack:
        if request.param == ORACLE:
            yield stack.enter_context(oracle_session())
        else:
            yield stack.enter_context(mariadb_session(request.getfixturevalue("mariadb_server")))


def test_every_table_is_there_and_cleared_ones_are_empty(session: Connection):
    load(session, ROW)
    clear(session)
    assert [session.query(f"SELECT COUNT(*) FROM {table}") for table in CLEARED] == [[(0,)]] * len(CLEARED)
    kinds = session.query("SELECT id, type FROM dbsbuffer_checksum_type ORDER BY id")
    assert kinds == [(1, "cksum"), (2, "adler32"), (3, "md5")]
    for table in ("wmbs_job", "wm_components", "bl_runjob", "rc_threshold"):
        session.query(f"SELECT COUNT(*) FROM {table}")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(databases())
def test_rows_come_back_as_they_were_loaded(session: Connection, rows: Rows):
    clear(session)
    load(session, rows)
    assert read(session) == rows.as_stored(session.dialect)


def test_what_oracle_would_refuse_is_refused(oracle: OracleDatabase):
    with oracle.session() as session:
        if oracle.real:
            pytest.skip("a real Oracle speaks for itself")
        with pytest.raises(AssertionError, match="LIMIT"):
            session.query("SELECT id FROM dbsbuffer_file LIMIT 10")


def test_values_are_what_the_oracle_driver_gives(oracle: OracleDatabase):
    with oracle.session() as session:
        session.execute(
            "INSERT INTO dbsbuffer_algo (id, app_name, config_content) VALUES (%s, %s, %s)", [7, "", "text"]
        )
        asked = "SELECT id, app_name, config_content, (SELECT COUNT(*) FROM dual), id / 2, 'a:1' FROM dbsbuffer_algo"
        (row,) = session.query(f"{asked} WHERE id = %s", [7])
        session.rollback()
    assert [str(value) for value in row] == ["7", "None", "text", "1", "3.5", "a:1"]
    assert [type(value) for value in (row[0], row[3])] == [int, int]


def test_two_oracle_sessions_see_what_the_other_commits(oracle: OracleDatabase):
    with oracle.session() as one, oracle.session() as other, oracle.session(read_only=True) as reader:
        clear(one)
        count = "SELECT COUNT(*) FROM dbsbuffer_location"
        reader.query(count)
        one.execute("INSERT INTO dbsbuffer_location (id, pnn) VALUES (%s, %s)", [1, "T1_XX_Disk"])
        assert other.query(count) == [(0,)]
        one.commit()
        assert other.query(count) == [(1,)]
        assert reader.query(count) == [(0,)], "its data is as of its begin"
        reader.rollback()
        assert reader.query(count) == [(1,)]
        with pytest.raises(WMAgentError, match="ORA-01456"):
            reader.execute("DELETE FROM dbsbuffer_location")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE dbsbuffer_workflow SET completed = 0 WHERE id = 1",
        "SELECT id FROM dbsbuffer_workflow WHERE id = 1 FOR UPDATE NOWAIT",
    ],
)
def test_a_row_lock_of_another_oracle_session_is_told_as_such(oracle: OracleDatabase, statement: str):
    if oracle.real and "NOWAIT" not in statement:
        pytest.skip("Oracle waits as long as a statement may take")
    found: list[BaseException] = []

    def ask() -> None:
        with oracle.session() as other, pytest.raises(WMAgentError) as caught:
            other.execute(statement)
        found.append(caught.value)

    with oracle.session() as holder:
        clear(holder)
        load(holder, ROW)
        holder.query("SELECT id FROM dbsbuffer_workflow WHERE id = 1 FOR UPDATE")
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(30)
        holder.rollback()
    assert [type(error) for error in found] == [DatabaseBusyError]


def test_every_oracle_account_starts_empty(oracle: OracleDatabase):
    if oracle.real:
        pytest.skip("there is one account")
    with oracle.session() as session:
        clear(session)
        load(session, ROW)
    with oracle_session() as session:
        assert read(session) == Rows(algos=[])


@pytest.fixture(scope="module")
def generated(mariadb_server) -> Iterator[tuple[DatabaseSettings, Generated]]:
    with mariadb_agent(mariadb_server) as agent:
        yield agent, generate(agent, 2000, 7, eligible=0.8, runlumis_per_file=4)


def test_a_generated_database_depends_on_its_seed_alone(mariadb_server, generated):
    agent, told = generated
    with mariadb_agent(mariadb_server) as other, connect(agent) as one:
        assert generate(other, 2000, 7, eligible=0.8, runlumis_per_file=4) == told
        with connect(other, read_only=False) as two:
            first = read(one)
            assert read(two) == first
            clear(two)
        generate(other, 2000, 8, eligible=0.8, runlumis_per_file=4)
        with connect(other) as two:
            assert read(two).files != first.files


def test_a_generated_database_has_what_was_asked_for(generated):
    agent, told = generated
    with connect(agent) as session:
        rows = read(session)
    names = {row.id: row.name for row in rows.workflows}
    outputs = [file for file in rows.files if file.workflow]
    assert len(rows.files) == told.files == 2000
    assert told.eligible_files == 1600
    assert (len(rows.parents), len(rows.runlumis)) == (told.parents, told.runlumis)
    assert told.runlumis == pytest.approx(4 * len(outputs), rel=0.05)
    assert len(rows.checksums) == 2 * len(outputs)
    assert _eligible_by_connection(rows, set(told.eligible_names), names) == told.eligible_files
    merged = {file.lfn for file in outputs if file.status == "InDBS" and "unmerged" not in file.lfn}
    assert merged <= set(rows.wmbs_lfns) and len(merged) > 1600
    # Workflows that ran at the same time have their files side by side.
    changes = sum(names[one.workflow] != names[two.workflow] for one, two in pairwise(outputs))
    assert changes > len(outputs) / 10


def test_a_generated_database_has_the_schema_it_had(mariadb_server, generated):
    agent, _ = generated
    with mariadb_agent(mariadb_server) as other, connect(agent) as one, connect(other) as two:
        for table in CLEARED:
            filled, empty = (session.query(f"SHOW CREATE TABLE {table}")[0][1] for session in (one, two))
            assert re.sub(r" AUTO_INCREMENT=\d+", "", filled) == empty


def _eligible_by_connection(rows: Rows, eligible_names: set[str], names: dict[int, str | None]) -> int:
    """Files that are connected, by parents, blocks or a workflow's name, with nothing that stays."""
    groups: dict[object, object] = {}

    def find(one: object) -> object:
        while groups.setdefault(one, one) != one:
            one = groups[one]
        return one

    def join(one: object, other: object) -> None:
        groups[find(one)] = find(other)

    for file in rows.files:
        if file.workflow:
            join(("file", file.id), ("name", names[file.workflow]))
        if file.block_id:
            join(("file", file.id), ("block", file.block_id))
    for link in rows.parents:
        join(("file", link.child), ("file", link.parent))
    running = {row.id for row in rows.workflows if row.completed != 1 or row.name in rows.wmbs_names}
    staying = {find(("file", file.id)) for file in rows.files if file.workflow in running or not _settled(file)}
    going = [file for file in rows.files if find(("file", file.id)) not in staying]
    assert {names[file.workflow] for file in going if file.workflow} <= eligible_names
    return len(going)


def _settled(file: File) -> bool:
    return file.status == "GLOBAL" or (file.status == "InDBS" and (file.in_phedex == 1 or "unmerged" in file.lfn))
