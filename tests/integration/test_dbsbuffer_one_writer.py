# SPDX-License-Identifier: GPL-3.0-or-later
"""A cleanup and one writer: the interleavings that matter most, one by one, on MariaDB and on H2."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    MARIADB,
    ORACLE,
    Connection,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import deletion
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.deletion import Deletion
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.dbsbuffer import rows as table
from support.dbsbuffer.agent_at_work import BOGUS, BULK_HERITAGE, LIVE, Agent, helper_adds_inputs
from support.dbsbuffer.interleaving import Database, agent_database_of, clean
from support.dbsbuffer.journal import Journal, Session, TableLocks
from support.dbsbuffer.random_rows import CUTOFF, OLD
from support.dbsbuffer.rows import Rows

RULES = Rules(CUTOFF)

pytestmark = pytest.mark.usefixtures("no_certificates")


@pytest.fixture(scope="module", params=[MARIADB, ORACLE])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    server = request.getfixturevalue("mariadb_server") if request.param == MARIADB else None
    with agent_database_of(request.param, server) as found:
        yield found


FAMILY = Rows(
    workflows=[
        table.Workflow(1, "one", "/one/T"),
        table.Workflow(2, "two", "/two/T"),
        table.Workflow(3, "run", "/r", 0),
    ],
    datasets=[table.Dataset(1, "/a/b/c"), table.Dataset(BOGUS, "bogus")],
    assocs=[table.Assoc(1, 1), table.Assoc(BOGUS, BOGUS), table.Assoc(LIVE, 1)],
    locations=[table.Location(1, "T1_X"), table.Location(2, "T2_Y")],
    blocks=[table.Block(1, 1, "/a/b/c#1", 1, OLD)],
    files=[
        *(table.File(number, f"/store/mc/{number}.root", 1, 1, workflow=1) for number in range(1, 7)),
        table.File(20, "/store/mc/20.root", 1, 1, workflow=2),
        table.File(30, "/store/mc/30.root", BOGUS, None, "GLOBAL"),
        table.File(40, "/store/mc/40.root", 1, None, "NOTUPLOADED", 0, 3),
    ],
    parents=[table.Parent(20, 3)],
    file_locations=[table.FileLocation(number, 1) for number in range(1, 7)],
    wmbs_names=["run"],
)
"""Two finished workflows that share a block, a placeholder without children, and a workflow that runs."""


def committed(database: Database, *statements: str) -> None:
    with database.open() as connection:
        connection.begin()
        for statement in statements:
            connection.execute(statement)
        connection.commit()


CHILDREN = {
    "reset": ["UPDATE dbsbuffer_file SET status = 'NOTUPLOADED', in_phedex = 0 WHERE id = 20"],
    "not in Rucio any more": ["UPDATE dbsbuffer_file SET in_phedex = 0 WHERE id = 20"],
    "new": [
        "INSERT INTO dbsbuffer_file (id, lfn, dataset_algo, status, workflow) VALUES (60, 'x', 1, 'NOTUPLOADED', 2)",
        "INSERT INTO dbsbuffer_file_parent (child, parent) VALUES (60, 3)",
    ],
}


@pytest.mark.parametrize("how", CHILDREN)
def test_a_child_in_another_window_that_is_not_done_keeps_its_parent(database: Database, how: str):
    """DBS has not heard of the link yet, and the child's own window comes later."""
    before = database.fill(FAMILY)
    changes = iter([CHILDREN[how]])
    outcome = clean(database.open, RULES, 2, progress=lambda done, planned: committed(database, *next(changes, [])))
    left = database.read()
    assert outcome.outdated == ["a file has a child that is no longer done"]
    assert {row.id for row in left.files} >= {3, 4, 5, 6, 20} and set(left.parents) >= set(before.parents)


class Together:
    """A writer that works while a cleanup's step stands still; ``result`` is what became of it."""

    def __init__(self, turn: Callable[[], object]) -> None:
        self._turn = turn
        self._thread: threading.Thread | None = None
        self.result = ""

    def begin(self, patience: float = 0.25) -> None:
        """Once: start it, and wait for it until it has to wait itself."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work)
            self._thread.start()
            self._thread.join(patience)

    @property
    def begun(self) -> bool:
        return self._thread is not None

    def end(self) -> str:
        assert self._thread
        self._thread.join()
        return self.result

    def _work(self) -> None:
        try:
            self._turn()
            self.result = "committed"
        except WMAgentError as error:
            self.result = f"refused: {error}"


@dataclass
class Stage:
    """FAMILY, and an agent of which one component writes."""

    database: Database
    journal: Journal
    locks: TableLocks
    agent: Agent

    def session(self) -> Session:
        return Session(self.database.open(), self.journal, self.locks)


@pytest.fixture
def stage(database: Database) -> Stage:
    rows = database.fill(FAMILY)
    journal = Journal()
    return Stage(database, journal, TableLocks(), Agent(journal, rows.files, OLD, {"run": 3}))


class Picks(random.Random):
    """Takes one file, the first of all else."""

    def __init__(self, file: table.File) -> None:
        super().__init__(0)
        self._file = file

    def choice(self, values):
        return self._file if self._file in values else values[0]


def cleaned_around(stage: Stage, number: int, turn: Callable[[Callable[[], None]], object]) -> str:
    """Clean FAMILY; a writer begins before a step that looks at a file, and commits when that is about to be locked.

    turn: the writer's transaction; it has to call what it is given before it commits. Returns what became of it.
    """
    name = "_file_step" if number < 30 else "_placeholder_step"
    step, for_update = getattr(Deletion, name), deletion.recheck.for_update
    looked = threading.Event()

    def wait() -> None:
        assert looked.wait(30)
        time.sleep(0.2)

    writer = Together(lambda: turn(wait))

    def stepping(*arguments):
        writer.begin()
        return step(*arguments)

    def locking(dialect: str) -> str:
        if writer.begun:
            looked.set()
        return for_update(dialect)

    with patch.object(Deletion, name, stepping), patch.object(deletion.recheck, "for_update", locking):
        clean(stage.session, RULES)
    return writer.end()


def clean_with_one_last(stage: Stage, number: int, writer: Together) -> None:
    """Clean FAMILY; a writer begins once a file is about to be deleted."""
    delete_files = Deletion._delete_files

    def delete(run: Deletion, connection, chosen):
        if number in chosen.ids:
            writer.begin()
        delete_files(run, connection, chosen)

    with patch.object(Deletion, "_delete_files", delete):
        clean(stage.session, RULES)


def injected(stage: Stage, file: table.File, wait: Callable[[], None] = lambda: None) -> None:
    """WMBSHelper's transaction for one input that DBSBuffer has. wait: called before it is committed."""
    with patch.object(Agent, "old_file", lambda agent, chance: file), stage.session() as session:
        commit = stage.journal.commit
        with patch.object(stage.journal, "commit", lambda *arguments: (wait(), commit(*arguments))):
            helper_adds_inputs(stage.agent, session, Picks(file))


def assert_input_is_there(stage: Stage, lfn: str, result: str) -> None:
    left = stage.database.read()
    assert result.startswith(("committed", "refused"))
    assert (lfn in left.wmbs_lfns) == (result == "committed")
    assert result != "committed" or lfn in {row.lfn for row in left.files}


@pytest.mark.parametrize("number", [3, 30])
def test_an_input_that_is_injected_after_the_last_look_is_there(stage: Stage, number: int):
    """JobAccountant will look the input up by its LFN and stop where it is gone; WMBSHelper has found it there."""
    file = next(row for row in FAMILY.files if row.id == number)
    writer = Together(lambda: injected(stage, file))
    clean_with_one_last(stage, number, writer)
    assert_input_is_there(stage, file.lfn, writer.end())


@pytest.mark.parametrize("number", [3, 30])
def test_an_input_whose_injection_has_begun_before_is_there(stage: Stage, number: int):
    file = next(row for row in FAMILY.files if row.id == number)
    assert cleaned_around(stage, number, lambda wait: injected(stage, file, wait)) == "committed"
    assert_input_is_there(stage, file.lfn, "committed")


def linked(stage: Stage, child: str, parent: str, wait: Callable[[], None] = lambda: None) -> None:
    """JobAccountant's link, which fails where it finds no parent. wait: called before it is committed."""
    with stage.session() as session, session.transaction():
        session.execute(BULK_HERITAGE, [child, parent])
        wait()


@pytest.mark.parametrize("number", [3, 30])
def test_a_link_that_comes_after_the_last_look_fails_loudly(stage: Stage, number: int):
    parent = next(row for row in FAMILY.files if row.id == number)
    writer = Together(lambda: linked(stage, "/store/mc/40.root", parent.lfn))
    clean_with_one_last(stage, number, writer)
    assert writer.end().startswith("refused")
    assert number not in {row.id for row in stage.database.read().files}


@pytest.mark.parametrize("number", [3, 30])
def test_a_link_that_is_not_committed_yet_is_waited_for(stage: Stage, number: int):
    parent = next(row for row in FAMILY.files if row.id == number)

    child = "/store/mc/40.root"
    assert cleaned_around(stage, number, lambda wait: linked(stage, child, parent.lfn, wait)) == "committed"
    left = stage.database.read()
    assert table.Parent(40, number) in left.parents and parent in left.files


@pytest.mark.parametrize("settings", ["status = 'NOTUPLOADED', in_phedex = 0", "in_phedex = 0"])
def test_a_reset_that_is_not_committed_yet_is_waited_for(stage: Stage, settings: str):
    def reset(wait: Callable[[], None]) -> None:
        with stage.session() as session, session.transaction():
            session.execute(f"UPDATE dbsbuffer_file SET {settings} WHERE id = 5")
            wait()

    assert cleaned_around(stage, 3, reset) == "committed"
    left = stage.database.read()
    assert [row.in_phedex for row in left.files if row.id == 5] == [0]


def test_a_file_between_others_that_is_committed_late_stays(stage: Stage):
    """Its id is older than the plan, as of a transaction that was long: ranges of ids reach over it."""

    def add(wait: Callable[[], None]) -> None:
        with stage.session() as session, session.transaction():
            session.execute(
                "INSERT INTO dbsbuffer_file (id, lfn, dataset_algo, status, workflow) VALUES (10, 'x', 1, 'InDBS', 3)"
            )
            session.execute("INSERT INTO dbsbuffer_file_runlumi_map (filename, run, lumi) VALUES (10, 1, 1)")
            wait()

    assert cleaned_around(stage, 3, add) == "committed"
    left = stage.database.read()
    assert {row.id for row in left.files} == {10, 40} and [row.filename for row in left.runlumis] == [10]


def test_a_server_whose_sessions_see_one_moment_is_asked_anew(database: Database):
    """MariaDB's default is REPEATABLE READ: a second look in one transaction would see what the first has seen."""
    if database.dialect != MARIADB:
        pytest.skip("Oracle's sessions see what is committed")
    database.fill(FAMILY)

    def opened() -> Connection:
        session = database.open()
        session.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return session

    lock_files = deletion.recheck.lock_files
    changes = iter([["INSERT INTO dbsbuffer_file_parent (child, parent) VALUES (40, 3)"]])

    def lock(*arguments):
        committed(database, *next(changes, []))
        return lock_files(*arguments)

    with patch.object(deletion.recheck, "lock_files", lock):
        outcome = clean(opened, RULES)
    assert outcome.outdated == ["a file got a child that stays"]
    assert table.Parent(40, 3) in database.read().parents
