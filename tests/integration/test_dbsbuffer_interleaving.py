# SPDX-License-Identifier: GPL-3.0-or-later
"""A cleanup among all that an agent writes at the same time: nothing that is needed is lost, on MariaDB and on H2."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from unittest.mock import patch

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    MARIADB,
    Connection,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.load import Load, LoadGuard
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.steps import Limits, StepSize
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import deletion
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.deletion import Deletion, Outcome, Pace
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import make_plan
from support.dbsbuffer.agent_at_work import THREADS, Agent, contents
from support.dbsbuffer.brute_force import Deletable, deletable
from support.dbsbuffer.fixtures import mariadb_agent, oracle_agent
from support.dbsbuffer.journal import Journal, Judge, Session, TableLocks
from support.dbsbuffer.random_rows import CUTOFF, NEW, OLD
from support.dbsbuffer.rows import Rows, load, read, wmbs_owner
from support.dbsbuffer.schema import clear

ROUNDS = int(os.environ.get("DBSBUFFER_ROUNDS", "30"))
SEED = os.environ.get("DBSBUFFER_SEED", "1")
SECONDS = 0.6
"""Of each round in which the writers write; the rest of it is the last run and the judge."""

RULES = [Rules(CUTOFF), Rules(CUTOFF + 1000, retention=1000)]


@pytest.fixture(scope="module", autouse=True)
def no_certificates() -> Iterator[None]:
    """PyMySQL reads the system's certificates for every session, which takes longer than all a session does here."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", os.devnull)
        yield


@dataclass(frozen=True)
class Database:
    """An agent's database. open: one more session that may write."""

    dialect: str
    open: Callable[[], Connection]

    def fill(self, rows: Rows) -> Rows:
        with self.open() as connection:
            clear(connection)
            load(connection, rows)
            return read(connection)

    def read(self) -> Rows:
        with self.open() as connection:
            return read(connection)


@pytest.fixture(scope="module", params=["mariadb", "oracle"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with ExitStack() as stack:
        if request.param == MARIADB:
            where = stack.enter_context(mariadb_agent(request.getfixturevalue("mariadb_server")))
            found = Database(MARIADB, lambda: connect(where, timeout=30, read_only=False))
        else:
            found = Database("oracle", stack.enter_context(oracle_agent()).session)
        with found.open() as connection:
            connection.begin()
            wmbs_owner(connection)
            connection.commit()
        yield found


def pace(size: int) -> Pace:
    idle = LoadGuard(lambda: Load(0, None), 50, 100, 10, 60)
    return Pace(StepSize(start=size, maximum=size), Limits(None, None, None), idle)


def prepared(opener: Callable[[], Connection], rules: Rules, size: int = 1000, **options) -> Deletion:
    with opener() as connection:
        plan = deletion.make_plan(connection, rules)
    return Deletion(opener, plan, rules, pace(size), **options)


def clean(opener: Callable[[], Connection], rules: Rules, size: int = 1000, **options) -> Outcome:
    return prepared(opener, rules, size, **options).run()


def without(rows: Rows, gone: Deletable) -> Rows:
    """The same database without what may go."""
    files = gone.files | gone.placeholders
    return replace(
        rows,
        workflows=[row for row in rows.workflows if row.id not in gone.workflows],
        blocks=[row for row in rows.blocks if row.id not in gone.blocks],
        files=[row for row in rows.files if row.id not in files],
        parents=[row for row in rows.parents if row.child not in files and row.parent not in files],
        runlumis=[row for row in rows.runlumis if row.filename not in files],
        file_locations=[row for row in rows.file_locations if row.filename not in files],
        checksums=[row for row in rows.checksums if row.fileid not in files],
    )


class Round:
    """Writers and a cleanup at once on one database."""

    def __init__(self, database: Database, seed: str) -> None:
        self.database = database
        self.seed = seed
        self.chance = random.Random(seed)
        self.rules = self.chance.choice(RULES)
        self.rows = database.fill(contents(self.chance))
        self.journal = Journal()
        self.locks = TableLocks()
        created = NEW if self.rules.retention else OLD
        files = sorted(file for file in self.rows.files if file.status != "NOTUPLOADED")
        live = {row.name or "": row.id for row in self.rows.workflows if row.completed == 0}
        self.agent = Agent(self.journal, files, created, live)
        self.agent.in_wmbs.update(self.rows.wmbs_lfns)
        self.told: Counter[str] = Counter()

    def session(self, pause: Callable[[], None] = lambda: None) -> Session:
        return Session(self.database.open(), self.journal, self.locks, pause)

    def run(self) -> None:
        until = time.monotonic() + SECONDS
        sessions = {name: self.session() for name in THREADS}
        threads = [
            threading.Thread(target=self.agent.work, args=(sessions[name], turns, f"{self.seed} {name}", until))
            for name, turns in THREADS.items()
        ]
        try:
            with patch.object(deletion, "make_plan", self.journal.planning(make_plan)):
                for thread in threads:
                    thread.start()
                while time.monotonic() < until:
                    self.clean_once()
        finally:
            for thread in threads:
                thread.join()
            for session in sessions.values():
                session.close()

    def clean_once(self) -> None:
        longest = self.chance.choice((0, 0.001, 0.003))
        run = prepared(
            lambda: self.session(lambda: time.sleep(self.chance.random() * longest)),
            self.rules,
            self.chance.choice((3, 10, 30, 1000)),
            progress=lambda done, planned: setattr(self.agent, "position", run.outcome.after),
        )
        outcome = run.run()
        self.agent.position = 0
        if not outcome.rows:
            time.sleep(0.02)
        assert outcome.stopped_by == ""
        self.told.update({"runs": 1, "steps": outcome.steps, "files": outcome.deleted["dbsbuffer_file"]})
        self.told.update(f"new plan: {line.split(' of workflow')[0]}" for line in outcome.outdated)

    def check(self) -> None:
        assert self.agent.complaints == []
        judge = Judge(self.rows, self.journal, self.rules)
        state = judge.judge()
        assert judge.complaints == []
        left = self.database.read()
        assert left == state.rows().as_stored(self.database.dialect)
        expected = without(left, deletable(left, self.rules.now, self.rules.retention))
        clean(self.database.open, self.rules)
        assert self.database.read() == expected


def test_nothing_that_is_needed_is_lost(database: Database):
    told: Counter[str] = Counter()
    rounds = ROUNDS if database.dialect == MARIADB else max(1, ROUNDS // 5)
    for number in range(rounds):
        one = Round(database, f"{SEED} {number}")
        try:
            one.run()
            one.check()
        except BaseException:
            print(f"DBSBUFFER_SEED={SEED}, round {number}: {dict(one.told + one.agent.told)}")
            raise
        told += one.told + one.agent.told
        told["commits"] += len(one.journal.entries)
    print(f"\n{rounds} rounds on {database.dialect}: {dict(sorted(told.items()))}")
    for what in ("files", "refused", "found", "linked by JobAccountant", "linked by hand", "reset"):
        assert told[what] > 0, what
