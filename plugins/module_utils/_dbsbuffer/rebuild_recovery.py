# SPDX-License-Identifier: GPL-3.0-or-later
"""Finish or undo a rebuild that was interrupted. As long as its tables are there, the agent's schema is not its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import FINISHED
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import PLACEHOLDER, STATE
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_copy import same_row
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_guard import wait_until_alone
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_tables import (
    COLUMNS,
    NEW,
    OLD,
    REBUILT,
    UNNAMED,
    Definition,
    drop,
    names_to_restore,
    quoted,
    restore_names,
    take_apart,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import FILE
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_STATES = ", ".join(f"'{state}'" for state in FINISHED)
_MAY_GO = f"""(({PLACEHOLDER.replace("n.", "f.")}) OR (f.workflow IS NOT NULL AND {STATE} IN ({_STATES})
    AND NOT EXISTS (SELECT 1 FROM dbsbuffer_workflow w
                    WHERE w.id = f.workflow AND (w.completed IS NULL OR w.completed <> 1)))) IS TRUE"""
"""Condition for a row ``f`` that was a file: by itself, nothing kept it."""


@dataclass(frozen=True)
class Leftovers:
    """What an interrupted rebuild left. new, old: the tables that are there as ``__new`` and ``__old``, without that;
    missing: those that are not there under their own name; unnamed: those whose foreign keys lack their own names."""

    new: tuple[str, ...]
    old: tuple[str, ...]
    missing: tuple[str, ...]
    unnamed: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The tables that should not be there."""
        return [table + NEW for table in self.new] + [table + OLD for table in self.old]

    @property
    def found(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.new or self.old or self.unnamed)


def leftovers(connection: Connection) -> Leftovers:
    """Look for what an interrupted rebuild left."""
    rows = connection.query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (connection.database,)
    )
    there = {str(row[0]) for row in rows}
    keys = connection.query(
        "SELECT DISTINCT table_name FROM information_schema.referential_constraints "
        "WHERE constraint_schema = %s AND constraint_name LIKE %s",
        (connection.database, "%" + UNNAMED.replace("_", r"\_")),
    )
    return Leftovers(
        tuple(table for table in REBUILT if table + NEW in there),
        tuple(table for table in REBUILT if table + OLD in there),
        tuple(table for table in REBUILT if table not in there),
        tuple(table for table in REBUILT if (table,) in keys),
    )


def clean_up(connection: Connection, patience: float = 5) -> list[str]:
    """Finish or undo what an interrupted rebuild left; what was done, one line each, none where nothing was.

    New tables without a swap are dropped. After a swap the old ones are, once it is sure that every row that is no
    longer there was free to go and that all others are as they were.

    patience: seconds to wait for the sessions of a rebuild that was just ended

    Raises WMAgentError that names the tables where something is not as a rebuild leaves it; then nothing was done.
    """
    if connection.dialect != MARIADB or not (left := leftovers(connection)).found:
        return []
    if others := wait_until_alone(connection, patience):
        raise WMAgentError(
            f"{connection.settings.where}: {', '.join(left.names)} may belong to a rebuild that is under way in "
            f"{', '.join(others[:3])}; wait for it, or end that session"
        )
    left = leftovers(connection)
    if left.missing or (left.new and left.old):
        raise _unexpected(connection, left.names, f"{', '.join(left.missing) or 'no table'} is missing")
    if left.old:
        _check_old_rows(connection, left.old)
    return finish(connection, left)


def finish(connection: Connection, left: Leftovers) -> list[str]:
    """Drop the tables that are in the way and give foreign keys their names back, without another look."""
    lines = []
    for suffix, tables in ((NEW, left.new), (OLD, left.old)):
        for statement in drop(suffix, tables):
            connection.execute(statement)
        if tables:
            lines.append(f"dropped {', '.join(table + suffix for table in tables)}")
    for table in left.unnamed:
        named = definition(connection, table)
        connection.execute(f"SET STATEMENT foreign_key_checks = 0 FOR {restore_names(named)}")
        lines.append(f"named {', '.join(name for _, name in names_to_restore(named))} of {table} again")
    return lines


def definition(connection: Connection, table: str) -> Definition:
    """A table's definition. Raises WMAgentError."""
    return take_apart(table, str(connection.query(f"SHOW CREATE TABLE {quoted(table)}")[0][1]))


def _unexpected(connection: Connection, tables: Iterable[str], why: str) -> WMAgentError:
    return WMAgentError(
        f"{connection.settings.where}: database {connection.database} has {', '.join(tables)} in a state in which no "
        f"rebuild leaves them: {why}; nothing was touched. Compare them by hand, then drop or rename them"
    )


def _check_old_rows(connection: Connection, old: tuple[str, ...]) -> None:
    # Files are dropped last: without them nobody could tell what the other rows were.
    if FILE not in old:
        raise _unexpected(connection, [table + OLD for table in old], f"{FILE}{OLD} is missing")
    for table in old:
        columns = definition(connection, table).columns
        if definition(connection, table + OLD).columns != columns:
            raise _unexpected(connection, [table, table + OLD], "they have other columns")
        look = _lost_files(columns) if table == FILE else _lost_children(table, columns)
        if rows := int(connection.query(look)[0][0]):
            raise _unexpected(
                connection,
                [table + OLD],
                f"{rows} of its rows are not in {table} as they were, and were not free to go",
            )


def _lost_files(columns: Mapping[str, str]) -> str:
    return f"""
        SELECT COUNT(*) FROM {FILE}{OLD} f LEFT JOIN {FILE} k ON k.id = f.id
        WHERE (k.id IS NULL AND NOT {_MAY_GO}) OR (k.id IS NOT NULL AND NOT ({same_row(columns, "k", "f")}))"""


def _lost_children(table: str, columns: Mapping[str, str]) -> str:
    # Equal rows may be there more than once, so how often each is counts.
    names = ", ".join(f"c.{quoted(name)}" for name in columns)
    kept = " ".join(
        f"INNER JOIN {FILE} k{number} ON k{number}.id = c.{column}" for number, column in enumerate(COLUMNS[table])
    )
    # Joined by the file first: on columns that may be NULL no key is used.
    by_file = " AND ".join(f"m.{column} = o.{column}" for column in COLUMNS[table])
    return f"""
        SELECT COUNT(*) FROM (SELECT {names}, COUNT(*) times FROM {table}{OLD} c {kept} GROUP BY {names}) o
        LEFT JOIN (SELECT {names}, COUNT(*) times FROM {table} c GROUP BY {names}) m
            ON {by_file} AND {same_row(columns, "m", "o")}
        WHERE m.times IS NULL OR m.times < o.times"""
