# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of an agent's database: which are its own, how many rows each has, when they may go.

What may go is decided by pure functions; only :func:`drop_tables` deletes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_TABLES = "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = %s ORDER BY table_name"
_BYTES = (
    "SELECT COALESCE(SUM(data_length + index_length), 0) FROM information_schema.tables "
    "WHERE table_schema = %s AND table_type = 'BASE TABLE'"
)
_SHOWN = 5


def demand_mariadb(connection: Connection, what: str) -> None:
    """Raise WMAgentError for a database that this collection does not wipe or make."""
    if connection.dialect != MARIADB:
        raise WMAgentError(
            f"{connection.settings.where}: {what} is for MariaDB only; have the DBAs do it, and see docs/redeploy.md"
        )


def count_rows(connection: Connection) -> dict[str, int]:
    """Rows of every table, counted and not estimated. Raises WMAgentError, also for what is no table.

    Empty where there is none.
    """
    counted = {}
    for name, kind in connection.query(_TABLES, (connection.database,)):
        if kind != "BASE TABLE":
            raise WMAgentError(f"{connection.settings.where}: {name} is a {kind}, which no agent has; remove it first")
        counted[str(name)] = int(connection.query(f"SELECT COUNT(*) FROM {_quoted(str(name))}")[0][0])  # noqa: S608
    return counted


def bytes_of(connection: Connection) -> int:
    """Bytes that the tables and their indexes take."""
    return int(connection.query(_BYTES, (connection.database,))[0][0])


def strangers(live: Iterable[str], known: Iterable[str]) -> list[str]:
    """Tables that no release's schema has. Pure."""
    return sorted(set(live) - set(known))


def refuse_strangers(live: Iterable[str], known: Iterable[str]) -> None:
    """Raise WMAgentError where a table is in the database that is none of an agent's. Pure."""
    if others := strangers(live, known):
        raise WMAgentError(
            f"{_some(others)} in this database are no tables of WMAgent: it may not be this agent's alone; "
            "move them elsewhere, or check wmagent_database_name"
        )


def changes_since_saved(saved: Mapping[str, int], live: Mapping[str, int], some_gone: bool) -> list[str]:
    """What is not as it was saved, one line each. Pure.

    some_gone: a wipe was cut off, so tables may be gone, and those that are there still have to be as they were
    """
    lines = [f"{name} is new" for name in sorted(live.keys() - saved.keys())]
    if not some_gone:
        lines += [f"{name} is gone" for name in sorted(saved.keys() - live.keys())]
    for name in sorted(live.keys() & saved.keys()):
        if live[name] != saved[name]:
            lines.append(f"{name} has {live[name]} rows and had {saved[name]}")
    return lines


def refuse_changes(saved: Mapping[str, int], live: Mapping[str, int], some_gone: bool) -> None:
    """Raise WMAgentError where something is not as it was saved. Pure."""
    if lines := changes_since_saved(saved, live, some_gone):
        raise WMAgentError(
            f"the database changed since it was saved ({_some(lines)}): somebody writes to it; "
            "nothing was wiped, find out who, and run again"
        )


def drop_tables(connection: Connection, names: Iterable[str]) -> None:
    """Drop these tables and no others. Raises WMAgentError where one is still there, or another one has come."""
    names = sorted(names)
    connection.execute("SET SESSION foreign_key_checks=0")
    for name in names:
        connection.execute(f"DROP TABLE IF EXISTS {_quoted(name)}")
    if left := [str(name) for name, _ in connection.query(_TABLES, (connection.database,))]:
        raise WMAgentError(f"{connection.settings.where}: {_some(left)} are still there after the wipe; run again")


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _some(lines: list[str]) -> str:
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return ", ".join(lines[:_SHOWN]) + more
