# SPDX-License-Identifier: GPL-3.0-or-later
"""Reduce functions of views: CouchDB's own ones, and those in JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .couch_collation import collate
from .couch_errors import Document, StoreError, not_modelled
from .couch_javascript import Interpreter

CHUNK = 200
"""Rows that a JavaScript reduce gets at once; more are reduced in parts and then together, as in CouchDB."""

Row = tuple[Any, str, int, Any, Any]
"""A row of an index: what it sorts by, the document, its place among the document's rows, key, value."""

_NOT_NUMBERS = (
    "The _sum function requires that map values be numbers, arrays of numbers, or objects. Objects cannot be mixed "
    "with other data structures. Objects can be arbitrarily nested, provided that the values for all fields are "
    "themselves numbers, arrays of numbers, or objects."
)


def reduce_groups(owner: Document, source: str, groups: Sequence[Sequence[Row]]) -> list[Any]:
    """One value for each group of rows. Raises StoreError."""
    if source.startswith("_"):
        # WMAgent has a "_sum;", which CouchDB takes.
        name = next((name for name in BUILT_IN if source.startswith(name)), None)
        if name is None:
            raise not_modelled(f"reduce {source}")
        return [BUILT_IN[name](group) for group in groups]
    interpreter = Interpreter(owner)
    parts = [[group[at : at + CHUNK] for at in range(0, len(group), CHUNK)] for group in groups]
    calls = [([[row[3], row[1]] for row in part], [row[4] for row in part], False) for item in parts for part in item]
    done = iter(interpreter.reduce(source, calls))
    values = [[next(done) for _ in item] for item in parts]
    again = iter(interpreter.reduce(source, [(None, item, True) for item in values if len(item) > 1]))
    return [next(again) if len(item) > 1 else item[0] for item in values]


def _count(rows: Sequence[Row]) -> int:
    return len(rows)


def _sum(rows: Sequence[Row]) -> Any:
    total: Any = 0
    for row in rows:
        try:
            total = _add(total, row[4])
        except TypeError:
            return {"error": "builtin_reduce_error", "reason": _NOT_NUMBERS, "caused_by": row[4]}
    return total


def _add(one: Any, two: Any) -> Any:
    if isinstance(two, dict) and (isinstance(one, dict) or one == 0):
        base = one if isinstance(one, dict) else {}
        return {**base, **{key: _add(base[key], item) if key in base else item for key, item in two.items()}}
    if isinstance(one, list) or isinstance(two, list):
        first, second = (item if isinstance(item, list) else [item] for item in (one, two))
        if len(first) < len(second):
            first, second = second, first
        return [_add(item, second[place]) if place < len(second) else item for place, item in enumerate(first)]
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in (one, two)):
        raise TypeError
    return one + two


def _stats(rows: Sequence[Row]) -> Document:
    values = [row[4] for row in rows]
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise StoreError(
                500,
                "builtin_reduce_error",
                "The _stats function requires that map values be numbers or arrays of numbers",
            )
    return {
        "sum": sum(values),
        "count": len(values),
        "min": min(values),
        "max": max(values),
        "sumsqr": sum(value * value for value in values),
    }


def _distinct(rows: Sequence[Row]) -> int:
    return len({collate(row[3]) for row in rows})


BUILT_IN: dict[str, Callable[[Sequence[Row]], Any]] = {
    "_count": _count,
    "_sum": _sum,
    "_stats": _stats,
    "_approx_count_distinct": _distinct,
}
