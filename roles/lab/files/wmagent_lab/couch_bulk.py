# SPDX-License-Identifier: GPL-3.0-or-later
"""Many documents at once: ``_bulk_docs``, ``_bulk_get``, ``_revs_diff``, ``_all_docs`` and its relatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from . import couch_documents as documents
from .couch_errors import Answer, Document, StoreError, bad_request
from .couch_faults import DiskFullError
from .couch_render import check_id, render
from .couch_revisions import order
from .couch_server import Request, Server
from .couch_store import Database


def bulk_docs(server: Server, database: Database, request: Request) -> Answer:
    """``_bulk_docs``: each document has its own success or failure."""
    body = request.body
    if not isinstance(body, dict) or "docs" not in body:
        raise bad_request("POST body must include `docs` parameter.")
    if not isinstance(body["docs"], list):
        raise bad_request("`docs` parameter must be an array.")
    new_edits = body.get("new_edits", True)
    # One that is no document at all refuses the whole request.
    for document in body["docs"]:
        if not isinstance(document, dict):
            raise bad_request("Document must be a JSON object")
        check_id(document.get("_id"))
    rows: list[Document] = []
    status = 201
    for document in body["docs"]:
        key = check_id(document.get("_id"))
        try:
            if key.startswith("_local/"):
                rows.append(documents.local(server, database, key, _put_local(document))[1])
                continue
            rows.append({"ok": True, "id": key, "rev": documents.save(server, database, key, document, new_edits)})
        except DiskFullError as error:
            rows.append({"id": key, **error.body})
            status = error.status
        except StoreError as error:
            if error.status not in (401, 403, 409, 412):
                raise
            rows.append({"id": key, **error.body})
    return status, rows if new_edits else [row for row in rows if "error" in row]


def _put_local(document: Document) -> Request:
    return Request("PUT", "", [], {}, document)


def bulk_get(database: Database, request: Request) -> Answer:
    """``_bulk_get``."""
    body = request.body
    if not isinstance(body, dict) or not isinstance(body.get("docs"), list):
        raise bad_request("Missing JSON list of 'docs'.")
    return 200, {"results": [_got(database, asked, request) for asked in body["docs"]]}


def _got(database: Database, asked: Document, request: Request) -> Document:
    """The revision that is asked for; all leaves where none is."""
    key, revision = asked["id"], asked.get("rev")
    entry = database.documents.get(key)
    wanted = [] if entry is None else [str(revision)] if revision else entry.tree.ordered()[::-1]
    found = [leaf for leaf in wanted if entry and leaf in entry.tree.nodes and entry.tree.nodes[leaf].body is not None]
    if entry is None or not found:
        error = {"id": key, "rev": revision or "undefined", "error": "not_found", "reason": "missing"}
        return {"id": key, "docs": [{"error": error}]}
    return {"id": key, "docs": [{"ok": render(key, entry, leaf, request)} for leaf in found]}


def revs_diff(database: Database, request: Request) -> Answer:
    """``_revs_diff``: the revisions that are not here."""
    rows = {}
    for key, revisions in request.object().items():
        entry = database.documents.get(key)
        absent = [item for item in revisions if entry is None or item not in entry.tree.nodes]
        if not absent:
            continue
        rows[key] = {"missing": absent}
        highest = max(order(item)[0] for item in absent)
        ancestors = [leaf for leaf in (entry.tree.ordered() if entry else ()) if order(leaf)[0] < highest]
        if ancestors:
            rows[key]["possible_ancestors"] = ancestors
    return 200, rows


def all_docs(database: Database, request: Request, prefix: str = "") -> Answer:
    """``_all_docs``; with a prefix ``_design_docs``. Ids are in the order of their bytes."""
    keys = wanted_keys(request)
    ids = database.live_ids()
    own = [name for name in ids if name.startswith(prefix)]
    total = len(own) if prefix else database.counts["live"]
    if keys is not None:
        rows = [_row(database, key, request) for key in keys]
        return 200, {"total_rows": total, "offset": None, "rows": page(rows, request)}
    chosen, before = in_range(ids, request, lambda item: item)
    skip = request.number("skip") or 0
    if prefix:
        chosen, before = [name for name in chosen if name.startswith(prefix)], sum(1 for name in ids if name < prefix)
    names = page(chosen, request)
    if names and not prefix:
        # Tombstones that still count (see ``Entry.counted``) are counted here too.
        backwards, first = request.flag("descending"), names[0]
        counted = (name for name, entry in database.documents.items() if entry.counted)
        before, skip = sum(1 for name in counted if (name > first if backwards else name < first)), 0
    rows = [_row(database, name, request) for name in names]
    return 200, {"total_rows": total, "offset": min(before + skip, total), "rows": rows}


def local_docs(database: Database, request: Request) -> Answer:
    """``_local_docs``."""
    chosen, _ = in_range(sorted(database.local), request, lambda item: item)
    rows = []
    for name in page(chosen, request):
        row: Document = {"id": name, "key": name, "value": {"rev": database.local[name]["_rev"]}}
        rows.append(row | ({"doc": database.local[name]} if request.flag("include_docs") else {}))
    return 200, {"total_rows": None, "offset": None, "rows": rows}


def wanted_keys(request: Request) -> list[Any] | None:
    """The ``keys`` of a query or a body. Raises StoreError 400 where they are no list."""
    keys = request.body.get("keys") if isinstance(request.body, dict) and request.method == "POST" else None
    if keys is None:
        keys = request.value("keys")
    if keys is not None and not isinstance(keys, list):
        raise bad_request("`keys` body member must be an array.")
    return keys


def in_range(items: list[Any], request: Request, key: Callable[[Any], Any]) -> tuple[list[Any], int]:
    """Those between startkey and endkey in the order that is asked for, and how many come before."""
    backwards = request.flag("descending")
    one = request.value("key")
    first = one if one is not None else _either(request, "startkey", "start_key")
    last = one if one is not None else _either(request, "endkey", "end_key")
    low, high = (last, first) if backwards else (first, last)
    if low is not None and high is not None and low > high:
        raise StoreError(
            400,
            "query_parse_error",
            "No rows can match your key range, reverse your start_key and end_key or set descending=true",
            ref=0,
        )
    ordered = list(reversed(items)) if backwards else items
    open_end = request.query.get("inclusive_end") == "false" and one is None
    chosen = [
        item
        for item in ordered
        if (low is None or key(item) >= low)
        and (high is None or key(item) <= high)
        and not (open_end and key(item) == last)
    ]
    before = 0
    if first is not None:
        before = sum(1 for item in items if (key(item) > first if backwards else key(item) < first))
    return chosen, before


def _either(request: Request, *names: str) -> Any:
    return next((request.value(name) for name in names if name in request.query), None)


def page(rows: Iterable[Any], request: Request) -> list[Any]:
    """After ``skip``, at most ``limit``."""
    skip, limit = request.number("skip") or 0, request.number("limit")
    return list(rows)[skip : None if limit is None else skip + limit]


def _row(database: Database, key: Any, request: Request) -> Document:
    entry = database.documents.get(key) if isinstance(key, str) else None
    if entry is None:
        return {"key": key, "error": "not_found"}
    revision = entry.tree.winner()
    row: Document = {"id": key, "key": key, "value": {"rev": revision}}
    if not entry.live:
        row["value"]["deleted"] = True
    if request.flag("include_docs"):
        row["doc"] = render(key, entry, revision, request) if entry.live else None
    return row
