# SPDX-License-Identifier: GPL-3.0-or-later
"""The structure of a database as plain data: fingerprint and comparison. Pure; no server needed.

A structure is a JSON object, one entry a table::

    {"wmbs_workflow": {
        "columns": {"id": {"type": "int", "nullable": false, "default": null, "extra": "auto_increment"}, …},
        "primary_key": ["id"],
        "unique": [["name", "task"]],
        "indexes": [["owner"]],
        "foreign_keys": [{"columns": ["owner"], "table": "wmbs_users", "references": ["id"], "on_delete": "CASCADE"}]}}

What says nothing about whether code and data fit together is not in it: names of indexes and foreign keys, the order
of tables, columns and keys, AUTO_INCREMENT values, character sets. What servers of different versions only spell
differently (``int(11)``/``int``, ``current_timestamp()``/``CURRENT_TIMESTAMP``) is made equal.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

Structure = dict[str, dict[str, Any]]

_DISPLAY_WIDTH = re.compile(r"\b(tinyint|smallint|mediumint|int|integer|bigint)\s*\(\d+\)(?!.*zerofill)")
_NOW = re.compile(r"\b(?:current_timestamp|now|localtimestamp|localtime)\b(?:\(\s*\))?(?!\s*\()")
_QUOTED = re.compile(r"('(?:[^']|'')*')")
_ATTRIBUTES = ("type", "nullable", "default", "extra")


def normalize(structure: Mapping[str, Any]) -> Structure:
    """The one spelling of a structure: lower-case names, sorted keys, version noise taken out; the input stays.

    Raises WMAgentError where it is no structure.
    """
    try:
        return {name.lower(): _normalize_table(table) for name, table in sorted(structure.items())}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise WMAgentError(
            f"this is no schema description ({type(error).__name__}: {error}); build the image again"
        ) from None


def _normalize_table(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "columns": {name.lower(): _normalize_column(table["columns"][name]) for name in sorted(table["columns"])},
        "primary_key": _names(table["primary_key"]),
        "unique": sorted(_names(columns) for columns in table["unique"]),
        "indexes": sorted(_names(columns) for columns in table["indexes"]),
        "foreign_keys": sorted((_normalize_foreign_key(key) for key in table["foreign_keys"]), key=_canonical),
    }


def _normalize_column(column: Mapping[str, Any]) -> dict[str, Any]:
    nullable = bool(column["nullable"])
    return {
        "type": normalize_type(column["type"]),
        "nullable": nullable,
        "default": normalize_default(column["default"]),
        "extra": _plain(column.get("extra") or ""),
    }


def _normalize_foreign_key(key: Mapping[str, Any]) -> dict[str, Any]:
    # A key of several columns stays the same when its pairs of columns come in another order.
    pairs = sorted(zip(_names(key["columns"]), _names(key["references"]), strict=True))
    result = {
        "columns": [column for column, _ in pairs],
        "table": key["table"].lower(),
        "references": [reference for _, reference in pairs],
        "on_delete": _action(key["on_delete"]),
    }
    if (on_update := _action(key.get("on_update"))) != "RESTRICT":
        result["on_update"] = on_update
    return result


def _action(text: str | None) -> str:
    action = " ".join((text or "RESTRICT").upper().split())
    return "RESTRICT" if action == "NO ACTION" else action  # the same thing where checks are immediate


def _names(columns: Sequence[str]) -> list[str]:
    if isinstance(columns, str):
        raise TypeError("a key is a list of columns")
    return [column.lower() for column in columns]


def normalize_type(text: str) -> str:
    """A column type without display width and in one spelling: ``INT(11) UNSIGNED`` is ``int unsigned``."""
    plain = _DISPLAY_WIDTH.sub(r"\1", _plain(text))
    return re.sub(r"\binteger\b", "int", plain)


def normalize_default(text: Any) -> str | None:
    """A column default in one spelling; no default and ``NULL`` are both None."""
    if text is None:
        return None
    plain = _plain(str(text))
    return None if plain in ("", "null") else plain


def _plain(text: str) -> str:
    """Lower case with single blanks, quoted strings left alone; every spelling of "now" is the same word."""
    parts = _QUOTED.split(text)
    for number in range(0, len(parts), 2):
        words = re.sub(r"\s+", " ", parts[number].lower())
        parts[number] = _NOW.sub("current_timestamp", re.sub(r"\s*,\s*", ",", words))
    return "".join(parts).strip()


def fingerprint(structure: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a structure; equal exactly where :func:`compare` finds nothing. Raises WMAgentError."""
    return hashlib.sha256(_canonical(normalize(structure)).encode()).hexdigest()


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def compare(
    first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str] = ("first", "second")
) -> list[str]:
    """What differs between two structures: one line each, sorted by table; nothing where they are the same.

    names: what to call the two in the lines.

    Raises WMAgentError where one is no structure.
    """
    one, two = normalize(first), normalize(second)
    lines: list[str] = []
    for table in sorted(one.keys() | two.keys()):
        if table not in one or table not in two:
            lines.append(f"table {table} only in {names[table not in one]}")
        else:
            lines += [f"{table}: {line}" for line in _compare_tables(one[table], two[table], names)]
    return lines


def _compare_tables(one: Mapping[str, Any], two: Mapping[str, Any], names: tuple[str, str]) -> list[str]:
    lines = _compare_columns(one["columns"], two["columns"], names)
    if one["primary_key"] != two["primary_key"]:
        keys = [_columns(table["primary_key"]) if table["primary_key"] else "none" for table in (one, two)]
        lines.append(f"primary key {keys[0]} in {names[0]}, {keys[1]} in {names[1]}")
    for kind, word in (("unique", "unique key"), ("indexes", "index")):
        lines += _only(
            [f"{word} {_columns(key)}" for key in one[kind]], [f"{word} {_columns(k)}" for k in two[kind]], names
        )
    foreign = [[_foreign_key(key) for key in table["foreign_keys"]] for table in (one, two)]
    return lines + _only(foreign[0], foreign[1], names)


def _compare_columns(one: Mapping[str, Any], two: Mapping[str, Any], names: tuple[str, str]) -> list[str]:
    lines = []
    for column in sorted(one.keys() | two.keys()):
        if column not in one or column not in two:
            lines.append(f"column {column} only in {names[column not in one]}")
            continue
        for attribute in _ATTRIBUTES:
            a, b = one[column][attribute], two[column][attribute]
            if a != b:
                lines.append(f"column {column}: {attribute} {_value(a)} in {names[0]}, {_value(b)} in {names[1]}")
    return lines


def _only(one: Sequence[str], two: Sequence[str], names: tuple[str, str]) -> list[str]:
    first, second = Counter(one), Counter(two)
    lines = [f"{text} only in {names[0]}" for text in (first - second).elements()]
    return sorted(lines + [f"{text} only in {names[1]}" for text in (second - first).elements()])


def _columns(names: Sequence[str]) -> str:
    return f"({', '.join(names)})"


def _foreign_key(key: Mapping[str, Any]) -> str:
    text = f"foreign key {_columns(key['columns'])} to {key['table']}{_columns(key['references'])}"
    text += f" on delete {key['on_delete'].lower()}"
    return text + (f" on update {key['on_update'].lower()}" if "on_update" in key else "")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else str(value)
