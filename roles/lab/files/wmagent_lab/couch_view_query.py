# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to views: ranges, keys, groups, reductions, pages."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from .couch_bulk import page, wanted_keys
from .couch_collation import collate
from .couch_errors import Answer, Document, StoreError, missing
from .couch_reduces import Row, reduce_groups
from .couch_render import render
from .couch_server import Request
from .couch_store import Database
from .couch_views import Index, index_of, position, views_of

_LAST_ID = chr(0x10FFFF)
_REVERSED = "No rows can match your key range, reverse your start_key and end_key or set descending=true"


def query(database: Database, name: str, view: str, request: Request) -> Answer:
    """``_design/<name>/_view/<view>``. Raises StoreError."""
    request = _with_body(request)
    index = index_of(database, name)
    if view not in index.names:
        raise missing("missing_named_view")
    source = views_of(index.owner)[view].get("reduce")
    reduced = source is not None and request.query.get("reduce") != "false"
    _refuse(request, source, reduced)
    late = "update" if request.query.get("update") in ("false", "lazy") else "stale"
    if request.query.get(late) not in ("false", "lazy", "ok", "update_after"):
        index.update(database)
    return 200, _reduced(index, view, source, request) if reduced else _mapped(database, index, view, request)


def _with_body(request: Request) -> Request:
    """A POST may give in its body what a GET gives in its query."""
    if request.method != "POST" or not isinstance(request.body, dict):
        return request
    words = {key: _word(key, value) for key, value in request.body.items() if key != "keys"}
    return Request("POST", request.path, request.words, {**request.query, **words}, request.body)


def _word(key: str, value: Any) -> str:
    plain = isinstance(value, str) and key.replace("_", "") not in ("startkey", "endkey", "key")
    return value if plain else json.dumps(value)


def _refuse(request: Request, source: Any, reduced: bool) -> None:
    problem = ""
    grouped = request.flag("group") or request.number("group_level") not in (None, 0)
    if source is None and request.flag("reduce"):
        problem = "Reduce is invalid for map-only views."
    elif not reduced and grouped:
        problem = "Invalid use of grouping on a map view."
    elif reduced and request.flag("include_docs"):
        problem = "`include_docs` is invalid for reduce"
    if problem:
        raise StoreError(400, "query_parse_error", problem)


def _given(request: Request, *names: str) -> tuple[Any, bool]:
    """A parameter's value and whether it is there, since null is a key like any other."""
    name = next((name for name in names if name in request.query), None)
    return (request.value(name), True) if name else (None, False)


def _range(rows: list[Row], request: Request) -> tuple[list[Row], int]:
    """Rows in the range that is asked for, in the order that is asked for, and how many come before them."""
    backwards = request.flag("descending")
    one, only = _given(request, "key")
    first, begins = (one, True) if only else _given(request, "startkey", "start_key")
    last, ends = (one, True) if only else _given(request, "endkey", "end_key")
    first_id = request.query.get("startkey_docid", request.query.get("start_key_doc_id", "")).strip('"')
    last_id = request.query.get("endkey_docid", request.query.get("end_key_doc_id", "")).strip('"')
    if begins and ends:
        one_key, other = collate(first), collate(last)
        if (one_key < other) if backwards else (one_key > other):
            raise StoreError(400, "query_parse_error", _REVERSED, ref=0)
    inclusive = request.query.get("inclusive_end") != "false" or only
    if backwards:
        top = position(rows, (collate(first), (first_id or _LAST_ID) + "\0")) if begins else len(rows)
        bottom = _end(rows, collate(last), last_id, inclusive, True) if ends else 0
        return rows[bottom:top][::-1], len(rows) - top
    bottom = position(rows, (collate(first), first_id)) if begins else 0
    top = _end(rows, collate(last), last_id, inclusive, False) if ends else len(rows)
    return rows[bottom:top], bottom


def _end(rows: list[Row], key: tuple[Any, ...], identifier: str, inclusive: bool, backwards: bool) -> int:
    """Where the rows up to and with (or without) the last key end."""
    if backwards:
        return (
            position(rows, (key, identifier)) if inclusive else position(rows, (key, (identifier or _LAST_ID) + "\0"))
        )
    return position(rows, (key, (identifier or _LAST_ID) + "\0")) if inclusive else position(rows, (key, identifier))


def _mapped(database: Database, index: Index, view: str, request: Request) -> Document:
    rows, keys = index.rows(view), wanted_keys(request)
    if keys is None:
        chosen, before = _range(rows, request)
        before += request.number("skip") or 0
    else:
        chosen, before = [row for key in keys for row in _equal(rows, key)], 0
    answer: Document = {"total_rows": len(rows), "offset": min(before, len(rows))}
    if request.flag("update_seq"):
        answer["update_seq"] = database.update_seq(index.sequence)
    return {**answer, "rows": [_row(database, row, request) for row in page(chosen, request)]}


def _equal(rows: list[Row], key: Any) -> list[Row]:
    sought = collate(key)
    return rows[position(rows, (sought, "")) : position(rows, (sought, _LAST_ID + "\0"))]


def _row(database: Database, row: Row, request: Request) -> Document:
    shown: Document = {"id": row[1], "key": row[3], "value": row[4]}
    if request.flag("include_docs"):
        linked = row[4].get("_id") if isinstance(row[4], dict) else None
        identifier = linked or row[1]
        entry = database.documents.get(identifier)
        shown["doc"] = render(identifier, entry, entry.tree.winner(), request) if entry and entry.live else None
    return shown


def _reduced(index: Index, view: str, source: str, request: Request) -> Document:
    rows, keys = index.rows(view), wanted_keys(request)
    level = request.number("group_level")
    depth = None if request.flag("group") else level or 0
    if keys is not None:
        if depth == 0 and len(keys) > 1:
            raise StoreError(400, "query_parse_error", "Multi-key fetches for reduce views must use `group=true`")
        parts = [(key, _equal(rows, key)) for key in keys]
        if depth == 0:
            parts = [(None, part) for _, part in parts]
    else:
        chosen, _ = _range(rows, request)
        parts = [(None, chosen)] if depth == 0 else _groups(chosen, depth)
    parts = page([(key, part) for key, part in parts if part], request)
    values = reduce_groups(index.owner, source, [part for _, part in parts])
    return {"rows": [{"key": key, "value": value} for (key, _), value in zip(parts, values, strict=True)]}


def _groups(rows: list[Row], depth: int | None) -> list[tuple[Any, list[Row]]]:
    groups = []
    for _, part in groupby(rows, key=lambda row: _cut(row[0], depth)):
        found = list(part)
        key = found[0][3]
        groups.append((key[:depth] if depth and isinstance(key, list) else key, found))
    return groups


def _cut(key: tuple[Any, ...], depth: int | None) -> tuple[Any, ...]:
    return (key[0], key[1][:depth]) if depth and key[0] == 5 else key
