# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements of a rebuild that move rows, and in other words those that verify what was moved. Pure text.

The copy lists the workflows in the statement, takes a file's rows by the new table of files, and asks of each
placeholder whether something that it is linked to stays. What verifies it takes workflows, placeholders and the files
that stay from tables of its own, which are made of the old tables alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import (
    UNNEEDED_PLACEHOLDER,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_tables import (
    COLUMNS,
    NEW,
    REBUILT,
    Definition,
    entry,
    quoted,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import FILE

LISTED = "rebuild_workflows"
PLACED = "rebuild_placeholders"
STAYING = "rebuild_staying"
"""Temporary tables of what verifies: workflow rows whose files go, placeholders that go, files that stay."""

_TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")


def going(workflows: Iterable[int], placeholders: bool) -> str:
    """Condition for a row ``n`` of dbsbuffer_file that goes; true or false, never NULL.

    workflows:    rows of dbsbuffer_workflow whose files go
    placeholders: so do placeholders of which all that they are linked to goes
    """
    listed = _listed(workflows)
    goes = f"n.workflow IN ({listed})"
    if placeholders:
        goes += f""" OR ({UNNEEDED_PLACEHOLDER}
            AND NOT EXISTS (SELECT 1 FROM dbsbuffer_file_parent l INNER JOIN dbsbuffer_file o ON o.id = l.child
                            WHERE l.parent = n.id AND (o.workflow IS NULL OR o.workflow NOT IN ({listed})))
            AND NOT EXISTS (SELECT 1 FROM dbsbuffer_file_parent l INNER JOIN dbsbuffer_file o ON o.id = l.parent
                            WHERE l.child = n.id AND (o.workflow IS NULL OR o.workflow NOT IN ({listed}))))"""
    return f"(({goes}) IS TRUE)"


def _listed(workflows: Iterable[int]) -> str:
    # One list however long: MariaDB searches it by halves, pieces of it one after the other. No row has the id -1.
    return ", ".join(str(int(number)) for number in sorted(workflows)) or "-1"


def rows_that_go(workflows: Iterable[int], placeholders: bool) -> dict[str, str]:
    """Table -> condition for its rows that go, columns without alias; children first."""
    files = f"SELECT n.id FROM {FILE} n WHERE {going(workflows, placeholders)}"
    return {table: " OR ".join(f"{column} IN ({files})" for column in COLUMNS[table]) for table in reversed(REBUILT)}


def copy_files(definition: Definition, goes: str) -> str:
    """Copy the files that stay. goes: condition for a row ``n`` that does not."""
    return (
        f"INSERT INTO {FILE}{NEW} ({_columns(definition)}) SELECT {_columns(definition, 'n.')} "
        f"FROM {FILE} n FORCE INDEX (PRIMARY) WHERE NOT {goes}"
    )


def copy_children(definition: Definition) -> str:
    """Copy a child table's rows whose files were copied, all that they name."""
    table, (column, *others) = definition.table, COLUMNS[definition.table]
    joins = "".join(
        f" INNER JOIN {FILE}{NEW} n{number} ON n{number}.id = c.{other}" for number, other in enumerate(others)
    )
    return (
        f"INSERT INTO {table}{NEW} ({_columns(definition)}) SELECT STRAIGHT_JOIN {_columns(definition, 'c.')} "
        f"FROM {FILE}{NEW} n INNER JOIN {table} c FORCE INDEX ({quoted(entry(definition))}) ON c.{column} = n.id{joins}"
    )


def _columns(definition: Definition, alias: str = "") -> str:
    return ", ".join(alias + quoted(name) for name in definition.columns)


# What should be in the new tables, said in other words: this is what the copy is verified with.


def list_files(workflows: Iterable[int], placeholders: bool) -> list[str]:
    """Statements that fill the verifying session's temporary tables."""
    # Aria has no need to hold it all in memory, and the files that stay may be many.
    tables = ((LISTED, "MEMORY"), (PLACED, "MEMORY"), (STAYING, "Aria"))
    statements = [f"CREATE TEMPORARY TABLE {name} (id BIGINT PRIMARY KEY) ENGINE = {kind}" for name, kind in tables]
    if rows := ", ".join(f"({int(number)})" for number in workflows):
        statements.append(f"INSERT INTO {LISTED} VALUES {rows}")
    if placeholders:
        statements.append(f"INSERT INTO {PLACED} SELECT n.id FROM {FILE} n WHERE {UNNEEDED_PLACEHOLDER}")
        for mine, other in (("parent", "child"), ("child", "parent")):
            statements.append(f"""
                DELETE p FROM {PLACED} p INNER JOIN dbsbuffer_file_parent l ON l.{mine} = p.id
                INNER JOIN {FILE} o ON o.id = l.{other} LEFT JOIN {LISTED} w ON w.id = o.workflow WHERE w.id IS NULL""")
    statements.append(f"""
        INSERT INTO {STAYING} SELECT STRAIGHT_JOIN f.id FROM {FILE} f FORCE INDEX (PRIMARY)
        LEFT JOIN {LISTED} w ON w.id = f.workflow LEFT JOIN {PLACED} p ON p.id = f.id
        WHERE w.id IS NULL AND p.id IS NULL""")
    return statements


def expected(definition: Definition) -> str:
    """One row: how many rows of an old table stay, and their sum."""
    column, *others = COLUMNS[definition.table]
    ends = "".join(
        f" INNER JOIN {STAYING} s{number} ON s{number}.id = c.{other}" for number, other in enumerate(others)
    )
    return f"""SELECT STRAIGHT_JOIN COUNT(*), {row_sum(definition, "c")} FROM {STAYING} s
        INNER JOIN {definition.table} c FORCE INDEX ({quoted(entry(definition))}) ON c.{column} = s.id{ends}"""


def found(definition: Definition) -> str:
    """One row: how many rows a new table has, and their sum."""
    return f"SELECT COUNT(*), {row_sum(definition, 'c')} FROM {definition.table}{NEW} c"


def totals(definition: Definition) -> list[str]:
    """Statements that each count all rows of an old table; they must agree, as rows are found by a key."""
    counts = [f"SELECT COUNT(*) FROM {definition.table} USE INDEX ()"]
    if (key := entry(definition)) != "PRIMARY":
        counts.append(f"SELECT COUNT(*) FROM {definition.table} FORCE INDEX ({quoted(key)})")
    return counts


def orphans(definition: Definition) -> list[str]:
    """Statements that each find a new child row without its new file."""
    return [
        f"""SELECT d.id FROM (SELECT DISTINCT c.{column} id FROM {definition.table}{NEW} c) d
        LEFT JOIN {FILE}{NEW} n ON n.id = d.id WHERE n.id IS NULL LIMIT 1"""
        for column in COLUMNS[definition.table]
        if definition.table != FILE
    ]


def row_sum(definition: Definition, alias: str) -> str:
    """A sum over rows in any order that every value of every column is in; equal rows count each."""
    # CONCAT_WS leaves NULLs out, so which they are comes first.
    nulls = ", ".join(f"ISNULL({alias}.{quoted(name)})" for name in definition.columns)
    values = ", ".join(_exact(alias, name, kind) for name, kind in definition.columns.items())
    return f"IFNULL(SUM(CRC32(CONCAT_WS('|', CONCAT({nulls}), {values}))), 0)"


def same_row(columns: Mapping[str, str], one: str, two: str) -> str:
    """Condition for two rows that have the same values to the byte, NULLs as well. columns: name -> type."""
    return " AND ".join(f"{_exact(one, name, kind)} <=> {_exact(two, name, kind)}" for name, kind in columns.items())


def _exact(alias: str, name: str, kind: str) -> str:
    # Texts are compared and summed as bytes: collations overlook differences, and two do not mix.
    value = f"{alias}.{quoted(name)}"
    return f"CAST({value} AS BINARY)" if kind in _TEXTS else value
