# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals of the agent's database, on MariaDB and on Oracle's dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import ORACLE, Connection, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import signals_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import DATABASE, UNKNOWN, Blocker
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.dbsbuffer.fixtures import mariadb_agent, oracle_agent
from support.dbsbuffer.rows import Block, File, Workflow
from support.drain.database import dbsbuffer, empty, wmbs


@dataclass
class Database:
    """A session that may write, and what opens one that may not."""

    connection: Connection
    open_session: Callable[[], AbstractContextManager[Connection]]

    def blockers(self) -> dict[str, Blocker]:
        found, names = signals_database.read(self.open_session)
        assert names is not None, found
        return {one.signal: one for one in found}

    def counts(self) -> dict[str, int | None]:
        return {name: one.count for name, one in self.blockers().items()}


@pytest.fixture(scope="module", params=["mariadb", "oracle"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with ExitStack() as stack:
        if request.param == ORACLE:
            account = stack.enter_context(oracle_agent())
            yield Database(stack.enter_context(account.session()), lambda: account.session(read_only=True))
        else:
            one = stack.enter_context(mariadb_agent(request.getfixturevalue("mariadb_server")))
            yield Database(stack.enter_context(connect(one, 30, read_only=False)), lambda: connect(one, 30))


@pytest.fixture
def emptied(database: Database) -> Database:
    empty(database.connection)
    return database


def test_nothing_left(emptied):
    assert signals_database.read(emptied.open_session) == ([], [])


def test_work_in_wmbs(emptied):
    wmbs(
        emptied.connection,
        {"a": 1, "b": 0, "c": None, "done": 1},
        jobs=[
            (1, "a", "executing", 500),
            (2, "a", "executing", 400),
            (3, "b", "created", 300),
            (4, "b", "jobcooloff", 200),
            (5, "b", "jobpaused", 100),
            (6, "a", "success", 50),
            (7, "a", "cleanout", 1),
        ],
        batch=[(1, "1", "Running", 450), (2, "1", "Idle", 350), (3, None, "Idle", 10), (6, "0", "Complete", 5)],
        finished={"done": 1, "c": None},
        available={"a": 3, "b": 1},
        acquired={"a": 2},
    )
    found = emptied.blockers()
    assert {name: (one.count, one.oldest) for name, one in found.items()} == {
        "jobs_executing": (2, 400),
        "jobs_waiting": (2, 200),
        "jobs_paused": (1, 100),
        "jobs_finishing": (1, 50),
        "batch_jobs": (3, 10),
        "subscriptions_unfinished": (3, 1001),
        "workflows_not_injected": (2, None),
        "files_available": (4, None),
        "files_acquired": (2, None),
    }
    assert found["jobs_waiting"].by_state == {"created": 1, "jobcooloff": 1}
    assert found["batch_jobs"].by_state == {"Idle": 2, "Running": 1}
    assert found["batch_jobs"].examples == {"a": 2, "b": 1}
    assert found["files_available"].examples == {"a": 3, "b": 1}
    assert sorted(signals_database.read(emptied.open_session)[1] or []) == ["a", "b", "c", "done"]


@pytest.mark.parametrize("state", sorted({*signals_database.JOB_SIGNALS, "cleanout"}))
def test_every_state_of_a_job_but_the_last_blocks(emptied, state):
    wmbs(emptied.connection, {"a": 1}, jobs=[(1, "a", state, 9)], finished={"a": 1})
    expected = {} if state == "cleanout" else {signals_database.JOB_SIGNALS[state]: 1}
    assert emptied.counts() == expected


def test_a_state_that_nobody_knows_is_unknown(emptied):
    emptied.connection.begin()
    emptied.connection.execute("INSERT INTO wmbs_job_state (name) VALUES ('dancing')")
    emptied.connection.commit()
    try:
        wmbs(emptied.connection, {"a": 1}, jobs=[(1, "a", "dancing", 9)], finished={"a": 1})
        found = emptied.blockers()["jobs_state_unknown"]
        assert (found.kind, found.by_state) == (UNKNOWN, {"dancing": 1})
    finally:
        empty(emptied.connection)
        emptied.connection.begin()
        emptied.connection.execute("DELETE FROM wmbs_job_state WHERE name = 'dancing'")
        emptied.connection.commit()


def test_workflows_that_are_not_completed(emptied):
    dbsbuffer(
        emptied.connection,
        [
            Workflow(1, "a", "/a/T1", 0),
            Workflow(2, "a", "/a/T2", 0),
            Workflow(3, "gone", "/gone/T", 0),
            Workflow(4, "done", "/done/T", 1),
            Workflow(5, "null", "/null/T", None),
        ],
        [],
        [],
    )
    emptied.connection.begin()
    emptied.connection.execute("DELETE FROM wmbs_fileset")
    emptied.connection.commit()
    wmbs(emptied.connection, {"a": 1}, finished={"a": 1})
    found = emptied.blockers()
    assert {name: one.examples for name, one in found.items()} == {
        "workflows_open": {"a": 2},
        "workflows_open_gone": {"gone": 1},
        "workflows_completion_unknown": {"null": 1},
    }


def test_blocks_by_status(emptied):
    blocks = [
        Block(number, 1, f"/P/E/RAW#{number}", 1, 100 + number, status)
        for number, status in enumerate(["Open", "Pending", "InDBS", "Closed", None, "Odd"], start=1)
    ]
    dbsbuffer(emptied.connection, [], blocks, [])
    found = emptied.blockers()
    assert {name: (one.count, one.oldest, one.by_state) for name, one in found.items()} == {
        "blocks_not_in_dbs": (2, 101, {"Open": 1, "Pending": 1}),
        "blocks_not_closed": (1, 103, {"InDBS": 1}),
        "blocks_status_unknown": (1, 106, {"Odd": 1}),
        "blocks_status_null": (1, 105, {}),
    }
    assert found["blocks_not_closed"].examples == {"/P/E/RAW#3": 1}


def test_a_file_is_as_old_as_it_says_or_as_its_block(emptied):
    files = [
        File(1, "/store/1", 1, 1, "NOTUPLOADED", 0, 1, 700),
        File(2, "/store/2", 1, 1, "NOTUPLOADED", 0, 1),
        File(3, "/store/3", 1, None, "NOTUPLOADED", 0, 1),
    ]
    blocks = [Block(1, 1, "/P/E/RAW#1", 1, 600)]
    dbsbuffer(emptied.connection, [Workflow(1, "a", "/a/T")], blocks, files)
    assert emptied.blockers()["files_not_uploaded"].oldest == 600


LFNS = ("/store/mc/{}.root", "/store/unmerged/{}.root", "MCFakeFile-{}", "/store/BACKFILL/{}.root", "/store/user/{}")
file_rows = st.lists(
    st.tuples(
        st.sampled_from(LFNS),
        st.sampled_from([None, 1, 99]),
        st.sampled_from([None, "NOTUPLOADED", "InDBS", "GLOBAL", "Odd"]),
        st.sampled_from([None, 0, 1, 2]),
        st.sampled_from([None, 1, 2]),
    ),
    max_size=25,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(file_rows)
def test_files_are_counted_as_upstream_counts_them_and_those_that_it_leaves_out(database, rows):
    empty(database.connection)
    files = [
        File(number, lfn.format(number), 1, block, status, registered, workflow)
        for number, (lfn, block, status, registered, workflow) in enumerate(rows, start=1)
    ]
    workflows = [Workflow(1, "a", "/a/T"), Workflow(2, "b", "/b/T")]
    dbsbuffer(database.connection, workflows, [Block(1, 1, "/P/E/RAW#1", 1)], files)
    counts = database.counts()

    def count(*signals: str) -> int:
        return sum(counts.get(signal) or 0 for signal in signals)

    # CountFilesByStatus and CountPhedexNotUploaded, in Python.
    assert count("files_not_uploaded", "files_without_workflow") == sum(one.status == "NOTUPLOADED" for one in files)
    never = [any(word in one.lfn for word in ("unmerged", "MCFake", "BACKFILL", "/user/")) for one in files]
    waiting = [one for one, left in zip(files, never, strict=True) if one.in_phedex == 0 and not left]
    assert count("files_not_in_rucio", "files_of_missing_block") == sum(one.block_id is not None for one in waiting)
    assert count("files_of_missing_block") == sum(one.block_id == 99 for one in waiting)
    assert count("files_without_workflow") == sum(one.status == "NOTUPLOADED" and one.workflow is None for one in files)
    assert count("files_without_block") == sum(one.block_id is None and one.status != "NOTUPLOADED" for one in waiting)
    assert count("files_status_unknown") == sum(one.status in (None, "Odd") for one in files)
    assert count("files_registration_unknown") == sum(one.in_phedex in (None, 2) for one in files)
    done = [
        one
        for one, left in zip(files, never, strict=True)
        if one.status in ("InDBS", "GLOBAL") and (one.in_phedex == 1 or (one.in_phedex == 0 and left))
    ]
    assert bool(counts) == (len(done) < len(files)), "nothing but what is done blocks nothing"


def test_an_empty_database_is_no_drained_agent(emptied):
    connection = emptied.connection
    for statement, said in (
        ("DELETE FROM wm_components", "no component has ever run"),
        ("DELETE FROM wmbs_job_state", "holds no complete WMBS"),
    ):
        connection.begin()
        kept = connection.query("SELECT name FROM wmbs_job_state ORDER BY id")
        connection.execute(statement)
        connection.commit()
        try:
            found, names = signals_database.read(emptied.open_session)
            assert [(one.signal, one.kind, one.count) for one in found] == [("database", UNKNOWN, None)]
            assert said in found[0].text
            assert names is None
        finally:
            connection.begin()
            if not connection.query("SELECT 1 FROM wmbs_job_state"):
                for (name,) in kept:
                    connection.execute("INSERT INTO wmbs_job_state (name) VALUES (%s)", [name])
            connection.commit()
            empty(connection)


def test_one_statement_that_fails_leaves_the_others(emptied, monkeypatch):
    wmbs(emptied.connection, {"a": 1}, jobs=[(1, "a", "executing", 9)], finished={"a": 1})
    real = Connection.query

    def broken(self, sql, params=()):
        if "dbsbuffer_block b\n" in sql:
            raise WMAgentError("the server does not answer")
        return real(self, sql, params)

    monkeypatch.setattr(Connection, "query", broken)
    found = {one.signal: one for one in signals_database.read(emptied.open_session)[0]}
    assert found["jobs_executing"].count == 1
    assert (found["blocks"].kind, found["blocks"].text) == (UNKNOWN, "the server does not answer")


def test_a_server_that_cannot_be_reached_is_unknown():
    def refused() -> AbstractContextManager[Connection]:
        raise WMAgentError("MariaDB at nowhere cannot be reached")

    found, names = signals_database.read(refused)
    assert [(one.signal, one.kind, one.count, one.source) for one in found] == [("database", UNKNOWN, None, DATABASE)]
    assert names is None
