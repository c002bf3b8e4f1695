# SPDX-License-Identifier: GPL-3.0-or-later
"""What the old tables hold, read beside a rebuild by a session of its own: what the copy is verified with.

Reading all of them takes as long as copying, so it begins with what no plan is needed for, while the plan is made.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from types import TracebackType

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import rebuild_copy
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_recovery import definition
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_tables import REBUILT, Definition
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_LISTS = 1024 * 1024 * 1024
"""Bytes that the lists of workflows and placeholders may take in the server's memory."""


@dataclass(frozen=True)
class Expected:
    """What the old tables hold.

    total, stay: table -> rows in all, rows that stay
    sums:  table -> sum of those that stay
    placeholders: how many placeholders go
    """

    total: dict[str, int]
    stay: dict[str, int]
    sums: dict[str, int]
    placeholders: int


class OldTables:
    """The old tables while nobody can write to them; a context manager, whose end leaves off what is not read yet.

    reader: a session that nobody else uses until then
    definitions: table -> what it is like
    """

    def __init__(self, reader: Connection) -> None:
        self._reader = reader
        self._stop = Event()
        self._pool = ThreadPoolExecutor(1)
        self._total: Future[dict[str, int]]
        self._expected: Future[Expected]
        self.definitions: dict[str, Definition] = {}

    def __enter__(self) -> OldTables:
        self.definitions = {table: definition(self._reader, table) for table in REBUILT}
        self._total = self._pool.submit(self._count)
        return self

    def look_for_what_stays(self, workflows: Collection[int], placeholders: bool) -> None:
        """Begin to read what stays. workflows: rows whose files go; placeholders: so do those that need not stay."""
        self._expected = self._pool.submit(self._read, workflows, placeholders)

    @property
    def expected(self) -> Expected:
        """What was read; waits for it. Raises WMAgentError."""
        return self._expected.result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._pool.shutdown()

    def _count(self) -> dict[str, int]:
        total = {}
        for table, old in self.definitions.items():
            counts = {self._row(count)[0] for count in rebuild_copy.totals(old)}
            if len(counts) != 1:
                raise WMAgentError(f"table {table} has a damaged key: {counts} rows are found; repair it first")
            total[table] = counts.pop()
        return total

    def _read(self, workflows: Collection[int], placeholders: bool) -> Expected:
        self._reader.execute(f"SET SESSION max_heap_table_size = {_LISTS}")
        for statement in rebuild_copy.list_files(workflows, placeholders):
            self._go_on()
            self._reader.execute(statement)
        placed = self._row(f"SELECT COUNT(*) FROM {rebuild_copy.PLACED}")[0]
        found = Expected(self._total.result(), {}, {}, placed)
        for table, old in self.definitions.items():
            found.stay[table], found.sums[table] = self._row(rebuild_copy.expected(old))
        return found

    def _row(self, sql: str) -> tuple[int, ...]:
        self._go_on()
        return row_of(self._reader, sql)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise WMAgentError("the rebuild ended before this was read")


def row_of(connection: Connection, sql: str) -> tuple[int, ...]:
    """The one row of a statement that finds whole numbers. Raises WMAgentError."""
    return tuple(int(value) for value in connection.query(sql)[0])
