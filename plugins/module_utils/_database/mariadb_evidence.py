# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence from MariaDB with an ordinary account's rights on its own database.

InnoDB notes for each table when the last transaction that changed it was begun (UPDATE_TIME, set at its commit): also
for rows that a foreign key cascade changed, not for a transaction rolled back. What it does not say is made up for:

- It has a resolution of one second: a table written in the very second of the reading is checksummed, or, where it is
  too large for that, the reading waits until that second is over.
- A transaction still open could be committed later under an old time: the tables are locked for the moment of the
  reading, which waits for every transaction that wrote to or read from them. What no lock shows (a snapshot taken by
  ``WITH CONSISTENT SNAPSHOT``) needs a session of this account: those are part of the reading, and count where the
  server began any writing transaction since.
- TRUNCATE leaves it alone: whether each table is empty is part of the reading.
- It is lost when the server restarts: the exact start time is part of the reading.
- It is lost when InnoDB drops a table from its dictionary cache. Tables with foreign keys always stay there; for the
  others a checksum of the rows is part of the reading, or, where they are too large for that, the number of table
  definitions that the server has opened.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.driver_errors import DatabaseBusyError
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

SMALL = 1024 * 1024
"""Bytes up to which any table is checksummed: a few milliseconds at most."""

CHECKSUM_LIMIT = 16 * SMALL
"""Bytes up to which a table outside all foreign keys is checksummed."""

_SERVER = """
    SELECT @@hostname, @@port, @@datadir, @@server_id, VERSION(),
           CAST(UNIX_TIMESTAMP() - variable_value AS SIGNED), CAST(UNIX_TIMESTAMP() AS SIGNED)
    FROM information_schema.global_status WHERE variable_name = 'UPTIME'"""
_TABLES = """
    SELECT table_name, table_type, engine, CAST(UNIX_TIMESTAMP(create_time) AS SIGNED),
           CAST(UNIX_TIMESTAMP(update_time) AS SIGNED), data_length
    FROM information_schema.tables WHERE table_schema = %s ORDER BY table_name"""
_RELATED = """
    SELECT table_name, referenced_table_name
    FROM information_schema.referential_constraints WHERE constraint_schema = %s"""
_OPENED = """
    SELECT CAST(variable_value AS UNSIGNED)
    FROM information_schema.global_status WHERE variable_name = 'OPENED_TABLE_DEFINITIONS'"""
_LAST_TRANSACTION = """
    SELECT CAST(variable_value AS UNSIGNED)
    FROM information_schema.global_status WHERE variable_name = 'INNODB_MAX_TRX_ID'"""
_SESSIONS = """
    SELECT id, user, host FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND db = %s ORDER BY id"""
_LOCKABLE = ("BASE TABLE", "SYSTEM VERSIONED")

_UNKNOWN = "whether records were changed cannot be told"

# File times and UPDATE_TIME come from a clock that the kernel advances a few milliseconds late.
_CLOCK_LAG = 0.05


def read(connection: Connection, lock_wait: float) -> dict[str, Any]:
    """One reading; see :func:`evidence.read_records`."""
    # UPDATE_TIME is told in the session's time zone, where an hour may come twice.
    connection.execute("SET SESSION time_zone = '+00:00'")
    _let_sessions_end(connection)
    # LOCK TABLES … WRITE is refused to a read-only session, though it writes nothing.
    connection.execute("SET SESSION TRANSACTION READ WRITE")
    try:
        return _read_settled(connection, time.monotonic() + lock_wait, lock_wait)
    finally:
        _unlock(connection)


def _read_settled(connection: Connection, deadline: float, lock_wait: float) -> dict[str, Any]:
    while True:
        names = [row[0] for row in connection.query(_TABLES, (connection.database,)) if row[1] in _LOCKABLE]
        if not names:
            raise WMAgentError(f"{connection.settings.where}: database {connection.database} holds no table")
        now = _server_time(connection)
        _lock(connection, names, lock_wait)
        records = _read_locked(connection, names)
        wait = _note_unsettled(records, now)
        if wait <= 0:
            return records
        connection.execute("UNLOCK TABLES")
        if wait > 1 + 2 * _CLOCK_LAG:
            raise WMAgentError(
                f"{connection.settings.where}: a table was written {wait:.0f} s after the server's present time; "
                "set its clock right, then try again"
            )
        if time.monotonic() > deadline:
            raise WMAgentError(
                f"{connection.settings.where}: database {connection.database} is being written all the time; "
                "stop whatever does it, then try again"
            )
        time.sleep(wait)


def _note_unsettled(records: dict[str, Any], now: float) -> float:
    """Note which tables a later write could give a time that they show already; seconds until that is over for those
    that no checksum tells about.

    now: the server's time before the tables were locked, as a transaction may have waited since.
    """
    unsettled, wait = [], 0.0
    for name, entry in records["tables"].items():
        for key in ("created", "updated"):
            left = (entry.get(key) or 0) + 1 + _CLOCK_LAG - now
            if left <= 0:
                continue
            if key == "updated" and entry["checksum"] is not None:
                unsettled.append(name)
            else:
                wait = max(wait, left)
    records["unsettled"] = unsettled
    return wait


def _let_sessions_end(connection: Connection) -> None:
    """Give the sessions of processes that were just stopped a second to end."""
    deadline = time.monotonic() + 1
    while _other_sessions(connection) and time.monotonic() < deadline:
        time.sleep(0.05)


def _other_sessions(connection: Connection) -> list[str]:
    """Sessions of this account on this database besides this one."""
    return [f"{user}@{host} ({number})" for number, user, host in connection.query(_SESSIONS, (connection.database,))]


def _read_locked(connection: Connection, names: Sequence[str]) -> dict[str, Any]:
    rows = connection.query(_TABLES, (connection.database,))
    if [row[0] for row in rows if row[1] in _LOCKABLE] != list(names):
        raise WMAgentError(f"{connection.settings.where}: tables came or went during the reading; try again")
    pinned = {name for pair in connection.query(_RELATED, (connection.database,)) for name in pair}
    empty = _which_are_empty(connection, names)
    tables = {}
    for name, kind, engine, created, updated, length in rows:
        entry: dict[str, Any] = {"kind": kind}
        if kind in _LOCKABLE:
            remembered = name in pinned and engine == "InnoDB"
            entry |= {
                "created": created,
                "updated": updated,
                "empty": empty[name],
                "remembered": remembered,
                "checksum": _checksum(connection, name, length, SMALL if remembered else CHECKSUM_LIMIT),
            }
        tables[name] = entry
    hostname, port, folder, identity, version, started, now = connection.query(_SERVER)[0]
    if "mariadb" not in str(version).lower():
        raise WMAgentError(f"{connection.settings.where} is no MariaDB ({version}); this evidence is MariaDB's")
    return {
        "dialect": connection.dialect,
        "database": connection.database,
        "server": {
            "hostname": hostname,
            "port": int(port),
            "datadir": folder,
            "server_id": int(identity),
            "version": version,
            "started": int(started),
        },
        "tables": tables,
        "sessions": _other_sessions(connection),
        "last_transaction": _last_transaction(connection),
        # Read last: what this reading itself opened is counted in.
        "definitions_opened": int(connection.query(_OPENED)[0][0]),
        "taken": int(now),
    }


def _lock(connection: Connection, names: Sequence[str], lock_wait: float) -> None:
    connection.execute(f"SET SESSION lock_wait_timeout = {max(1, int(lock_wait))}")
    # The statement's own limit must not come first: its error would not say that a lock is the reason.
    connection.execute(f"SET SESSION max_statement_time = {lock_wait + 5}")
    try:
        connection.execute(f"LOCK TABLES {', '.join(f'{_quoted(name)} WRITE' for name in names)}")
    except DatabaseBusyError:
        busy = _busy_tables(connection, names)
        raise WMAgentError(
            f"{connection.settings.where}: open transactions still use {', '.join(busy[:5]) or 'its tables'} after "
            f"{lock_wait:g} s; end those sessions"
        ) from None


def _busy_tables(connection: Connection, names: Sequence[str]) -> list[str]:
    busy = []
    connection.execute("SET SESSION lock_wait_timeout = 0")
    for name in names:
        try:
            connection.execute(f"LOCK TABLES {_quoted(name)} WRITE")
        except DatabaseBusyError:
            busy.append(name)
        finally:
            connection.execute("UNLOCK TABLES")
    return busy


def _unlock(connection: Connection) -> None:
    try:
        connection.execute("UNLOCK TABLES")
        if connection.read_only:
            connection.execute("SET SESSION TRANSACTION READ ONLY")
    except WMAgentError:  # a session that is gone holds no lock either; the first error is the one to tell
        return


def _which_are_empty(connection: Connection, names: Sequence[str]) -> dict[str, bool]:
    tests = [f"EXISTS (SELECT 1 FROM {_quoted(name)})" for name in names]  # noqa: S608 - names from the dictionary
    row = connection.query(f"SELECT {', '.join(tests)}")[0]
    return {name: not value for name, value in zip(names, row, strict=True)}


def _checksum(connection: Connection, name: str, length: int | None, limit: int) -> int | None:
    if length is None or length > limit:
        return None
    value = connection.query(f"CHECKSUM TABLE {_quoted(name)} EXTENDED")[0][1]
    if value is None:
        raise WMAgentError(f"{connection.settings.where}: table {name} cannot be read; repair it first")
    return int(value)


def _last_transaction(connection: Connection) -> int | None:
    rows = connection.query(_LAST_TRANSACTION)
    return int(rows[0][0]) if rows else None


def _server_time(connection: Connection) -> float:
    return float(connection.query("SELECT UNIX_TIMESTAMP(NOW(6))")[0][0])


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What was changed between two readings of the same database; see :func:`evidence.compare_records`."""
    one, two = dict(before["server"]), dict(after["server"])
    started = one.pop("started"), two.pop("started")
    if one != two:
        different = [f"{key} {one.get(key)} and {two.get(key)}" for key in sorted(one) if one.get(key) != two.get(key)]
        return [f"the readings are of different servers: {', '.join(different)}"]
    if started[0] != started[1]:
        return [f"MariaDB was restarted at {_clock(started[1])}: {_UNKNOWN}"]
    if after["taken"] < before["taken"]:
        return [f"the server's clock went back: {_UNKNOWN}"]
    reopened = before["definitions_opened"] != after["definitions_opened"]
    lines = []
    for name in sorted(before["tables"].keys() | after["tables"].keys()):
        one, two = before["tables"].get(name), after["tables"].get(name)
        if line := _compare_table(one, two, reopened, name in before["unsettled"]):
            lines.append(f"{name}: {line}")
    wrote = before["last_transaction"] is None or before["last_transaction"] != after["last_transaction"]
    if not lines and before["sessions"] and wrote:
        lines.append(
            f"{', '.join(before['sessions'])} was connected and the server wrote something since: "
            f"{_UNKNOWN}; end that session"
        )
    return lines


def _compare_table(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, reopened: bool, unsettled: bool
) -> str | None:
    if before is None or after is None:
        return "was created" if before is None else "was dropped or renamed"
    if any(before.get(key) != after.get(key) for key in ("kind", "created", "remembered")):
        return f"its definition was changed at {_clock(after.get('created'))}"
    if before.get("empty") != after.get("empty"):
        return "was emptied" if after.get("empty") else "was filled"
    sums = before.get("checksum"), after.get("checksum")
    known = None not in sums
    if known and sums[0] != sums[1]:
        return "its rows have another checksum"
    if before.get("updated") != after.get("updated"):
        if after["updated"] is not None:
            return f"was written at {_clock(after['updated'])}"
        if before["remembered"] or not known:
            return f"the server forgot when it was last written: {_UNKNOWN}"
    if unsettled and not known:
        return f"was written in the second of the first reading and has grown since: {_UNKNOWN}"
    if before.get("remembered") is False and not known and reopened:
        return f"is too large for a checksum and was reopened: {_UNKNOWN}"
    return None


def _clock(seconds: int | None) -> str:
    if seconds is None:
        return "an unknown time"
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
