# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the rows of an archive back: each where it was, none twice, nothing that is there now overwritten.

Everything is checked before anything is written, and checked again in the transaction that writes it. One transaction
puts back one table's rows of one step (a file's with its children), so that an interrupted run goes on with what is
left. Steps are read from the last to the first: a file that is in a later one too was not deleted by the earlier one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, ORACLE, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import restore_checks as checks
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.archive_reader import Contents, Step, read_rows
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import (
    BLOCK,
    CHILDREN,
    FILE,
    PARENT,
    WORKFLOW,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

RUNLUMI = "dbsbuffer_file_runlumi_map"
FILES_OWN = ("dbsbuffer_file_checksums", "dbsbuffer_file_location", RUNLUMI)
"""Children of one file each; the last has no key, so its rows come back only with their file."""

PASSES = ((WORKFLOW,), (BLOCK,), (FILE, *FILES_OWN), (PARENT,))
"""The order in which foreign keys let rows come back."""

_FILE_COLUMN = {table: columns[0] for table, columns in CHILDREN}
_ROWS_A_STATEMENT = {MARIADB: 1000, ORACLE: 200}


@dataclass
class Restored:
    """Rows by table: put back (or, in a check, that would be), and left alone since they are there or void."""

    inserted: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)


def restore(connection: Connection, contents: Contents, *, check: bool = False) -> Restored:
    """Put back what an archive holds and the database lacks.

    connection: may write, unless ``check``
    check:      write nothing, tell what would be

    Raises WMAgentError, with nothing of the step at hand written and mostly nothing at all: the archive is of another
    kind of database, what rows refer to is not there or another one, an id or a name is taken by other contents.
    """
    checks.check_columns(connection, contents)
    references = checks.References(connection, contents)
    found = _Run(connection, contents, references, write=False).run()
    return found if check else _Run(connection, contents, references, write=True).run()


class Numbers:
    """A set of numbers of 0 or more; dense ones take a bit each."""

    _PAGE = 16

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = defaultdict(lambda: bytearray(1 << (self._PAGE - 3)))

    def add(self, number: int) -> None:
        """Put one in."""
        page, at = divmod(number, 1 << self._PAGE)
        self._pages[page][at >> 3] |= 1 << (at & 7)

    def __contains__(self, number: int) -> bool:
        page, at = divmod(number, 1 << self._PAGE)
        return page in self._pages and bool(self._pages[page][at >> 3] & 1 << (at & 7))


@dataclass
class _Owners:
    """Ids of a step's files, by what became of them; void: a later step has them, so this one did not delete them."""

    inserted: Numbers = field(default_factory=Numbers)
    there: Numbers = field(default_factory=Numbers)
    void: Numbers = field(default_factory=Numbers)


class _Run:
    """One way through the archive; ``write``: put rows back, else only look."""

    def __init__(self, connection: Connection, contents: Contents, references: checks.References, write: bool) -> None:
        self._connection = connection
        self._contents = contents
        self._references = references
        self._write = write
        self._seen = {table: Numbers() for table in (WORKFLOW, BLOCK, FILE)}
        self._undone: set[int] = set()
        self._result = Restored()

    def run(self) -> Restored:
        for tables in PASSES:
            for step in reversed(self._contents.steps):
                if any(table in step.rows for table in tables):
                    self._put_back(step, tables)
        return self._result

    def _put_back(self, step: Step, tables: Sequence[str]) -> None:
        with self._transaction():
            if tables == (PARENT,):
                self._put_links(step)
                return
            owners = self._put_owners(step, tables[0])
            for table in tables[1:]:
                self._put_children(step, table, owners)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._write:
            yield
            return
        self._connection.begin()
        try:
            yield
            self._connection.commit()
        except BaseException:
            with suppress(WMAgentError):  # the first error is the one to tell
                self._connection.rollback()
            raise

    def _put_owners(self, step: Step, table: str) -> _Owners:
        owners = _Owners()
        seen = self._seen[table]
        for batch in self._batches(step, table):
            rows: dict[int, dict[str, Any]] = {}
            for row in batch:
                if row["id"] not in seen:
                    rows[row["id"]] = row
                elif row["id"] not in owners.inserted and row["id"] not in owners.there:
                    owners.void.add(row["id"])
                    self._undone.add(step.start)
            self._result.skipped[table] += len(batch) - len(rows)
            for number in rows:
                seen.add(number)
            for row in self._put(table, rows.values()):
                owners.inserted.add(row["id"])
                del rows[row["id"]]
            for number in rows:
                owners.there.add(number)
        return owners

    def _put_children(self, step: Step, table: str, owners: _Owners) -> None:
        key = _FILE_COLUMN[table]
        for batch in self._batches(step, table):
            fresh = [row for row in batch if row[key] in owners.inserted]
            old = [row for row in batch if row[key] in owners.there]
            void = [row for row in batch if row[key] in owners.void]
            if len(fresh) + len(old) + len(void) < len(batch):
                raise WMAgentError(
                    f"{self._contents.file} has rows of {table} in a step without their files; "
                    "this collection writes no such archive"
                )
            self._result.skipped[table] += len(void)
            self._references.check(table, fresh)
            self._insert(table, fresh)
            if table == RUNLUMI:
                self._result.skipped[table] += len(old)
            else:
                self._put(table, old)

    def _put_links(self, step: Step) -> None:
        if step.start in self._undone:
            self._result.skipped[PARENT] += step.rows[PARENT]
            return
        for batch in self._batches(step, PARENT):
            self._put(PARENT, batch)

    def _put(self, table: str, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Check rows that have a key, put back those that are missing, and return them."""
        wanted = list(rows)
        if not wanted:
            return []
        missing = checks.missing_rows(self._connection, self._contents.file, table, wanted)
        self._result.skipped[table] += len(wanted) - len(missing)
        self._references.check(table, missing)
        for column, owner in checks.OWNERS.get(table, {}).items():
            needed = {row[column] for row in missing if row[column] is not None}
            needed = {number for number in needed if number not in self._seen[owner]}
            checks.check_owners(self._connection, table, column, owner, needed)
        self._insert(table, missing)
        return missing

    def _insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        self._result.inserted[table] += len(rows)
        if not self._write:
            return
        columns = self._contents.columns[table]
        most = _ROWS_A_STATEMENT[self._connection.dialect]
        for at in range(0, len(rows), most):
            part = rows[at : at + most]
            done = self._connection.execute(*insertion(self._connection.dialect, table, columns, part))
            if done != len(part):
                raise WMAgentError(f"{table} took {done} of {len(part)} rows; does it have a trigger?")

    def _batches(self, step: Step, table: str) -> Iterator[list[dict[str, Any]]]:
        columns = self._contents.columns[table]
        for rows in read_rows(self._contents, step, table):
            yield [dict(zip(columns, row, strict=True)) for row in rows]


def insertion(
    dialect: str, table: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]
) -> tuple[str, list[Any]]:
    """A statement that inserts rows, and its parameters. Pure."""
    # A literal NULL or number has no type that Oracle would compare with the row above.
    params: list[Any] = []
    text = "%s" if dialect == MARIADB else "CAST(%s AS VARCHAR2(4000))"

    def written(value: Any) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, int):
            return str(int(value))
        params.append(value)
        return text if isinstance(value, str) else "%s"

    lines = [", ".join([written(row[column]) for column in columns]) for row in rows]
    head = f"INSERT INTO {table} ({', '.join(columns)})"
    if dialect == MARIADB:
        return f"{head} VALUES ({'), ('.join(lines)})", params
    return f"{head} {' UNION ALL '.join(f'SELECT {line} FROM DUAL' for line in lines)}", params
