# SPDX-License-Identifier: GPL-3.0-or-later
"""Single documents of the CouchDB stand-in: reading with its options, writing, deleting, attachments."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from . import couch_functions
from .couch_erlang import revision_digest
from .couch_errors import Answer, Document, Raw, StoreError, bad_request, missing, not_allowed
from .couch_render import INVALID_REVISION, REVISION, SPECIAL, check_id, render
from .couch_revisions import Node, generation
from .couch_server import Request, Server
from .couch_store import Database, Entry


def answer(server: Server, database: Database, identifier: str, request: Request) -> Answer:
    """A request for one document."""
    if request.method in ("GET", "HEAD"):
        return 200, _read(database, identifier, request)
    if request.method == "PUT":
        given = _with_revision(request)
        revision = save(server, database, identifier, given, request.query.get("new_edits") != "false")
        return 201, {"ok": True, "id": identifier, "rev": revision}
    if request.method == "DELETE":
        database.winner(identifier)
        given = {"_deleted": True, "_rev": request.query.get("rev")}
        return 200, {"ok": True, "id": identifier, "rev": save(server, database, identifier, given)}
    if request.method == "POST":
        raise bad_request("Referer header required.")
    raise not_allowed("DELETE,GET,HEAD,POST,PUT")


def _with_revision(request: Request) -> Document:
    if not isinstance(request.body, dict):
        raise bad_request("Document must be a JSON object")
    return {**request.body, "_rev": request.query["rev"]} if "rev" in request.query else request.body


def save(server: Server, database: Database, identifier: str, given: Any, new_edits: bool = True) -> str:
    """Write one revision and return its name. Raises StoreError: conflict, bad document, refused by a design document.

    new_edits: False for a revision that comes from elsewhere with its own name
    """
    check_id(identifier)
    if not isinstance(given, dict):
        raise bad_request("Document must be a JSON object")
    for key in given:
        if key.startswith("_") and not SPECIAL.match(key):
            raise StoreError(400, "doc_validation", f"Bad special document member: {key}")
    named = given.get("_rev")
    if named is not None and not REVISION.match(str(named)):
        raise bad_request(INVALID_REVISION)
    deleted = bool(given.get("_deleted"))
    parent = _parent(server, database, identifier, given) if new_edits else None
    path = [parent] if parent else []
    if not new_edits:
        path = _foreign_path(given)
    number = generation(parent) + 1 if new_edits and parent else generation(path[0]) if path else 1
    attachments = _attachments(database, identifier, parent, given.get("_attachments") or {}, number)
    plain = {key: value for key, value in given.items() if not key.startswith("_") or key.startswith("_replication_")}
    if new_edits:
        digest = revision_digest(
            deleted,
            number - 1,
            parent.partition("-")[2] if parent else "",
            plain,
            [(name, item["content_type"], base64.b64decode(item["digest"][4:])) for name, item in attachments.items()],
        )
        path = [f"{number}-{digest}", *path]
    if not (new_edits and identifier.startswith("_design/")):
        couch_functions.validate(server, database, identifier, {**given, "_id": identifier, "_rev": path[0]})
    if identifier.startswith("_design/") and new_edits and not deleted:
        couch_functions.check_design(server, plain)
    server.faults.write()
    size = len(json.dumps(plain, separators=(",", ":"), ensure_ascii=False))
    size += sum(item["length"] for item in attachments.values())
    body = {**plain, "_attachments": attachments} if attachments else plain
    full = path if not parent else [path[0], *database.documents[identifier].tree.history(parent)]
    database.merge(identifier, full, Node(None, deleted, body, size))
    return path[0]


def _parent(server: Server, database: Database, identifier: str, given: Document) -> str | None:
    """The revision that an edit follows. Raises StoreError."""
    try:
        return database.parent_of_edit(identifier, given.get("_rev"), bool(given.get("_deleted")))
    except StoreError:
        entry = database.documents.get(identifier)
        if entry is not None and not entry.counted and given.get("_rev") in (None, *entry.tree.leaves):
            # CouchDB finds this conflict only after the design documents had their say.
            couch_functions.validate(server, database, identifier, {**given, "_id": identifier})
        raise


def _foreign_path(given: Document) -> list[str]:
    history = given.get("_revisions")
    if history:
        start = int(history["start"])
        return [f"{start - position}-{digest}" for position, digest in enumerate(history["ids"])]
    if given.get("_rev") is None:
        raise bad_request("When `new_edits: false`, the document needs `_rev` or `_revisions` specified")
    return [str(given["_rev"])]


def _attachments(database: Database, identifier: str, parent: str | None, given: Document, number: int) -> Document:
    entry = database.documents.get(identifier)
    node = entry.tree.nodes.get(parent) if entry and parent else None
    old = ((node.body if node else None) or {}).get("_attachments", {})
    kept: Document = {}
    for name, item in given.items():
        if "data" in item:
            data = base64.b64decode(item["data"])
            kept[name] = attachment(
                data, item.get("content_type", "application/octet-stream"), item.get("revpos", number)
            )
        elif name in old:
            kept[name] = old[name]
        else:
            raise StoreError(412, "missing_stub", f"Invalid attachment stub in {identifier} for {name}")
    return kept


def attachment(data: bytes, content_type: str, number: int) -> Document:
    """An attachment as a revision keeps it."""
    return {
        "content_type": content_type,
        "revpos": number,
        "digest": "md5-" + base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode(),
        "length": len(data),
        "data": base64.b64encode(data).decode(),
    }


def attached(server: Server, database: Database, identifier: str, name: str, request: Request) -> Answer:
    """A request for one attachment."""
    if request.method in ("GET", "HEAD"):
        item = ((database.winner(identifier).body) or {}).get("_attachments", {}).get(name)
        if item is None:
            raise missing("Document is missing attachment")
        return 200, Raw(base64.b64decode(item["data"]), item["content_type"])
    if request.method not in ("PUT", "DELETE"):
        raise not_allowed("DELETE,GET,HEAD,PUT")
    entry = database.documents.get(identifier)
    given: Document = {}
    if entry is not None and entry.live:
        revision = request.query.get("rev")
        if revision not in entry.tree.leaves:
            raise StoreError(409, "conflict", "Document update conflict.")
        given = {**(entry.tree.nodes[revision].body or {}), "_rev": revision}
    items: Document = {key: {"stub": True} for key in given.get("_attachments", {})}
    if request.method == "DELETE":
        if items.pop(name, None) is None:
            raise missing("Document is missing attachment")
    else:
        data = request.body if isinstance(request.body, bytes) else b""
        kind = request.content_type or "application/octet-stream"
        items[name] = {"data": base64.b64encode(data).decode(), "content_type": kind}
    revision = save(server, database, identifier, {**given, "_attachments": items})
    return (201 if request.method == "PUT" else 200), {"ok": True, "id": identifier, "rev": revision}


def _read(database: Database, identifier: str, request: Request) -> Any:
    entry = database.documents.get(identifier)
    if "open_revs" in request.query:
        return _open_revisions(identifier, entry, request)
    if "rev" in request.query:
        revision = request.query["rev"]
        if not REVISION.match(revision):
            raise bad_request(INVALID_REVISION)
        if entry is None or revision not in entry.tree.nodes or entry.tree.nodes[revision].body is None:
            raise missing()
        return render(identifier, entry, revision, request)
    database.winner(identifier)
    assert entry is not None
    return render(identifier, entry, entry.tree.winner(), request)


def _open_revisions(identifier: str, entry: Entry | None, request: Request) -> list[Document]:
    wanted = request.query["open_revs"]
    if wanted == "all":
        if entry is None:
            raise missing()
        return [{"ok": render(identifier, entry, leaf, request)} for leaf in entry.tree.ordered()]
    rows = []
    for revision in request.value("open_revs"):
        if not REVISION.match(str(revision)):
            raise bad_request(INVALID_REVISION)
        node = entry.tree.nodes.get(revision) if entry else None
        found = entry is not None and node is not None and node.body is not None
        rows.append({"ok": render(identifier, entry, revision, request)} if entry and found else {"missing": revision})
    return rows


def local(server: Server, database: Database, identifier: str, request: Request) -> Answer:
    """A request for one ``_local`` document: no revisions, not replicated, outside the update sequence."""
    known = database.local.get(identifier)
    if request.method in ("PUT", "DELETE"):
        server.faults.write()
    if request.method == "PUT":
        given = request.object()
        text = str(given.get("_rev", "0-0"))
        if not REVISION.match(text):
            raise bad_request(INVALID_REVISION)
        revision = f"0-{int(text.partition('-')[2] or 0) + 1}"
        database.local[identifier] = {"_id": identifier, **given, "_rev": revision}
        database.touched += 1
        return 201, {"ok": True, "id": identifier, "rev": revision}
    if known is None:
        raise missing()
    if request.method == "DELETE":
        del database.local[identifier]
        database.touched += 1
        return 200, {"ok": True, "id": identifier, "rev": "0-0"}
    return 200, known
