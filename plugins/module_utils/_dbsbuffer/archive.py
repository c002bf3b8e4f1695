# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of one cleanup: every row that it deletes, in a file that a crash leaves readable.

A file of gzip members, so ``zcat`` shows it. Each member is one step of the cleanup: lines of JSON, at its end a mark
with the number of rows. The first member says what the archive is of and which datasets, algos, locations and checksum
types the rows refer to; a last one says that nothing is missing. :mod:`archive_reader` reads it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import BLOCK, CLEANED, FILE, NEEDED
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.durable import sync_folder

FORMAT = 1

REFERENCES = {
    "dbsbuffer_algo_dataset_assoc": """
        SELECT a.id, d.path, g.app_name, g.app_ver, g.app_fam, g.pset_hash FROM dbsbuffer_algo_dataset_assoc a
        INNER JOIN dbsbuffer_dataset d ON d.id = a.dataset_id INNER JOIN dbsbuffer_algo g ON g.id = a.algo_id""",
    "dbsbuffer_dataset": "SELECT d.id, d.path FROM dbsbuffer_dataset d",
    "dbsbuffer_location": "SELECT l.id, l.pnn FROM dbsbuffer_location l",
    "dbsbuffer_checksum_type": "SELECT t.id, t.type FROM dbsbuffer_checksum_type t",
}
"""What archived rows refer to and no cleanup deletes: the id, and what tells one from another in a rebuilt database."""

REFERRING = {
    FILE: {"dataset_algo": "dbsbuffer_algo_dataset_assoc"},
    BLOCK: {"dataset_id": "dbsbuffer_dataset", "location": "dbsbuffer_location"},
    "dbsbuffer_file_location": {"location": "dbsbuffer_location"},
    "dbsbuffer_file_checksums": {"typeid": "dbsbuffer_checksum_type"},
}
"""Columns of deleted tables that refer to those."""

_ROWS_A_LINE = 1000
_COMPRESSION = 1
_GZIP = 31
_LONGEST_GROUP = 16 * 1024 * 1024
_INTEGERS = frozenset(["tinyint", "smallint", "mediumint", "int", "bigint"])
_NAME = re.compile(r"[a-z_]\w*", re.IGNORECASE | re.ASCII)

_MARIADB_COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns WHERE table_schema = %s"""
_ORACLE_COLUMNS = "SELECT table_name, column_name, data_type, nullable FROM user_tab_columns"


class Archive:
    """An archive being written. For each step: lock the rows, :meth:`add` them, delete them, :meth:`sync`, commit.

    A context manager: :meth:`close` at the end; where something was raised, the rows since the last :meth:`sync` are
    dropped before. An archive without any step is removed.
    """

    def __init__(self, path: Path, handle: int, about: dict[str, Any]) -> None:
        self.path = path
        self.rows: Counter[str] = Counter()
        self._handle = handle
        self._about = about
        self._columns: dict[str, dict[str, tuple[str, bool]]] = {}
        self._pack = zlib.compressobj(_COMPRESSION, zlib.DEFLATED, _GZIP)
        self._step_rows: Counter[str] = Counter()
        self._steps = 0
        self._kept = 0

    @classmethod
    def create(cls, folder: Path, database: str, dialect: str, now: float) -> Archive:
        """Make a new file ``dbsbuffer-<database>-<UTC time>.jsonl.gz`` that only its owner may read.

        now: UNIX time, seconds. Raises WMAgentError where the folder cannot take it or the file is there already.
        """
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        path = folder / f"dbsbuffer-{re.sub(r'[^A-Za-z0-9_.-]', '_', database)}-{stamp}.jsonl.gz"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            sync_folder(folder)
        except OSError as error:
            raise WMAgentError(
                f"the archive {path} cannot be made ({error.strerror}); name a folder that exists and can be written"
            ) from None
        return cls(path, handle, {"format": FORMAT, "database": database, "dialect": dialect, "time": int(now)})

    def add(self, connection: Connection, table: str, condition: str) -> int:
        """Append all rows of a table for which an SQL condition holds; return how many there were.

        connection: the session that deletes them, in the same transaction, their files locked
        condition:  names columns without an alias, as ``tables.between`` and ``tables.in_list`` make it

        Add each row once, and what belongs to a file in the file's own step. Raises WMAgentError: then roll back.
        """
        if not self._columns:
            self._begin(connection)
        columns = self._columns[table]
        packed = connection.dialect == MARIADB and all(kind in _INTEGERS for kind, _ in columns.values())
        lines = _packed_lines if packed else _lines
        added = 0
        for count, text in lines(connection, table, columns, condition):
            self._write_line(f'["{table}",{count},{text}]')
            added += count
        self._step_rows[table] += added
        return added

    def sync(self) -> None:
        """Have all that was added on disk as one more step; nothing to do where nothing was. Raises WMAgentError."""
        if not self._step_rows.total():
            return
        self._steps += 1
        self._end_member({"step": self._steps, "rows": dict(+self._step_rows)})
        self.rows += self._step_rows
        self._step_rows.clear()

    def discard(self) -> None:
        """Drop what was added since the last :meth:`sync`, as where its step is rolled back. Raises WMAgentError."""
        self._step_rows.clear()
        self._pack = zlib.compressobj(_COMPRESSION, zlib.DEFLATED, _GZIP)
        try:
            os.ftruncate(self._handle, self._kept)
            os.lseek(self._handle, self._kept, os.SEEK_SET)
        except OSError as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        """Sync, mark the archive as complete, and close it. Raises WMAgentError."""
        try:
            self.sync()
            if self._steps:
                self._end_member({"end": self._steps})
            else:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None
        finally:
            os.close(self._handle)

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.discard()
        self.close()

    def _begin(self, connection: Connection) -> None:
        columns = read_columns(connection)
        about = self._about | {"columns": {table: list(found) for table, found in columns.items()}}
        self._write_line(_encoded(about))
        rows = Counter({name: self._add_reference(connection, name) for name in REFERENCES})
        self._end_member({"step": 0, "rows": dict(rows)})
        self._columns = columns

    def _add_reference(self, connection: Connection, name: str) -> int:
        added = 0
        for batch in _batches(connection.stream(REFERENCES[name])):
            self._write_line(f'["{name}",{len(batch)},{_encoded(batch)}]')
            added += len(batch)
        return added

    def _write_line(self, text: str) -> None:
        self._write(self._pack.compress(text.encode("ascii") + b"\n"))

    def _end_member(self, mark: dict[str, Any]) -> None:
        self._write_line(_encoded(mark))
        self._write(self._pack.flush())
        try:
            os.fsync(self._handle)
        except OSError as error:
            raise self._unwritable(error) from None
        self._pack = zlib.compressobj(_COMPRESSION, zlib.DEFLATED, _GZIP)
        self._kept = os.lseek(self._handle, 0, os.SEEK_CUR)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> WMAgentError:
        return WMAgentError(
            f"the archive {self.path} cannot be written ({error.strerror}); what is not in it must not be deleted: "
            "make room there and run again"
        )


def read_columns(connection: Connection) -> dict[str, dict[str, tuple[str, bool]]]:
    """Table → column → its type and whether it may be NULL; columns that rules name first, keys before all."""
    if connection.dialect == MARIADB:
        rows = connection.query(_MARIADB_COLUMNS, (connection.database,))
    else:
        rows = connection.query(_ORACLE_COLUMNS)
    found: dict[str, dict[str, tuple[str, bool]]] = {table: {} for table in CLEANED}
    for table, column, kind, nullable in sorted(rows, key=_place):
        if str(table).lower() in found:
            found[str(table).lower()][checked_name(str(column).lower())] = (str(kind).lower(), nullable[0] != "N")
    if missing := [table for table, columns in found.items() if not columns]:
        raise WMAgentError(f"database {connection.database} has no table {', '.join(missing)}; is it an agent's?")
    return found


def _place(row: tuple[Any, ...]) -> tuple[int, str]:
    column = str(row[1]).lower()
    known = NEEDED.get(str(row[0]).lower(), ())
    return (known.index(column) if column in known else len(known), column)


def checked_name(name: str) -> str:
    """The name of a table or column where a statement may hold it as it stands. Raises WMAgentError."""
    if not _NAME.fullmatch(name):
        raise WMAgentError(f"{name!r} is no name of a table or column that this collection knows how to write")
    return name


def _lines(connection: Connection, table: str, columns: Iterable[str], condition: str) -> Iterator[tuple[int, str]]:
    """How many rows, and the rows as JSON; many at a time."""
    for batch in _batches(connection.stream(f"SELECT {', '.join(columns)} FROM {table} WHERE {condition}")):
        yield len(batch), _encoded(batch)


def _packed_lines(
    connection: Connection, table: str, columns: dict[str, tuple[str, bool]], condition: str
) -> Iterator[tuple[int, str]]:
    """The same for a table of integers: the server puts a file's rows together, which takes a third of the time."""
    values = ", ".join(f"IFNULL({name}, 'null')" if nullable else name for name, (_, nullable) in columns.items())
    connection.execute(f"SET SESSION group_concat_max_len = {_LONGEST_GROUP}")
    groups = connection.stream(
        f"SELECT COUNT(*), GROUP_CONCAT('[', CONCAT_WS(',', {values}), ']') FROM {table} WHERE {condition} "
        f"GROUP BY {next(iter(columns))}"
    )
    rows, pieces = 0, []
    for count, piece in groups:
        # A group that is too long for the server comes cut off, with a warning that nobody reads.
        if piece is None or not piece.endswith("]") or piece.count("]") != count:
            raise WMAgentError(f"one file has {count} rows in {table}, too many to archive; leave its workflow out")
        rows += int(count)
        pieces.append(piece)
        if rows >= _ROWS_A_LINE:
            yield rows, f"[{','.join(pieces)}]"
            rows, pieces = 0, []
    if pieces:
        yield rows, f"[{','.join(pieces)}]"


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    while batch := list(islice(rows, _ROWS_A_LINE)):
        yield batch


def plain(value: Any) -> Any:
    """A value as an archive gives it back: a whole decimal number is an integer."""
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    return value


def _tagged(value: Any) -> Any:
    if isinstance(value, Decimal):
        whole = plain(value)
        return whole if isinstance(whole, int) else {"decimal": str(value)}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": base64.b64encode(value).decode("ascii")}
    raise WMAgentError(f"a value of type {type(value).__name__} cannot be archived; the table has a column new to it")


_encoded = json.JSONEncoder(separators=(",", ":"), default=_tagged, check_circular=False).encode
