# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete what a plan names while the agent works: small timed steps, each one transaction, children first.

A step locks the files that go, looks again whether each is still free to go, and deletes their rows table by table with
statements of its own, so every row is counted and no foreign key cascades. Stopped at any moment, a file is there with
all its rows or gone with all of them, and the next run goes on with what is left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.driver_errors import DatabaseLostError
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.load import LoadGuard
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.steps import StepSize, retried
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import recheck
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan, Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import FREE_PLACEHOLDER, make_plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import (
    BLOCK,
    CHILDREN,
    FILE,
    WORKFLOW,
    Chosen,
    in_list,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits

PLAN_LASTS = 120.0
"""Seconds after which a plan is made anew, to see what no single step does."""

_LASTS_LONGER = 20
"""A plan that takes long lasts this many times as long: a large database is not planned most of the time."""

_SAME_PLACE = 5
"""New plans in a row without a step in between, after which something is wrong with this collection."""

_RECONNECTS = 5
_CHUNK = 5000
"""Blocks or workflow rows in one step; whether a block is empty costs one look through all files."""

_NO_LINK = """NOT EXISTS (SELECT 1 FROM dbsbuffer_file_parent l WHERE l.parent = n.id)
    AND NOT EXISTS (SELECT 1 FROM dbsbuffer_file_parent l WHERE l.child = n.id)"""
_DELETABLE_WORKFLOW = """w.completed = 1
    AND NOT EXISTS (SELECT 1 FROM wmbs_workflow m WHERE m.name = w.name)
    AND NOT EXISTS (SELECT 1 FROM dbsbuffer_workflow v INNER JOIN dbsbuffer_file f ON f.workflow = v.id
                    WHERE v.name = w.name)
    AND NOT EXISTS (SELECT 1 FROM dbsbuffer_workflow v
                    WHERE v.name = w.name AND (v.completed IS NULL OR v.completed <> 1))"""


class Archive(Protocol):
    """Keeps rows before they are deleted."""

    def add(self, connection: Connection, table: str, condition: str) -> int:
        """Keep the rows of a table that fit a condition."""

    def sync(self) -> None:
        """Have on disk what was added."""

    def discard(self) -> None:
        """Drop what was added since."""


@dataclass
class Pace:
    """How fast a run goes and when it ends."""

    size: StepSize
    limits: Limits
    guard: LoadGuard


@dataclass
class Outcome:
    """What a run did.

    deleted:    table -> rows
    stopped_by: '' where all of the plan is done, else why it ended before
    why:        the same in words, where there is more to say
    after:      every file up to this id was dealt with
    outdated:   why the plan had to be made anew, in the order of events
    seconds:    time spent in steps
    """

    deleted: Counter[str] = field(default_factory=Counter)
    stopped_by: str = ""
    why: str = ""
    after: int = 0
    outdated: list[str] = field(default_factory=list)
    steps: int = 0
    reconnects: int = 0
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(self.deleted.values())

    @property
    def rate(self) -> float:
        """Files per second of the steps' own time."""
        return self.deleted[FILE] / self.seconds if self.seconds else 0.0


def statements(dialect: str) -> list[str]:
    """The deleting statements of a run in their order; ``:first`` and ``:last`` stand for runs of ids."""
    deletes = [f"DELETE FROM {table} WHERE {column} BETWEEN :first AND :last" for table, column in _child_columns()]
    if dialect == MARIADB:
        deletes.append("SET SESSION foreign_key_checks = 0")
    deletes.append(f"DELETE FROM {FILE} WHERE id BETWEEN :first AND :last")
    if dialect == MARIADB:
        deletes.append("SET SESSION foreign_key_checks = 1")
    return [*deletes, *(f"DELETE FROM {table} WHERE id IN (:ids)" for table in (BLOCK, WORKFLOW))]


def _child_columns() -> list[tuple[str, str]]:
    return [(table, column) for table, columns in CHILDREN for column in columns]


class Deletion:
    """One run over one database.

    open_session: opens a session that may write; called again where the connection is lost
    plan:     what the run begins with
    archive:  keeps each row before it is deleted; none for no archive
    progress: is told (files done, files planned) after each step
    """

    def __init__(
        self,
        open_session: Callable[[], Connection],
        plan: Plan,
        rules: Rules,
        pace: Pace,
        *,
        archive: Archive | None = None,
        progress: Callable[[int, int], None] = lambda done, planned: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._open = open_session
        self._connection = self._opened()
        self._plan = plan
        self._planned_files = plan.files
        self._planned_at = clock()
        self._plan_lasts = PLAN_LASTS
        self._rules = rules
        self._pace = pace
        self._archive = archive
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        self._without_step = 0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Delete until the plan is done or a limit is met. Raises WMAgentError; ``outcome`` tells what was done."""
        try:
            for phase in (self._files, self._placeholders, self._blocks, self._workflows):
                if reason := phase():
                    self.outcome.stopped_by = reason
                    self.outcome.why = self._pace.guard.why
                    break
        finally:
            self._connection.close()
        return self.outcome

    def _opened(self) -> Connection:
        connection = self._open()
        if connection.dialect == MARIADB:
            connection.execute(f"SET SESSION innodb_lock_wait_timeout = {recheck.LOCK_WAIT}")
            # A second look must see what others have committed since the first, whatever the server's default is.
            connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        return connection

    # Phases: '' where a phase is done, else why it ended before.

    def _files(self) -> str:
        self.outcome.after = self._plan.first - 1 if self._plan.files else 0
        while self._plan.files and self.outcome.after < self._plan.last:
            if reason := self._must_end():
                return reason
            if self._clock() - self._planned_at > self._plan_lasts:
                self._plan_again("")
                continue
            if (after := self._guarded(self._file_step)) is not None:
                self.outcome.after = after
        return ""

    def _placeholders(self) -> str:
        after: int | None = 0
        while after is not None:
            if reason := self._must_end():
                return reason
            last = self._guarded(partial(self._placeholder_step, after))
            after = after if last is None else last or None
        return ""

    def _blocks(self) -> str:
        return self._by_ids(self._plan.blocks, self._block_step)

    def _workflows(self) -> str:
        return self._by_ids(list(self._plan.workflows), self._workflow_step)

    def _by_ids(self, ids: Sequence[int], step: Callable[[Sequence[int], int], int]) -> str:
        for at in range(0, len(ids), _CHUNK):
            chunk = ids[at : at + _CHUNK]
            if reason := self._must_end():
                return reason
            # A chunk is not made smaller by a lock that another session holds.
            while self._guarded(partial(step, chunk), StepSize(start=1, maximum=1)) is None:
                continue
        return ""

    def _must_end(self) -> str:
        return self._pace.limits.reason(self.outcome.rows) or self._pace.guard.wait(self._pace.limits)

    def _guarded(self, step: Callable[[int], int], size: StepSize | None = None) -> int | None:
        """What a step returns; None where it has to be begun anew, after a new plan or on a new connection."""
        try:
            result = retried(step, size or self._pace.size, sleep=self._sleep)
        except recheck.PlanOutdatedError as error:
            self._plan_again(str(error))
            return None
        except DatabaseLostError as error:
            self._reconnect(error)
            return None
        self._without_step = 0
        return result

    def _plan_again(self, why: str) -> None:
        if why:
            self.outcome.outdated.append(why)
            self._without_step += 1
        if self._without_step > _SAME_PLACE:
            raise WMAgentError(
                f"the plan was made anew {_SAME_PLACE} times and never held ({why}); nothing of this step was deleted. "
                "Run again; if it stays like this, report it as a mistake in the collection"
            )
        started = self._clock()
        self._plan = make_plan(self._connection, self._rules)
        self._planned_at = self._clock()
        self._plan_lasts = max(PLAN_LASTS, _LASTS_LONGER * (self._planned_at - started))

    def _reconnect(self, error: DatabaseLostError) -> None:
        # The server undoes the open transaction; whether a commit under way was made, the tables themselves tell.
        self._connection.close()
        self.outcome.reconnects += 1
        if self.outcome.reconnects > _RECONNECTS:
            raise error
        for pause in (0.5, 1, 2, 4, 8, 16):
            self._sleep(pause)
            with suppress(WMAgentError):
                self._connection = self._opened()
                self._plan_again("")
                return
        raise error

    # Steps: one transaction each.

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        connection = self._connection
        before = Counter(self.outcome.deleted)
        started = self._clock()
        connection.begin()
        try:
            yield connection
            if self._archive:
                self._archive.sync()
            connection.commit()
        except BaseException:
            self.outcome.deleted = before
            if self._archive:
                self._archive.discard()
            with suppress(WMAgentError):  # the first error is the one to tell
                connection.rollback()
            raise
        self.outcome.seconds += self._clock() - started
        self.outcome.steps += 1

    def _file_step(self, size: int) -> int:
        started = self._clock()
        walk = self._within_rows_left(size)
        after = self.outcome.after
        with self._transaction() as connection:
            last = self._window_end(connection, after, walk)
            window = recheck.look_at(connection, self._plan, self._rules, after, last)
            if window.workflows:
                self._delete_window(connection, window)
        self._pace.size.finished(walk, window.files, self._clock() - started)
        self._progress(self.outcome.deleted[FILE], self._planned_files)
        return last

    def _within_rows_left(self, size: int) -> int:
        left = self._pace.limits.rows_left(self.outcome.rows)
        if left is None:
            return size
        rows_of_a_file = self.outcome.rows / max(1, self.outcome.deleted[FILE])
        return max(1, min(size, int(left / max(1.0, rows_of_a_file))))

    def _window_end(self, connection: Connection, after: int, walk: int) -> int:
        rows = connection.query(f"""
            SELECT MAX(i.id) FROM (SELECT f.id FROM dbsbuffer_file f WHERE f.id > {after} AND f.id <= {self._plan.last}
                                   ORDER BY f.id{_first(connection.dialect, walk)}) i""")
        return self._plan.last if rows[0][0] is None else int(rows[0][0])

    def _delete_window(self, connection: Connection, window: recheck.Window) -> None:
        ids = recheck.lock_files(connection, window)
        recheck.keep_others_out(connection)
        chosen = Chosen(ids, recheck.files_that_stay(connection, window))
        recheck.check_again(connection, self._plan, self._rules, window, chosen)
        self._delete_files(connection, chosen)

    def _delete_files(self, connection: Connection, chosen: Chosen) -> None:
        """Delete locked files with all their rows."""
        for table, column in _child_columns():
            self._delete(connection, table, chosen.among(column))
        if connection.dialect == MARIADB:
            # The rows are locked and their children gone, so the server need not look for children again.
            connection.execute("SET SESSION foreign_key_checks = 0")
        try:
            gone = self._delete(connection, FILE, chosen.among("id"))
        finally:
            if connection.dialect == MARIADB:
                connection.execute("SET SESSION foreign_key_checks = 1")
        # A file with an id in between may have been committed only now.
        if gone != len(chosen.ids):
            raise recheck.PlanOutdatedError(f"{len(chosen.ids)} files were locked and {gone} would have gone")

    def _placeholder_step(self, after: int, size: int) -> int:
        free = f"n.id > {after} AND {FREE_PLACEHOLDER} AND {_NO_LINK}"
        started = self._clock()
        with self._transaction() as connection:
            found = connection.query(
                f"SELECT n.id FROM dbsbuffer_file n WHERE {free} ORDER BY n.id{_first(connection.dialect, size)}"
            )
            if not found:
                return 0
            last = int(found[-1][0])
            listed = in_list("n.id", (row[0] for row in found))
            connection.query(
                f"SELECT n.id FROM dbsbuffer_file n WHERE {listed}{recheck.for_update(connection.dialect)}"
            )
            recheck.keep_others_out(connection)
            still = connection.query(f"SELECT n.id FROM dbsbuffer_file n WHERE {free} AND {listed}")
            ids = sorted(int(row[0]) for row in still)
            self._delete_files(connection, Chosen(ids))
        self._pace.size.finished(len(found), len(ids), self._clock() - started)
        return last

    def _block_step(self, blocks: Sequence[int], _size: int) -> int:
        with self._transaction() as connection:
            fit = connection.query(
                f"SELECT b.id FROM dbsbuffer_block b WHERE {in_list('b.id', blocks)} "
                f"AND {recheck.fit_block(self._rules)}{recheck.for_update(connection.dialect)}"
            )
            ids = {int(row[0]) for row in fit}
            filled = connection.query(
                f"SELECT DISTINCT f.block_id FROM dbsbuffer_file f WHERE {in_list('f.block_id', ids)}"
            )
            return self._delete(connection, BLOCK, in_list("id", sorted(ids - {int(row[0]) for row in filled})))

    def _workflow_step(self, workflows: Sequence[int], _size: int) -> int:
        with self._transaction() as connection:
            listed = in_list("w.id", workflows)
            connection.query(
                f"SELECT w.id FROM dbsbuffer_workflow w WHERE {listed}{recheck.for_update(connection.dialect)}"
            )
            rows = connection.query(f"SELECT w.id FROM dbsbuffer_workflow w WHERE {listed} AND {_DELETABLE_WORKFLOW}")
            return self._delete(connection, WORKFLOW, in_list("id", sorted(int(row[0]) for row in rows)))

    def _delete(self, connection: Connection, table: str, condition: str) -> int:
        if self._archive:
            self._archive.add(connection, table, condition)
        rows = connection.execute(f"DELETE FROM {table} WHERE {condition}")
        self.outcome.deleted[table] += rows
        return rows


def _first(dialect: str, rows: int) -> str:
    return f" LIMIT {int(rows)}" if dialect == MARIADB else f" FETCH FIRST {int(rows)} ROWS ONLY"
