# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the tables may be rebuilt: what stands against it, one line each."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_guard import wait_until_alone
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_recovery import definition, leftovers
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_tables import (
    LONGEST_NAME,
    REBUILT,
    entry,
    new_name,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import FILE
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

OLDEST = (10, 6)
"""MariaDB from which on a RENAME of several tables is undone where the server was killed in it."""

_MARGIN = 1.3
"""A fresh copy may be larger than its share of the old tables, and its keys are sorted on disk."""

_SPARE = 128 * 1024 * 1024
"""Bytes that the server may need besides, for its logs."""

_MOMENT = 1.0
"""Seconds given to sessions of processes that were just ended."""

_LISTED = ", ".join(f"'{table}'" for table in REBUILT)
_SETTINGS = "SHOW VARIABLES WHERE variable_name IN ('version', 'innodb_file_per_table', 'wsrep_on')"
_REFERRING = f"""
    SELECT DISTINCT table_schema, table_name FROM information_schema.key_column_usage
    WHERE referenced_table_schema = %s AND referenced_table_name IN ({_LISTED})
    AND NOT (table_schema = %s AND table_name IN ({_LISTED})) ORDER BY 1, 2"""
_TRIGGERS = f"""
    SELECT trigger_name FROM information_schema.triggers
    WHERE event_object_schema = %s AND event_object_table IN ({_LISTED}) ORDER BY 1"""
_VIEWS = "SELECT table_schema, table_name, view_definition FROM information_schema.views ORDER BY 1, 2"
_SIZES = f"""
    SELECT SUM(data_length + index_length) FROM information_schema.tables
    WHERE table_schema = %s AND table_name IN ({_LISTED})"""


def why_not(
    connection: Connection, plan: Plan | None = None, *, free_bytes: int | None = None, own: Collection[int] = ()
) -> list[str]:
    """What stands against a rebuild now; nothing where it may be done.

    plan:       what would go; without it room for a copy of everything is asked for
    free_bytes: free room where the server keeps its data, for a server on another host
    own:        the server's numbers of sessions that the caller has open besides this one

    Raises WMAgentError where the database does not answer.
    """
    reasons = obstacles(connection, own)
    if connection.dialect != MARIADB:
        return reasons
    return [*reasons, *_room(connection, plan, free_bytes)]


def obstacles(connection: Connection, own: Collection[int] = ()) -> list[str]:
    """The same apart from the room that is needed."""
    if connection.dialect != MARIADB:
        return ["only MariaDB's tables can be rebuilt; use another method"]
    reasons = _server(connection)
    left = leftovers(connection)
    if left.found:
        reasons.append(
            f"an earlier rebuild left {', '.join(left.names or left.unnamed)} as it was interrupted; clean up first"
        )
    reasons += _others(connection, own)
    if left.missing:
        return [*reasons, f"database {connection.database} has no table {', '.join(left.missing)}; is it an agent's?"]
    return [*reasons, *_references(connection), *_definitions(connection)]


def _server(connection: Connection) -> list[str]:
    settings = {str(name): str(value) for name, value in connection.query(_SETTINGS)}
    version = settings["version"]
    match = re.match(r"(\d+)\.(\d+)", version)
    reasons = []
    if "mariadb" not in version.lower() or match is None or (int(match[1]), int(match[2])) < OLDEST:
        reasons.append(
            f"{connection.settings.where} is {version}, and only MariaDB from {OLDEST[0]}.{OLDEST[1]} on swaps all "
            "tables or none when it is killed; use another method"
        )
    if settings.get("innodb_file_per_table") != "ON":
        reasons.append(
            f"{connection.settings.where} keeps all tables in one file (innodb_file_per_table is off), which would "
            "grow by the copy; use another method"
        )
    if settings.get("wsrep_on") == "ON":
        reasons.append(f"{connection.settings.where} is a cluster, where a lock holds one server; use another method")
    return reasons


def _others(connection: Connection, own: Collection[int]) -> list[str]:
    if others := wait_until_alone(connection, _MOMENT, own):
        return [
            f"{connection.settings.where}: {', '.join(others[:3])}{' …' if len(others) > 3 else ''} is connected to "
            f"database {connection.database}; stop the agent's components and whatever else it is"
        ]
    return []


def _references(connection: Connection) -> list[str]:
    reasons = []
    database = connection.database
    for kind, names in (
        ("table", [".".join(row) for row in connection.query(_REFERRING, (database, database))]),
        ("trigger", [str(row[0]) for row in connection.query(_TRIGGERS, (database,))]),
        ("view", [f"{schema}.{view}" for schema, view, text in connection.query(_VIEWS) if _uses(database, text)]),
    ):
        if names:
            reasons.append(
                f"{kind} {', '.join(names[:3])}{' …' if len(names) > 3 else ''} depends on tables that would be "
                "rebuilt, and is not WMCore's; drop it or use another method"
            )
    return reasons


def _uses(database: str, text: str) -> bool:
    return any(f"`{database}`.`{table}`" in text for table in REBUILT)


def _definitions(connection: Connection) -> list[str]:
    reasons = []
    for table in REBUILT:
        try:
            found = definition(connection, table)
            entry(found)
        except WMAgentError as error:
            reasons.append(str(error))
            continue
        reasons += [
            f"foreign key {key.name} of {table} has too long a name for a second one beside it; use another method"
            for key in found.foreign
            if len(new_name(table, key.name)) > LONGEST_NAME
        ]
    return reasons


def _room(connection: Connection, plan: Plan | None, free_bytes: int | None) -> list[str]:
    free = free_room(connection) if free_bytes is None else free_bytes
    if free is None:
        return [
            f"how much room {connection.settings.where} has on its disk cannot be told from this host; "
            "tell it as free_bytes, or use another method"
        ]
    needed = int(size(connection) * share_that_stays(connection, plan) * _MARGIN) + _SPARE
    if free < needed:
        return [
            f"{connection.settings.where} has {free // 2**20} MiB free on its disk, and the copy may need "
            f"{needed // 2**20} MiB; make room or use another method"
        ]
    return []


def size(connection: Connection) -> int:
    """Bytes of the tables with their keys, as the server estimates them."""
    return int(connection.query(_SIZES, (connection.database,))[0][0] or 0)


def share_that_stays(connection: Connection, plan: Plan | None) -> float:
    """How much of the files stays, from 0 to 1; 1 without a plan."""
    if plan is None:
        return 1.0
    files = int(connection.query(f"SELECT COUNT(*) FROM {FILE}")[0][0])
    return (files - plan.files) / files if files else 0.0


def free_room(connection: Connection) -> int | None:
    """Bytes free where the server keeps its data; None where that is not on this host, or cannot be told."""
    host, folder = connection.query("SELECT @@hostname, @@datadir")[0]
    if host != socket.gethostname():
        return None
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
