# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the structure of a live database out of its own dictionary, with an ordinary account's rights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database import oracle_dictionary
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import ORACLE, Queries
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import Structure, normalize
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

Rows = Sequence[Sequence[Any]]

MARIADB_QUERIES = {
    "tables": """
        SELECT table_name FROM information_schema.tables
        WHERE table_schema = %s AND table_type = 'BASE TABLE'""",
    "columns": """
        SELECT table_name, column_name, column_type, is_nullable, column_default, extra, generation_expression
        FROM information_schema.columns WHERE table_schema = %s""",
    "indexes": """
        SELECT table_name, index_name, non_unique, column_name, sub_part, index_type, collation
        FROM information_schema.statistics WHERE table_schema = %s
        ORDER BY table_name, index_name, seq_in_index""",
    "foreign_keys": """
        SELECT k.table_name, k.constraint_name, k.column_name, k.referenced_table_name, k.referenced_column_name,
               r.delete_rule, r.update_rule
        FROM information_schema.key_column_usage k
        JOIN information_schema.referential_constraints r
          ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name
         AND r.table_name = k.table_name
        WHERE k.table_schema = %s AND k.referenced_table_name IS NOT NULL
        ORDER BY k.table_name, k.constraint_name, k.ordinal_position""",
}
"""What :func:`mariadb_structure` wants the rows of; each has one parameter, the database."""


def read_structure(connection: Queries) -> Structure:
    """The structure of the database behind a session.

    Raises WMAgentError, also where there is no table at all: an empty database is no agent's.
    """
    if connection.dialect == ORACLE:
        structure = oracle_dictionary.structure(
            {name: connection.query(sql) for name, sql in oracle_dictionary.QUERIES.items()}
        )
    else:
        structure = mariadb_structure(
            {name: connection.query(sql, (connection.database,)) for name, sql in MARIADB_QUERIES.items()}
        )
    if not structure:
        raise WMAgentError(
            f"database {connection.database} holds no table that this account can see; "
            "check wmagent_database_name and the account's grants"
        )
    return structure


def mariadb_structure(rows: Mapping[str, Rows]) -> Structure:
    """A structure out of the rows of :data:`MARIADB_QUERIES`."""
    tables = {str(row[0]): _empty_table() for row in rows["tables"]}
    for table, column, kind, nullable, default, extra, expression in rows["columns"]:
        if table in tables:
            tables[table]["columns"][column] = {
                "type": kind,
                "nullable": nullable == "YES",
                "default": default,
                "extra": f"{extra or ''} {f'as ({expression})' if expression else ''}".strip(),
            }
    for (table, name), parts in _grouped(rows["indexes"]).items():
        if table in tables:
            _add_index(tables[table], name, parts)
    for (table, _), parts in _grouped(rows["foreign_keys"]).items():
        if table in tables:
            tables[table]["foreign_keys"].append(
                {
                    "columns": [part[0] for part in parts],
                    "table": parts[0][1],
                    "references": [part[2] for part in parts],
                    "on_delete": parts[0][3],
                    "on_update": parts[0][4],
                }
            )
    return normalize(tables)


def _empty_table() -> dict[str, Any]:
    return {"columns": {}, "primary_key": [], "unique": [], "indexes": [], "foreign_keys": []}


def _grouped(rows: Iterable[Sequence[Any]]) -> dict[tuple[str, str], list[Sequence[Any]]]:
    """Rows by their first two columns, the rest in the order it came."""
    groups: dict[tuple[str, str], list[Sequence[Any]]] = {}
    for row in rows:
        groups.setdefault((row[0], row[1]), []).append(row[2:])
    return groups


def _add_index(table: dict[str, Any], name: str, parts: list[Sequence[Any]]) -> None:
    columns = [_index_column(*part[1:]) for part in parts]
    if name == "PRIMARY":
        table["primary_key"] = columns
    else:
        table["indexes" if int(parts[0][0]) else "unique"].append(columns)


def _index_column(column: str, prefix: int | None, kind: str, collation: str | None) -> str:
    text = column if prefix is None else f"{column}({prefix})"
    if collation == "D":
        text += " desc"
    return text if kind in ("BTREE", "HASH") else f"{text} {kind.lower()}"
