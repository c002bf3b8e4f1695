# SPDX-License-Identifier: GPL-3.0-or-later
"""A cleanup among all that an agent writes at the same time: nothing that is needed is lost, on MariaDB and on H2."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    MARIADB,
    ORACLE,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import deletion, telling
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import make_plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.space import count_rows
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.dbsbuffer.agent_at_work import THREADS, Agent, contents
from support.dbsbuffer.brute_force import deletable, without
from support.dbsbuffer.interleaving import Database, agent_database_of, clean, prepared
from support.dbsbuffer.journal import Journal, Judge, Session, TableLocks
from support.dbsbuffer.random_rows import CUTOFF, NEW, OLD

ROUNDS = int(os.environ.get("DBSBUFFER_ROUNDS", "30"))
SEED = os.environ.get("DBSBUFFER_SEED", "1")
SECONDS = 0.4
"""Of each round in which the writers write; the rest of it is the last run and the judge."""

RULES = [Rules(CUTOFF), Rules(CUTOFF + 1000, retention=1000)]


pytestmark = pytest.mark.usefixtures("no_certificates")


@pytest.fixture(scope="module", params=[MARIADB, ORACLE])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    server = request.getfixturevalue("mariadb_server") if request.param == MARIADB else None
    with agent_database_of(request.param, server) as found:
        yield found


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
            self.chance.choice((2, 5, 10, 20, 1000)),
            progress=lambda done, planned: setattr(self.agent, "position", run.outcome.after),
        )
        outcome = run.outcome
        try:
            run.run()
        except WMAgentError as error:
            # So many changes right where it works; what it did until then counts.
            assert "never held" in str(error)
            self.told["given up"] += 1
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
        foretold = self.foretold()
        clean(self.database.open, self.rules)
        assert self.database.read() == expected
        assert foretold == self.counts()

    def foretold(self) -> dict[str, int]:
        """Rows of each table that check mode says will be left."""
        with self.database.open() as connection:
            plan = make_plan(connection, self.rules)
            gone = telling.rows_that_go(connection, plan)
            return {table: rows - gone[table] for table, rows in count_rows(connection).items()}

    def counts(self) -> dict[str, int]:
        with self.database.open() as connection:
            return count_rows(connection)


def test_nothing_that_is_needed_is_lost(database: Database):
    told: Counter[str] = Counter()
    mariadb = database.dialect == MARIADB
    rounds = ROUNDS if mariadb else max(1, ROUNDS // 10)
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
    assert told["given up"] <= 0.2 * told["runs"]
    happened = ("files", "found", "linked by JobAccountant", "linked by hand", "reset")
    for what in (*happened, "refused") if mariadb else happened:
        assert told[what] > 0, what
