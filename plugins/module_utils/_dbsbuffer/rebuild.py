# SPDX-License-Identifier: GPL-3.0-or-later
"""Clean DBSBuffer by copying what stays: for a stopped agent on MariaDB, where most files go.

The files that stay are copied with all their rows into new tables, the copy is verified, all tables are swapped in one
statement, and the old ones dropped, which gives their room back at once. Nobody can write to the database from before
the plan is made until the swap is done. Up to the swap everything can be given up, and the old tables are in service
whatever happens. Workflows and blocks are left to the other steps of a cleanup.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import rebuild_copy
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_checks import obstacles, size, why_not
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_guard import Guards, guarded, sessions
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_reader import OldTables, row_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_recovery import (
    clean_up,
    definition,
    finish,
    leftovers,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_tables import (
    NEW,
    REBUILT,
    Definition,
    add_keys,
    create_bare,
    renamed,
    same_but_for_ids,
    swap,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import FILE
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

__all__ = ["Rebuilt", "clean_up", "leftovers", "rebuild", "why_not"]

_COPYING = """SET STATEMENT foreign_key_checks = 0, in_predicate_conversion_threshold = 0,
    sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')"""
_OPTIONS = """
    SELECT table_name, row_format, table_collation, auto_increment, create_options, table_comment
    FROM information_schema.tables WHERE table_schema = %s"""


@dataclass
class Rebuilt:
    """What a rebuild did.

    cleaned:  what an earlier one had left, one line for each thing that was done about it
    kept, dropped: table -> rows; empty where there was nothing to do, and nothing was copied
    placeholders: how many of the files dropped belong to no workflow
    bytes_before, bytes_after: of all the tables with their keys, as the server estimates them
    seconds:  step -> how long it took
    """

    plan: Plan
    cleaned: list[str]
    kept: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    placeholders: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def rebuild(
    connection: Connection,
    make_plan: Callable[[Connection], Plan],
    *,
    placeholders: bool = False,
    archive: Callable[[Mapping[str, str]], None] | None = None,
    progress: Callable[[str], None] = lambda text: None,
    deadline: float | None = None,
    lock_wait: float = 5,
    free_bytes: int | None = None,
) -> Rebuilt:
    """Rebuild dbsbuffer_file and its child tables without the files of all workflows that a plan names.

    connection:   a session that may write, outside of a transaction; its time limit for a statement must do for a copy
    make_plan:    makes the plan, by this session, while nobody can write
    placeholders: placeholders go as well, where all that they are linked to goes
    archive:      is given a condition for the rows that go for each table, columns without alias, before the swap;
                  may read by this session, and must not write to the database
    progress:     is told each step in words
    deadline:     time.monotonic() after which no step is begun; once the tables are swapped it is finished anyway
    lock_wait:    seconds to wait for transactions of others
    free_bytes:   free room where the server keeps its data, for a server on another host

    Raises WMAgentError where it may not be done or was given up; its message says so where the swap was done already.
    """
    return _Rebuild(connection, placeholders, archive, progress, deadline, lock_wait, free_bytes).run(make_plan)


class _Rebuild:
    def __init__(
        self,
        connection: Connection,
        placeholders: bool,
        archive: Callable[[Mapping[str, str]], None] | None,
        progress: Callable[[str], None],
        deadline: float | None,
        lock_wait: float,
        free_bytes: int | None,
    ) -> None:
        self._connection = connection
        self._placeholders = placeholders
        self._archive = archive
        self._progress = progress
        self._deadline = deadline
        self._lock_wait = lock_wait
        self._free_bytes = free_bytes
        self._seconds: dict[str, float] = {}

    def run(self, make_plan: Callable[[Connection], Plan]) -> Rebuilt:
        connection = self._connection
        with self._step("look for what an earlier rebuild left"):
            cleaned = clean_up(connection)
            _refuse(obstacles(connection))
        with guarded(connection, self._lock_wait) as guards, OldTables(guards.reader) as tables:
            with self._step("plan"):
                result = Rebuilt(make_plan(connection), cleaned, seconds=self._seconds)
            if not (result.plan.files or (self._placeholders and result.plan.placeholders)):
                return result
            _refuse(why_not(connection, result.plan, free_bytes=self._free_bytes, own=guards.ids))
            with self._giving_up_on_errors():
                self._copy(guards, tables, result)
                self._swap(guards)
        self._finish(tables.definitions, result)
        return result

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise WMAgentError(f"the time is up before this step of the rebuild: {name}; allow more")
        self._progress(name)
        started = time.monotonic()
        yield
        self._seconds[name] = time.monotonic() - started

    @contextmanager
    def _giving_up_on_errors(self) -> Iterator[None]:
        try:
            yield
        except WMAgentError as error:
            raise WMAgentError(f"{error}. {self._give_up()}") from None
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> str:
        """Drop the new tables, by a fresh session as this one may be what failed; what became of it all, in words."""
        try:
            with connect(self._connection.settings, read_only=False) as fresh:
                left = leftovers(fresh)
                if left.old:
                    return (
                        "The tables were swapped, and the old ones are still there: clean up, which checks them first"
                    )
                finish(fresh, left)
        except WMAgentError as error:
            return f"The rebuild was given up, but not cleaned up: {error}"
        return "The rebuild was given up and nothing was changed"

    def _copy(self, guards: Guards, tables: OldTables, result: Rebuilt) -> None:
        connection, plan = self._connection, result.plan
        result.bytes_before = size(connection)
        if self._archive:
            with self._step("archive"):
                self._archive(rebuild_copy.rows_that_go(plan.workflows, self._placeholders))
        tables.look_for_what_stays(plan.workflows, self._placeholders)
        self._make_tables(tables.definitions, plan)
        with self._step("verify"):
            self._verify(guards.watcher, tables, plan)
        expected = tables.expected
        result.kept = expected.stay
        result.dropped = {table: expected.total[table] - expected.stay[table] for table in REBUILT}
        result.placeholders = expected.placeholders

    def _make_tables(self, old: Mapping[str, Definition], plan: Plan) -> None:
        connection = self._connection
        goes = rebuild_copy.going(plan.workflows, self._placeholders)
        for table in REBUILT:
            with self._step(f"copy {table}"):
                connection.execute(create_bare(renamed(old[table])))
                copy = (
                    rebuild_copy.copy_files(old[table], goes)
                    if table == FILE
                    else rebuild_copy.copy_children(old[table])
                )
                # Without this each row that is read would be locked.
                connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
                connection.execute(f"{_COPYING} FOR {copy}")
        for table in REBUILT:
            with self._step(f"make keys of {table}"):
                if keys := add_keys(renamed(old[table])):
                    connection.execute(f"SET STATEMENT foreign_key_checks = 0 FOR {keys}")
                # Without statistics the agent's first queries would be planned badly.
                connection.query(f"ANALYZE LOCAL TABLE {table}{NEW}")

    def _verify(self, watcher: Connection, tables: OldTables, plan: Plan) -> None:
        options = {str(row[0]): row[1:] for row in watcher.query(_OPTIONS, (watcher.database,))}
        copied = {}
        for table, old in tables.definitions.items():
            if definition(watcher, table + NEW) != renamed(old) or options[table + NEW] != options[table]:
                raise _mistake(f"table {table}{NEW} is not defined like {table}")
            copied[table] = row_of(self._connection, rebuild_copy.found(old))
            if any(self._connection.query(look) for look in rebuild_copy.orphans(old)):
                raise _mistake(f"table {table}{NEW} has rows without a file")
        expected = tables.expected
        goes = expected.total[FILE] - expected.stay[FILE]
        if goes != plan.files + expected.placeholders:
            raise _mistake(f"the plan has {plan.files} files and {expected.placeholders} placeholders go, not {goes}")
        for table in REBUILT:
            if copied[table] != (expected.stay[table], expected.sums[table]):
                raise _mistake(f"table {table}{NEW} does not hold the {expected.stay[table]} rows of {table} that stay")

    def _swap(self, guards: Guards) -> None:
        with self._step("swap"):
            # Were this process killed in the swap, a waiting writer might come between two tables: let there be none.
            if others := sessions(self._connection, guards.ids):
                raise WMAgentError(f"{', '.join(others[:3])} has connected to database {self._connection.database}")
            guards.swap(self._connection, swap(), self._lock_wait)

    def _finish(self, old: Mapping[str, Definition], result: Rebuilt) -> None:
        self._deadline = None
        try:
            with self._step("drop the old tables"):
                finish(self._connection, leftovers(self._connection))
                result.bytes_after = size(self._connection)
                now = {table: definition(self._connection, table) for table in REBUILT}
        except WMAgentError as error:
            raise WMAgentError(f"{error}. The tables were swapped; clean up to drop the old ones") from None
        if changed := [table for table in REBUILT if not same_but_for_ids(now[table], old[table])]:
            raise _mistake(f"{', '.join(changed)} was swapped and is not defined as before")


def _refuse(reasons: list[str]) -> None:
    if reasons:
        raise WMAgentError("; ".join(reasons))


def _mistake(what: str) -> WMAgentError:
    return WMAgentError(f"{what}; this is a mistake in the collection: report it, and use another method")
