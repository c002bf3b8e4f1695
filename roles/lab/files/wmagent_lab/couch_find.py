# SPDX-License-Identifier: GPL-3.0-or-later
"""``_find`` over all documents. There are no Mango indexes but the one by id."""

from __future__ import annotations

import base64
from collections.abc import Callable
from operator import ge, gt, le, lt
from typing import Any

from .couch_errors import Answer, Document, StoreError, not_allowed, not_modelled
from .couch_render import render
from .couch_selector import ABSENT, compile_selector, field
from .couch_server import Request
from .couch_store import Database

WARNING = "No matching index found, create an index to optimize query time."
_MARK = "g1AAAA"


def find(database: Database, request: Request) -> Answer:
    """``POST /<database>/_find``. Raises StoreError."""
    asked = request.object()
    if "selector" not in asked:
        raise StoreError(400, "missing_required_key", "Missing required key: selector")
    selector = asked["selector"]
    match = compile_selector(selector)
    backwards = _backwards(asked.get("sort"), selector)
    after = _decode(asked.get("bookmark"))
    limit, skip = int(asked.get("limit", 25)), int(asked.get("skip", 0))
    found: list[tuple[str, Document]] = []
    ids = database.live_ids()
    inside = _by_bytes(selector.get("_id"))
    for name in reversed(ids) if backwards else ids:
        if (
            name.startswith("_design/")
            or not inside(name)
            or (after and (name >= after if backwards else name <= after))
        ):
            continue
        entry = database.documents[name]
        document = render(name, entry, entry.tree.winner())
        if match(document):
            found.append((name, document))
            if len(found) >= skip + limit:
                break
    found = found[skip:]
    rows = [_fields(document, asked.get("fields")) for _, document in found]
    bookmark = _encode(found[-1][0]) if found else "nil"
    return 200, {"docs": rows, "bookmark": bookmark, "warning": WARNING}


_RANGES: dict[str, Callable[[str, str], bool]] = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}


def _by_bytes(condition: Any) -> Callable[[str], bool]:
    """Limits of the id, which the index by id takes by the order of bytes; the selector itself goes by collation."""
    limits = condition.items() if isinstance(condition, dict) else ()
    tests = [(_RANGES[word], value) for word, value in limits if word in _RANGES and isinstance(value, str)]
    return lambda name: all(test(name, value) for test, value in tests)


def _backwards(sort: Any, selector: Document) -> bool:
    if not sort:
        return False
    first = sort[0] if isinstance(sort[0], dict) else {sort[0]: "asc"}
    if list(first) != ["_id"] or len(sort) > 1 or "_id" not in selector:
        raise StoreError(400, "no_usable_index", "No index exists for this sort, try indexing by the sort fields.")
    return bool(first["_id"] == "desc")


def _fields(document: Document, wanted: list[str] | None) -> Document:
    if not wanted:
        return document
    shown: Document = {}
    for path in wanted:
        value = field(document, path)
        if value is ABSENT:
            continue
        *outer, last = path.split(".")
        place = shown
        for word in outer:
            place = place.setdefault(word, {})
        place[last] = value
    return shown


def _encode(identifier: str) -> str:
    return _MARK + base64.urlsafe_b64encode(identifier.encode()).decode().rstrip("=")


def _decode(bookmark: Any) -> str:
    if not bookmark or bookmark == "nil":
        return ""
    text = str(bookmark).removeprefix(_MARK)
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        raise StoreError(400, "invalid_bookmark", f'Invalid bookmark value: "{bookmark}"') from None


def indexes(request: Request) -> Answer:
    """``_index``: the one by id."""
    if request.method == "POST":
        raise not_modelled("Mango indexes")
    if request.method != "GET":
        raise not_allowed("GET,POST")
    only = {"ddoc": None, "name": "_all_docs", "type": "special", "def": {"fields": [{"_id": "asc"}]}}
    return 200, {"total_rows": 1, "indexes": [only]}
