# SPDX-License-Identifier: GPL-3.0-or-later
"""``_replicate``: once, between databases of this server, with checkpoints in both as CouchDB keeps them."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

from .couch_changes import Filter, chosen_filter
from .couch_documents import save
from .couch_errors import Answer, Document, StoreError, not_modelled
from .couch_render import render, revisions
from .couch_server import Request, Server
from .couch_store import Database, Entry

_DATE = "%a, %d %b %Y %H:%M:%S GMT"


def replicate(server: Server, request: Request) -> Answer:
    """``POST /_replicate``. Raises StoreError."""
    asked = request.object()
    if asked.get("continuous") or asked.get("cancel"):
        raise not_modelled("continuous replication")
    if "source" not in asked or "target" not in asked:
        raise StoreError(500, "error", "Missing replicator database")
    source = _open(server, asked["source"], create=False)
    target = _open(server, asked["target"], create=bool(asked.get("create_target")))
    checkpoint = "_local/" + _identity(asked)
    return 200, _run(server, source, target, _filter(server, source, asked), checkpoint)


def _open(server: Server, place: Any, create: bool) -> Database:
    """The database that a name or a URL means; every URL is taken for one of this server."""
    address = str(place["url"] if isinstance(place, dict) else place)
    parts = urlsplit(address)
    name = unquote(parts.path.strip("/").rpartition("/")[2]) if parts.scheme else address
    if name not in server.store.databases and create:
        server.store.create(name, int(server.clock()))
    if name not in server.store.databases:
        host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.scheme else "http://127.0.0.1:5984"
        shown = f"{host}/{parts.path.strip('/') if parts.scheme else address}/"
        raise StoreError(500, "db_not_found", f"could not open {shown}")
    return server.store.databases[name]


def _identity(asked: Document) -> str:
    kept = {key: value for key, value in asked.items() if key != "create_target"}
    return hashlib.md5(json.dumps(kept, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def _filter(server: Server, source: Database, asked: Document) -> Filter | None:
    if "selector" in asked:
        query, body = {"filter": "_selector"}, {"selector": asked["selector"]}
    elif "doc_ids" in asked:
        query, body = {"filter": "_doc_ids"}, {"doc_ids": asked["doc_ids"]}
    elif "filter" in asked:
        query, body = {"filter": asked["filter"], **asked.get("query_params", {})}, {}
    else:
        return None
    return chosen_filter(server, source, Request("POST", "/", [], query, body))


def _run(server: Server, source: Database, target: Database, passes: Filter | None, checkpoint: str) -> Document:
    begin = time.strftime(_DATE, time.gmtime(server.clock()))
    known = source.local.get(checkpoint)
    last = known["source_last_seq"] if known and checkpoint in target.local else 0
    since = source.since(str(last))
    counts = dict.fromkeys(("missing_checked", "missing_found", "docs_read", "docs_written", "doc_write_failures"), 0)
    in_bulk = 0
    for number in [number for number in source.by_sequence if number > since]:
        name = source.by_sequence[number]
        written = _copy(server, name, source.documents[name], target, passes, counts)
        in_bulk += 0 if name.startswith("_design/") else written
    if known and last == source.update_seq():
        return {"ok": True, "no_changes": True, **_public(known)}
    session = uuid.uuid4().hex
    entry = {
        "session_id": session,
        "start_time": begin,
        "end_time": time.strftime(_DATE, time.gmtime(server.clock())),
        "start_last_seq": last,
        "end_last_seq": source.update_seq(),
        "recorded_seq": source.update_seq(),
        **counts,
        "bulk_get_docs": in_bulk,
        "bulk_get_attempts": in_bulk,
    }
    log = {
        "session_id": session,
        "source_last_seq": source.update_seq(),
        "replication_id_version": 4,
        "history": [entry, *(known or {}).get("history", [])][:50],
    }
    for database in (source, target):
        number = int(str(database.local.get(checkpoint, {}).get("_rev", "0-0"))[2:]) + 1
        database.local[checkpoint] = {"_id": checkpoint, "_rev": f"0-{number}", **log}
        database.touched += 1
    return {"ok": True, **log}


def _public(log: Document) -> Document:
    return {key: value for key, value in log.items() if not key.startswith("_")}


def _copy(
    server: Server, name: str, entry: Entry, target: Database, passes: Filter | None, counts: dict[str, int]
) -> int:
    """Bring the leaves of one document that the target has not; how many were read."""
    leaves = entry.tree.ranked()
    if passes is not None:
        verdicts = passes([render(name, entry, leaf) for leaf in leaves])
        leaves = [leaf for leaf, passed in zip(leaves, verdicts, strict=True) if passed]
    there = target.documents.get(name)
    absent = [leaf for leaf in leaves if there is None or leaf not in there.tree.nodes]
    counts["missing_checked"] += len(leaves)
    counts["missing_found"] += len(absent)
    for leaf in absent:
        node = entry.tree.nodes[leaf]
        document = {"_id": name, "_rev": leaf, **(node.body or {}), "_revisions": revisions(entry.tree, leaf)}
        counts["docs_read"] += 1
        try:
            save(server, target, name, document | ({"_deleted": True} if node.deleted else {}), new_edits=False)
            counts["docs_written"] += 1
        except StoreError as error:
            if error.status not in (401, 403):
                raise
            counts["doc_write_failures"] += 1
    return len(absent)
