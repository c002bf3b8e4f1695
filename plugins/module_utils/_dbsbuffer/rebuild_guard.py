# SPDX-License-Identifier: GPL-3.0-or-later
"""Nobody writes to the database from the plan to the swap of its tables: locks keep them from it.

MariaDB has no RENAME TABLE under LOCK TABLES, and takes a RENAME's locks one after the other: were all tables unlocked
at once, a writer that waits could get at a table before the RENAME does, and what it writes would be dropped with the
old table. So each table to be swapped is READ-locked by a session of its own, and each is unlocked only when the RENAME
waits for it: a waiting RENAME comes before waiting writers. All other tables are locked by one session more. Readers
are let through all the time, so the plan and the copy are made by sessions that hold no lock.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.driver_errors import DatabaseBusyError
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_tables import REBUILT, quoted
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_SESSIONS = "SELECT id, user, host FROM information_schema.processlist WHERE db = %s ORDER BY id"
_TABLES = """
    SELECT table_name FROM information_schema.tables
    WHERE table_schema = %s AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY table_name"""
_WRITES = "SELECT table_name, update_time FROM information_schema.tables WHERE table_schema = %s"

_IDLE = 86_400
"""Seconds that a session may wait while rows are copied, whatever the server's own limit is."""


def sessions(connection: Connection, own: Collection[int] = ()) -> list[str]:
    """Other sessions on this database that the account may see: its own, with the right PROCESS all. own: ids."""
    own = {*own, session_id(connection)}
    rows = connection.query(_SESSIONS, (connection.database,))
    return [f"{user}@{host} (session {number})" for number, user, host in rows if int(number) not in own]


def session_id(connection: Connection) -> int:
    """The server's number of a session."""
    return int(connection.query("SELECT CONNECTION_ID()")[0][0])


def wait_until_alone(connection: Connection, patience: float, own: Collection[int] = ()) -> list[str]:
    """Other sessions that are still there after a while: those of processes that were just ended need a moment.

    patience: seconds; own: ids
    """
    deadline = time.monotonic() + patience
    while (others := sessions(connection, own)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return others


@dataclass(frozen=True)
class Guards:
    """The sessions that hold the locks.

    held:     table to be swapped -> the session that holds it, in the order of names
    rest:     the session that holds all other tables
    watcher:  a session without locks, to watch the others
    reader:   a session without locks, for one thread that reads while this one goes on
    reading:  the server's number of that
    """

    held: dict[str, Connection]
    rest: Connection
    watcher: Connection
    reader: Connection
    reading: int

    @property
    def ids(self) -> set[int]:
        """The server's numbers of these sessions. Raises WMAgentError where one is gone, and its locks with it."""
        return {self.reading, *(session_id(one) for one in (*self.held.values(), self.rest, self.watcher))}

    def swap(self, connection: Connection, statement: str, lock_wait: float) -> None:
        """Run a RENAME of all held tables and hand them over one by one.

        lock_wait: seconds to wait for readers of each table. Raises WMAgentError, most likely with nothing renamed.
        """
        before = last_writes(self.watcher)
        with ThreadPoolExecutor(1) as pool:
            limits = f"lock_wait_timeout = {max(1, int(lock_wait))}, max_statement_time = 0"
            renaming = pool.submit(connection.execute, f"SET STATEMENT {limits} FOR {statement}")
            # In the order of names, as the server takes the locks. Where this fails, locks that are still held make the
            # RENAME run into its time limit, and the pool waits for that.
            for table, guard in self.held.items():
                self._wait_until_wanted(table, renaming)
                guard.execute("UNLOCK TABLES")
            renaming.result()
        self._check_writes(before)

    def _wait_until_wanted(self, table: str, renaming: Future[Any]) -> None:
        while not renaming.done():
            try:
                self.watcher.query(f"SET STATEMENT lock_wait_timeout = 0 FOR SELECT 1 FROM {table} LIMIT 0")
            except DatabaseBusyError:
                return  # a reader that is kept out of a READ-locked table: the RENAME waits
            time.sleep(0.001)

    def _check_writes(self, before: dict[str, Any]) -> None:
        # Who asks for a table's exclusive lock in the very moment of the swap could get it before the RENAME does. The
        # rest must be locked still: a row deleted there takes rows of the old tables with it, as of the new ones.
        after = last_writes(self.watcher)
        written = [table for table in REBUILT if before[table] != after.get(f"{table}__old")]
        if written:
            raise WMAgentError(
                f"{self.watcher.settings.where}: somebody wrote to {', '.join(written)} in the moment of the swap; it "
                "is in the tables of these names that end in __old: compare them before anything else"
            )


def last_writes(connection: Connection) -> dict[str, Any]:
    """When each table was last written, as far as the server knows."""
    return {str(table): updated for table, updated in connection.query(_WRITES, (connection.database,))}


@contextmanager
def guarded(connection: Connection, lock_wait: float) -> Iterator[Guards]:
    """Lock all tables against writers, for as long as the context lasts or until they are swapped.

    connection: whose database it is; gets no lock itself
    lock_wait:  seconds to wait for open transactions

    Raises WMAgentError that says what still writes.
    """
    limit = float(connection.query("SELECT @@max_statement_time")[0][0])
    names = [str(row[0]) for row in connection.query(_TABLES, (connection.database,))]
    with ExitStack() as stack:

        def opened() -> Connection:
            session = connect(connection.settings, read_only=False, statement_timeout=limit + 1 if limit else _IDLE)
            stack.enter_context(session)
            session.execute(f"SET SESSION wait_timeout = {_IDLE}, lock_wait_timeout = {max(1, int(lock_wait))}")
            return session

        held = {table: opened() for table in sorted(REBUILT)}
        rest, watcher, reader = opened(), opened(), opened()
        guards = Guards(held, rest, watcher, reader, session_id(reader))
        for table, guard in guards.held.items():
            _lock(guard, [table], lock_wait)
        _lock(guards.rest, [name for name in names if name not in REBUILT], lock_wait)
        yield guards


def _lock(guard: Connection, tables: Sequence[str], lock_wait: float) -> None:
    if not tables:
        return
    try:
        guard.execute(f"LOCK TABLES {', '.join(f'{quoted(table)} READ' for table in tables)}")
    except DatabaseBusyError:
        raise WMAgentError(
            f"{guard.settings.where}: open transactions still write to {', '.join(tables[:3])}"
            f"{' …' if len(tables) > 3 else ''} after {lock_wait:g} s; end those sessions"
        ) from None
