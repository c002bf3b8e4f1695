# SPDX-License-Identifier: GPL-3.0-or-later
"""What a table's rows would take in an InnoDB table written anew, from its columns, its indexes and a few rows."""

from __future__ import annotations

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection

_FIXED = {"tinyint": 1, "smallint": 2, "mediumint": 3, "int": 4, "bigint": 8, "float": 4, "double": 8}
_ROW_HEADER = 5
_TRANSACTION = 13
_ROW_ID = 6
_DIRECTORY = 0.5
"""Bytes of a page's directory for each row."""

_FILL = 16 / 15
"""A page is left with a sixteenth free."""

_EXTENT = 1024 * 1024
_SAMPLE = 1000

_COLUMNS = """
    SELECT column_name, data_type, is_nullable FROM information_schema.columns
    WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position"""
_INDEXES = """
    SELECT index_name, column_name FROM information_schema.statistics
    WHERE table_schema = %s AND table_name = %s ORDER BY index_name, seq_in_index"""


def packed_bytes(connection: Connection, table: str, rows: int) -> int:
    """Bytes for so many rows of a MariaDB table and their index entries. Raises WMAgentError."""
    place = (connection.database, table)
    columns = {str(name): (str(kind), nullable == "YES") for name, kind, nullable in connection.query(_COLUMNS, place)}
    indexes: dict[str, list[str]] = {}
    for index, column in connection.query(_INDEXES, place):
        indexes.setdefault(str(index), []).append(str(column))
    return estimate(_widths(connection, table, columns), indexes, rows)


def estimate(widths: dict[str, float], indexes: dict[str, list[str]], rows: int) -> int:
    """The same from what columns take on average and the columns of each index (``PRIMARY`` the rows' own). Pure."""
    primary = indexes.get("PRIMARY", [])
    key = sum(widths[column] for column in primary) if primary else _ROW_ID
    row = _ROW_HEADER + _TRANSACTION + sum(widths.values()) + (0 if primary else _ROW_ID)
    others = {name: columns for name, columns in indexes.items() if name != "PRIMARY"}
    row += sum(_ROW_HEADER + key + sum(widths[column] for column in columns) for columns in others.values())
    entries = 1 + len(others)
    return int(rows * (row + entries * _DIRECTORY) * _FILL) + entries * _EXTENT


def _widths(connection: Connection, table: str, columns: dict[str, tuple[str, bool]]) -> dict[str, float]:
    """Column → bytes on average, its share of the row's header with it."""
    asked = ", ".join(f"AVG(LENGTH(s.{name})), COUNT(s.{name}), COUNT(*)" for name in columns)
    found = connection.query(f"SELECT {asked} FROM (SELECT * FROM {table} LIMIT {_SAMPLE}) s")[0]
    widths = {}
    for at, (name, (kind, nullable)) in enumerate(columns.items()):
        length, filled, sampled = found[3 * at : 3 * at + 3]
        width = _FIXED.get(kind) or float(length or 0) + 1
        widths[name] = width * (filled / sampled if sampled else 1) + (1 / 8 if nullable else 0)
    return widths
