# SPDX-License-Identifier: GPL-3.0-or-later
"""A structure out of the rows of Oracle's dictionary, and H2's ``INFORMATION_SCHEMA`` put into the same rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import Structure, normalize

Rows = Sequence[Sequence[Any]]

QUERIES = {
    "columns": """
        SELECT c.table_name, c.column_name, c.data_type, c.char_length, c.data_precision, c.data_scale, c.nullable,
               i.generation_type, c.data_default
        FROM user_tab_columns c
        JOIN user_tables t ON t.table_name = c.table_name AND t.dropped = 'NO'
        LEFT JOIN user_tab_identity_cols i ON i.table_name = c.table_name AND i.column_name = c.column_name""",
    # A disabled constraint protects nothing: it counts as missing.
    "constraints": """
        SELECT c.table_name, c.constraint_name, c.constraint_type, c.r_constraint_name, c.delete_rule, c.index_name,
               k.column_name
        FROM user_constraints c
        JOIN user_cons_columns k ON k.constraint_name = c.constraint_name
        WHERE c.constraint_type IN ('P', 'U', 'R') AND c.status = 'ENABLED'
        ORDER BY c.constraint_name, k.position""",
    "indexes": """
        SELECT i.table_name, i.index_name, i.uniqueness, k.column_name, k.descend
        FROM user_indexes i
        JOIN user_ind_columns k ON k.index_name = i.index_name
        ORDER BY i.index_name, k.column_position""",
}
"""What :func:`structure` wants the rows of."""


def structure(rows: Mapping[str, Rows]) -> Structure:
    """A structure out of the rows of :data:`QUERIES`."""
    tables: dict[str, dict[str, Any]] = {}
    for table, column, kind, length, precision, scale, nullable, identity, default in rows["columns"]:
        entry = tables.setdefault(
            table, {"columns": {}, "primary_key": [], "unique": [], "indexes": [], "foreign_keys": []}
        )
        entry["columns"][column] = {
            "type": _type(kind, length, precision, scale),
            "nullable": nullable == "Y",
            # An identity column's default is its hidden sequence, whose name is a number of the server's own.
            "default": None if identity else default,
            "extra": f"identity {identity}" if identity else "",
        }
    constraints = _constraints(rows["constraints"])
    for constraint in constraints.values():
        if constraint["table"] in tables:
            _add_constraint(tables[constraint["table"]], constraint, constraints)
    behind_constraints = {constraint["index"] for constraint in constraints.values() if constraint["index"]}
    for name, index in _indexes(rows["indexes"]).items():
        if index["table"] in tables and name not in behind_constraints:
            tables[index["table"]]["unique" if index["unique"] else "indexes"].append(index["columns"])
    return normalize(tables)


def _type(kind: str, length: int | None, precision: int | None, scale: int | None) -> str:
    if kind in ("VARCHAR2", "NVARCHAR2", "CHAR", "NCHAR", "RAW"):
        return f"{kind}({length})"
    if kind == "NUMBER":
        if precision is None:
            return "NUMBER(38,0)" if scale == 0 else "NUMBER"
        return f"NUMBER({precision},{scale or 0})"
    if kind == "FLOAT" and precision is not None:
        return f"FLOAT({precision})"
    return kind


def _constraints(rows: Rows) -> dict[str, dict[str, Any]]:
    constraints: dict[str, dict[str, Any]] = {}
    for table, name, kind, refers_to, on_delete, index, column in rows:
        entry = constraints.setdefault(
            name,
            {
                "table": table,
                "kind": kind,
                "refers_to": refers_to,
                "on_delete": on_delete,
                "index": index if kind in ("P", "U") else None,
                "columns": [],
            },
        )
        entry["columns"].append(column)
    return constraints


def _add_constraint(
    table: dict[str, Any], constraint: Mapping[str, Any], constraints: Mapping[str, Mapping[str, Any]]
) -> None:
    if constraint["kind"] == "P":
        table["primary_key"] = constraint["columns"]
    elif constraint["kind"] == "U":
        table["unique"].append(constraint["columns"])
    else:
        # A key into another account's tables has no constraint of ours at its other end.
        target = constraints.get(constraint["refers_to"]) or {
            "table": f"constraint {constraint['refers_to']}",
            "columns": constraint["columns"],
        }
        table["foreign_keys"].append(
            {
                "columns": constraint["columns"],
                "table": target["table"],
                "references": target["columns"],
                "on_delete": constraint["on_delete"],
            }
        )


def _indexes(rows: Rows) -> dict[str, dict[str, Any]]:
    indexes: dict[str, dict[str, Any]] = {}
    for table, name, uniqueness, column, descend in rows:
        entry = indexes.setdefault(name, {"table": table, "unique": uniqueness == "UNIQUE", "columns": []})
        # A column name that starts so stands for an expression; its number is the server's own.
        shown = "(expression)" if column.startswith("SYS_NC") else column
        entry["columns"].append(f"{shown} desc" if descend == "DESC" else shown)
    return indexes


H2_QUERIES = {
    "columns": """
        SELECT C.TABLE_NAME, C.COLUMN_NAME, C.DATA_TYPE, C.CHARACTER_MAXIMUM_LENGTH, C.NUMERIC_PRECISION,
               C.NUMERIC_SCALE, C.DATETIME_PRECISION, C.DECLARED_NUMERIC_PRECISION, C.IS_NULLABLE,
               C.IDENTITY_GENERATION, C.COLUMN_DEFAULT
        FROM INFORMATION_SCHEMA.COLUMNS C
        JOIN INFORMATION_SCHEMA.TABLES T ON T.TABLE_SCHEMA = C.TABLE_SCHEMA AND T.TABLE_NAME = C.TABLE_NAME
        WHERE C.TABLE_SCHEMA = 'PUBLIC' AND T.TABLE_TYPE = 'BASE TABLE'""",
    "constraints": """
        SELECT C.TABLE_NAME, C.CONSTRAINT_NAME, C.CONSTRAINT_TYPE, R.UNIQUE_CONSTRAINT_NAME, R.DELETE_RULE,
               C.INDEX_NAME, K.COLUMN_NAME
        FROM INFORMATION_SCHEMA.TABLE_CONSTRAINTS C
        JOIN INFORMATION_SCHEMA.KEY_COLUMN_USAGE K
          ON K.CONSTRAINT_SCHEMA = C.CONSTRAINT_SCHEMA AND K.CONSTRAINT_NAME = C.CONSTRAINT_NAME
        LEFT JOIN INFORMATION_SCHEMA.REFERENTIAL_CONSTRAINTS R
          ON R.CONSTRAINT_SCHEMA = C.CONSTRAINT_SCHEMA AND R.CONSTRAINT_NAME = C.CONSTRAINT_NAME
        WHERE C.CONSTRAINT_SCHEMA = 'PUBLIC' AND C.CONSTRAINT_TYPE IN ('PRIMARY KEY', 'UNIQUE', 'FOREIGN KEY')
        ORDER BY C.CONSTRAINT_NAME, K.ORDINAL_POSITION""",
    # H2 makes an index for each foreign key by itself, which Oracle does not.
    "indexes": """
        SELECT I.TABLE_NAME, I.INDEX_NAME, I.INDEX_TYPE_NAME, K.COLUMN_NAME, K.ORDERING_SPECIFICATION
        FROM INFORMATION_SCHEMA.INDEXES I
        JOIN INFORMATION_SCHEMA.INDEX_COLUMNS K ON K.INDEX_SCHEMA = I.INDEX_SCHEMA AND K.INDEX_NAME = I.INDEX_NAME
        WHERE I.INDEX_SCHEMA = 'PUBLIC' AND NOT I.IS_GENERATED
        ORDER BY I.INDEX_NAME, K.ORDINAL_POSITION""",
}
"""What :func:`h2_structure` wants the rows of."""

_H2_TYPES = {
    "CHARACTER VARYING": "VARCHAR2",
    "VARCHAR_IGNORECASE": "VARCHAR2",
    "CHARACTER": "CHAR",
    "CHARACTER LARGE OBJECT": "CLOB",
    "BINARY LARGE OBJECT": "BLOB",
    "BINARY VARYING": "RAW",
    "REAL": "FLOAT",
    "DOUBLE PRECISION": "FLOAT",
}
_H2_KINDS = {"PRIMARY KEY": "P", "UNIQUE": "U", "FOREIGN KEY": "R"}


def h2_structure(rows: Mapping[str, Rows]) -> Structure:
    """The structure that Oracle would tell, out of the rows of :data:`H2_QUERIES` (H2 2.x in Oracle mode)."""
    return structure(
        {
            "columns": [_h2_column(*row) for row in rows["columns"]],
            "constraints": [
                (table, name, _H2_KINDS[kind], refers_to, on_delete, index, column)
                for table, name, kind, refers_to, on_delete, index, column in rows["constraints"]
            ],
            "indexes": [
                (table, name, "UNIQUE" if "UNIQUE" in kind else "NONUNIQUE", column, order)
                for table, name, kind, column, order in rows["indexes"]
            ],
        }
    )


def _h2_column(
    table: str,
    column: str,
    kind: str,
    length: Any,
    precision: Any,
    scale: Any,
    seconds_precision: Any,
    declared_precision: Any,
    nullable: str,
    identity: str | None,
    default: str | None,
) -> tuple[Any, ...]:
    oracle_type = _H2_TYPES.get(kind, kind)
    number: tuple[int | None, int | None] = (None, None)
    if kind in ("NUMERIC", "DECIMAL"):
        oracle_type = "NUMBER"
        number = (int(precision), int(scale)) if declared_precision not in (None, "") else (None, None)
    elif kind in ("INTEGER", "SMALLINT"):  # Oracle knows these words and makes NUMBER(38) of them
        oracle_type, number = "NUMBER", (None, 0)
    elif kind == "DECFLOAT":
        oracle_type = "NUMBER"
    elif oracle_type == "FLOAT":
        number = (63 if kind == "REAL" else 126, None)
    elif kind.startswith("TIMESTAMP"):
        # H2 stores Oracle's DATE, which has a time of day, as TIMESTAMP(0).
        zone = kind.removeprefix("TIMESTAMP")
        oracle_type = "DATE" if int(seconds_precision) == 0 and not zone else f"TIMESTAMP({seconds_precision}){zone}"
    size = int(length) if length not in (None, "") else None
    return (table, column, oracle_type, size, *number, "Y" if nullable == "YES" else "N", identity, default)
