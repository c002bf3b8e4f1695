# SPDX-License-Identifier: GPL-3.0-or-later
"""How much room DBSBuffer's tables take, and giving back what deleted rows leave behind.

Deleting makes room for new rows in a table; its file only gets smaller when the table is written anew. InnoDB's own
``data_free`` counts whole free extents and no half-empty page, so what the live rows would take is worked out from the
columns and indexes as well.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.packed import packed_bytes
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.space_plan import Size
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import CLEANED
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_MARIADB_SIZES = """
    SELECT table_name, data_length, index_length, data_free FROM information_schema.tables WHERE table_schema = %s"""
_ORACLE_TABLES = """
    SELECT s.segment_name, SUM(s.bytes) FROM user_segments s
    WHERE s.segment_type LIKE 'TABLE%' GROUP BY s.segment_name"""
_ORACLE_INDEXES = """
    SELECT i.table_name, SUM(s.bytes) FROM user_indexes i
    INNER JOIN user_segments s ON s.segment_name = i.index_name GROUP BY i.table_name"""
_ROW_MOVEMENT = "SELECT t.row_movement FROM user_tables t WHERE t.table_name = %s"
_PURGE = """
    SELECT variable_name, variable_value FROM information_schema.global_status
    WHERE variable_name IN ('INNODB_HISTORY_LIST_LENGTH', 'INNODB_MAX_TRX_ID')"""

_NO_VIEW = "ORA-00942"
_NOT_SHRUNK = {
    "ORA-10635": "its tablespace has no automatic segment space management (ASSM); let the DBA move it to one that has",
    "ORA-10636": "row movement is not enabled for it; let the DBA run ALTER TABLE … ENABLE ROW MOVEMENT",
    "ORA-10631": "Oracle shrinks no table of its kind; let the DBA move it",
}


@dataclass(frozen=True)
class Optimized:
    """What writing a table anew gave. gained: bytes, None where nobody can tell. problem: why nothing was done."""

    table: str
    gained: int | None
    problem: str = ""


def count_rows(connection: Connection) -> dict[str, int]:
    """Table → rows, of every table that a cleanup deletes from; exact. Raises WMAgentError."""
    return {table: int(connection.query(f"SELECT COUNT(*) FROM {table}")[0][0]) for table in CLEANED}


def table_sizes(connection: Connection) -> dict[str, Size]:
    """The size of every table that a cleanup deletes from.

    On MariaDB a session that may write has InnoDB look anew (it samples a few pages: milliseconds); a read-only one
    gets what it noted last, up to a tenth of the rows ago. Raises WMAgentError.
    """
    rows = count_rows(connection)
    if connection.dialect == MARIADB:
        return _mariadb_sizes(connection, rows)
    try:
        data = _by_table(connection.query(_ORACLE_TABLES))
        indexes = _by_table(connection.query(_ORACLE_INDEXES))
    except WMAgentError as error:
        if _NO_VIEW not in str(error):
            raise
        return {table: Size(count, unknown="the dictionary has no user_segments") for table, count in rows.items()}
    unknown = "Oracle's dictionary does not tell how full a segment is"
    return {
        table: Size(count, data.get(table, 0), indexes.get(table, 0), unknown=unknown) for table, count in rows.items()
    }


def _mariadb_sizes(connection: Connection, rows: Mapping[str, int]) -> dict[str, Size]:
    found = _mariadb_bytes(connection, rows)
    shared = connection.query("SELECT @@innodb_file_per_table")[0][0] == 0
    sizes = {}
    for table, count in rows.items():
        data, indexes, free = found[table]
        if shared:
            sizes[table] = Size(count, data, indexes, unknown="innodb_file_per_table is off: all tables share one file")
        else:
            sizes[table] = Size(count, data, indexes, free, packed_bytes(connection, table, count))
    return sizes


def _mariadb_bytes(connection: Connection, tables: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    names = list(tables)
    if not connection.read_only:
        # Where the server is set to keep statistics of its own beside InnoDB's, ANALYZE would read every row.
        connection.execute("SET SESSION use_stat_tables = 'never'")
        connection.query(f"ANALYZE NO_WRITE_TO_BINLOG TABLE {', '.join(names)}")
    rows = connection.query(_MARIADB_SIZES, (connection.database,))
    found = {str(table).lower(): (int(data), int(index), int(free)) for table, data, index, free in rows if data}
    return {table: found.get(table, (0, 0, 0)) for table in names}


def _by_table(rows: Iterable[Sequence[object]]) -> dict[str, int]:
    return {str(table).lower(): int(str(size)) for table, size in rows}


def optimize(connection: Connection, table: str) -> Optimized:
    """Have a table give unused space back. Its definition stays as it is, to the byte.

    connection: may write; its statements' time limit has to do for all of the table. MariaDB writes the table anew
                while others read and write it, and locks them out for a moment at both ends.

    Raises WMAgentError; the table is as it was then.
    """
    if connection.dialect != MARIADB:
        return _shrink(connection, table)
    before = sum(_mariadb_bytes(connection, [table])[table])
    answer = [(str(kind).lower(), str(text)) for _, _, kind, text in connection.query(f"OPTIMIZE TABLE {table}")]
    errors = [text for kind, text in answer if kind == "error"]
    # "doing recreate + analyze instead" is a note, and what is wanted.
    if errors or ("status", "OK") not in answer:
        raise WMAgentError(
            f"{connection.settings.where}: OPTIMIZE TABLE {table} failed ({(errors or [str(answer)])[0]}); "
            "the table is as it was. Look at the disk's free space, or allow more time"
        )
    return Optimized(table, before - sum(_mariadb_bytes(connection, [table])[table]))


def _shrink(connection: Connection, table: str) -> Optimized:
    movement = connection.query(_ROW_MOVEMENT, (table.upper(),))
    # To enable it would change the table's definition.
    if not movement or movement[0][0] != "ENABLED":
        return Optimized(table, None, f"{table} was not shrunk: {_NOT_SHRUNK['ORA-10636']}")
    before = _segments(connection, table)
    try:
        connection.execute(f"ALTER TABLE {table} SHRINK SPACE CASCADE")
    except WMAgentError as error:
        reason = next((words for code, words in _NOT_SHRUNK.items() if code in str(error)), "")
        if not reason:
            raise
        return Optimized(table, None, f"{table} was not shrunk: {reason}")
    return Optimized(table, before - _segments(connection, table))


def _segments(connection: Connection, table: str) -> int:
    return sum(_by_table(connection.query(query)).get(table, 0) for query in (_ORACLE_TABLES, _ORACLE_INDEXES))


def free_disk(connection: Connection) -> int | None:
    """Bytes free where a MariaDB server on this host keeps its tables; None where that cannot be seen from here."""
    if connection.dialect != MARIADB:
        return None
    folder, host = connection.query("SELECT @@datadir, @@hostname")[0]
    if host != socket.gethostname():
        return None
    try:
        disk = os.statvfs(folder)
    except OSError:  # a container's folder, or one that this account may not look into
        return None
    return disk.f_bavail * disk.f_frsize


def wait_for_purge(
    connection: Connection,
    timeout: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until InnoDB has removed for good what was deleted before the call; only then the space shows as free.

    timeout: seconds. Returns False where it has not by then, as where a transaction begun long ago is still open.
    """
    if connection.dialect != MARIADB:
        return True
    deadline = clock() + timeout
    begun = _purge_status(connection)["innodb_max_trx_id"]
    while True:
        status = _purge_status(connection)
        # First in, first out: what is still to be purged is younger than the call where it is no more than was
        # committed since. A transaction takes a number at its begin and one at its commit.
        if status["innodb_history_list_length"] <= (status["innodb_max_trx_id"] - begun) // 2:
            return True
        if clock() >= deadline:
            return False
        sleep(0.1)


def _purge_status(connection: Connection) -> dict[str, int]:
    return {str(name).lower(): int(value) for name, value in connection.query(_PURGE)}
