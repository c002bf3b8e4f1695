# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows as Oracle's dictionary views give them (by Oracle's reference; no Oracle was asked) and as H2 does."""

from __future__ import annotations

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.oracle_dictionary import h2_structure, structure
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import compare

ORACLE_ROWS = {
    "columns": [
        ("T", "ID", "NUMBER", 0, 11, 0, "N", "BY DEFAULT", '"WMA"."ISEQ$$_73201".nextval'),
        ("T", "NAME", "VARCHAR2", 255, None, None, "N", None, None),
        ("T", "KIND", "CHAR", 1, None, None, "Y", None, "'1' "),
        ("T", "SHARE", "NUMBER", 0, 10, 4, "N", None, "0 "),
        ("T", "ANY_NUMBER", "NUMBER", 0, None, None, "Y", None, None),
        ("T", "WHOLE", "NUMBER", 0, None, 0, "Y", None, "NULL"),
        ("T", "TEXT", "CLOB", 0, None, None, "Y", None, None),
        ("S", "ID", "NUMBER", 0, 11, 0, "N", None, None),
    ],
    "constraints": [
        ("T", "T_PK", "P", None, None, "T_PK", "ID"),
        ("T", "T_UQ", "U", None, None, "T_UQ", "NAME"),
        ("T", "T_UQ", "U", None, None, "T_UQ", "KIND"),
        ("S", "S_PK", "P", None, None, "S_PK", "ID"),
        ("S", "S_FK", "R", "T_PK", "CASCADE", None, "ID"),
    ],
    "indexes": [
        ("T", "T_PK", "UNIQUE", "ID", "ASC"),
        ("T", "T_UQ", "UNIQUE", "NAME", "ASC"),
        ("T", "T_UQ", "UNIQUE", "KIND", "ASC"),
        ("T", "T_I", "NONUNIQUE", "SHARE", "ASC"),
        ("T", "T_U2", "UNIQUE", "WHOLE", "ASC"),
        ("S", "S_PK", "UNIQUE", "ID", "ASC"),
    ],
}

H2_ROWS = {
    "columns": [
        ("T", "ID", "NUMERIC", None, "11", "0", None, "11", "NO", "BY DEFAULT", None),
        ("T", "NAME", "CHARACTER VARYING", "255", None, None, None, None, "NO", None, None),
        ("T", "KIND", "CHARACTER", "1", None, None, None, None, "YES", None, "'1'"),
        ("T", "SHARE", "NUMERIC", None, "10", "4", None, "10", "NO", None, "0"),
        ("T", "ANY_NUMBER", "DECFLOAT", None, "40", None, None, None, "YES", None, None),
        ("T", "WHOLE", "INTEGER", None, "32", "0", None, None, "YES", None, "NULL"),
        ("T", "TEXT", "CHARACTER LARGE OBJECT", "9223372036854775807", None, None, None, None, "YES", None, None),
        ("S", "ID", "NUMERIC", None, "11", "0", None, "11", "NO", None, None),
    ],
    "constraints": [
        ("T", "T_PK", "PRIMARY KEY", None, None, "PRIMARY_KEY_D", "ID"),
        ("T", "T_UQ", "UNIQUE", None, None, "T_UQ_INDEX_1", "NAME"),
        ("T", "T_UQ", "UNIQUE", None, None, "T_UQ_INDEX_1", "KIND"),
        ("S", "S_PK", "PRIMARY KEY", None, None, "PRIMARY_KEY_E", "ID"),
        ("S", "S_FK", "FOREIGN KEY", "T_PK", "CASCADE", "PRIMARY_KEY_E", "ID"),
    ],
    "indexes": [
        ("T", "T_I", "INDEX", "SHARE", "ASC"),
        ("T", "T_U2", "UNIQUE INDEX", "WHOLE", "ASC"),
    ],
}


def test_oracle_rows():
    table = structure(ORACLE_ROWS)["t"]
    assert table["columns"]["id"] == {
        "type": "number(11,0)",
        "nullable": False,
        "default": None,
        "extra": "identity by default",
    }
    assert table["columns"]["kind"] == {"type": "char(1)", "nullable": True, "default": "'1'", "extra": ""}
    assert table["columns"]["share"]["default"] == "0"
    assert [table["columns"][name]["type"] for name in ("any_number", "whole", "text")] == [
        "number",
        "number(38,0)",
        "clob",
    ]
    assert table["primary_key"] == ["id"]
    assert table["unique"] == [["name", "kind"], ["whole"]]
    assert table["indexes"] == [["share"]]
    assert structure(ORACLE_ROWS)["s"]["foreign_keys"] == [
        {"columns": ["id"], "table": "t", "references": ["id"], "on_delete": "CASCADE"}
    ]


def test_h2_and_oracle_give_the_same_structure():
    assert compare(h2_structure(H2_ROWS), structure(ORACLE_ROWS), ("H2", "Oracle")) == []


def test_the_servers_own_names_say_nothing():
    other = {part: [list(row) for row in rows] for part, rows in ORACLE_ROWS.items()}
    other["columns"][0][8] = '"WMA"."ISEQ$$_99".nextval'
    for row in [*other["constraints"], *other["indexes"]]:
        for place, value in enumerate(row):
            if value in ("T_PK", "T_UQ", "T_I", "T_U2", "S_PK", "S_FK"):
                row[place] = f"SYS_C00{value}"
    assert compare(structure(other), structure(ORACLE_ROWS)) == []


def test_a_key_into_another_accounts_table_is_kept():
    rows = ORACLE_ROWS | {"constraints": [("S", "S_FK", "R", "THEIRS_PK", "NO ACTION", None, "ID")]}
    assert structure(rows)["s"]["foreign_keys"][0]["table"] == "constraint theirs_pk"
