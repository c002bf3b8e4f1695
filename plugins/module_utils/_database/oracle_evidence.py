# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence from Oracle with an ordinary account's rights on its own tables.

For each table the number of rows and the newest ORA_ROWSCN: a committed insert or update raises the latter, a delete
lowers the former. Both are exact, at the cost of reading every table once. TRUNCATE and changes of a definition show in
USER_OBJECTS. The tables are locked in share mode first, so no transaction is open that could be committed later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

SERVER = "SELECT SYS_CONTEXT('USERENV', 'DB_UNIQUE_NAME'), SYS_CONTEXT('USERENV', 'CON_NAME') FROM DUAL"
TABLES = """
    SELECT o.object_name, o.object_id, o.data_object_id, TO_CHAR(o.last_ddl_time, 'YYYY-MM-DD"T"HH24:MI:SS')
    FROM user_objects o
    JOIN user_tables t ON t.table_name = o.object_name AND t.dropped = 'NO'
    WHERE o.object_type = 'TABLE' ORDER BY o.object_name"""
TIME = "SELECT TO_CHAR(SYSDATE, 'YYYY-MM-DD\"T\"HH24:MI:SS') FROM DUAL"
_NAME = re.compile(r"^[A-Za-z][\w$#]*$")


def lock_statement(names: list[str], lock_wait: float) -> str:
    """Keeps writers out of these tables until the transaction ends."""
    return f"LOCK TABLE {', '.join(names)} IN SHARE MODE WAIT {max(1, int(lock_wait))}"


def content_statement(name: str) -> str:
    """Number of rows and newest change of one table."""
    return f"SELECT COUNT(*), MAX(ORA_ROWSCN) FROM {name}"  # noqa: S608 - a plain name, checked


def read(connection: Connection, lock_wait: float) -> dict[str, Any]:
    """One reading; see :func:`evidence.read_records`."""
    # A read-only transaction sees what was committed before its begin, which is too early here: end it.
    connection.execute("ROLLBACK")
    try:
        rows = connection.query(TABLES)
        names = [row[0] for row in rows]
        if not names:
            raise WMAgentError(f"{connection.settings.where}: account {connection.database} owns no table")
        if odd := [name for name in names if not _NAME.match(name)]:
            raise WMAgentError(f"{connection.settings.where}: table {odd[0]!r} has no plain name; rename or drop it")
        connection.execute(lock_statement(names, lock_wait))
        rows = connection.query(TABLES)
        tables = {}
        for name, object_id, data_id, changed in rows:
            count, newest = connection.query(content_statement(name))[0]
            tables[name] = {
                "object_id": int(object_id),
                "data_object_id": None if data_id is None else int(data_id),
                "last_ddl": changed,
                "rows": int(count),
                "newest_change": None if newest is None else int(newest),
            }
        name, container = connection.query(SERVER)[0]
        taken = connection.query(TIME)[0][0]
    finally:
        connection.rollback()
    return {
        "dialect": connection.dialect,
        "database": connection.database,
        "server": {"name": name, "container": container},
        "tables": tables,
        "taken": taken,
    }


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What was changed between two readings of the same account; see :func:`evidence.compare_records`."""
    if before["server"] != after["server"]:
        return [f"the readings are of different servers: {before['server']['name']} and {after['server']['name']}"]
    lines = []
    for name in sorted(before["tables"].keys() | after["tables"].keys()):
        one, two = before["tables"].get(name), after["tables"].get(name)
        if one is None or two is None:
            lines.append(f"{name}: was {'created' if one is None else 'dropped or renamed'}")
        elif one["data_object_id"] != two["data_object_id"]:
            lines.append(f"{name}: was truncated or rebuilt at {two['last_ddl']}")
        elif one["object_id"] != two["object_id"] or one["last_ddl"] != two["last_ddl"]:
            lines.append(f"{name}: its definition was changed at {two['last_ddl']}")
        elif one["rows"] != two["rows"]:
            lines.append(f"{name}: {two['rows'] - one['rows']:+d} rows")
        elif one["newest_change"] != two["newest_change"]:
            lines.append(f"{name}: rows were written")
    return lines
