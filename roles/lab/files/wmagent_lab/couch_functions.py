# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions of design documents: finding them, checking them, validation of writes, filters of changes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from .couch_errors import Document, StoreError, missing, not_modelled
from .couch_javascript import Interpreter
from .couch_render import check_id, render
from .couch_server import Request, Server
from .couch_store import Database

USER: Document = {"name": "wmagent", "roles": ["_admin"]}
_REFUSALS = {"forbidden": 403, "unauthorized": 401}


def design(database: Database, name: str) -> Document:
    """A design document with its id. Raises StoreError 404."""
    identifier = f"_design/{name}"
    body = database.winner(identifier).body or {}
    return {"_id": identifier, **{key: value for key, value in body.items() if key != "_attachments"}}


def function(owner: Document, kind: str, name: str) -> str:
    """Source of one function. Raises StoreError 404."""
    source = owner.get(kind, {}).get(name)
    if source is None:
        raise missing(f"missing json key: {name if kind in owner else kind}")
    return str(source)


def validate(server: Server, database: Database, identifier: str, given: Document) -> None:
    """Let each design document's ``validate_doc_update`` refuse a write. Raises StoreError 401 or 403."""
    if not server.javascript or identifier.startswith("_design/"):
        return
    for name in sorted(database.designs):
        if not database.documents[name].live:
            continue
        owner = design(database, name.removeprefix("_design/"))
        source = owner.get("validate_doc_update")
        if source is None:
            continue
        entry = database.documents.get(identifier)
        old = render(identifier, entry, entry.tree.winner()) if entry and entry.live else None
        validator = _validator(name, database.documents[name].tree.winner(), owner)
        said = validator.call(source, given, old, {**USER, "db": database.name}, database.security).get("thrown")
        if said is not None:
            word = next((word for word in _REFUSALS if isinstance(said, dict) and word in said), "forbidden")
            reason = said.get(word) if isinstance(said, dict) else said
            raise StoreError(_REFUSALS[word], word, str(reason))


_kept = threading.local()


def _validator(name: str, revision: str, owner: Document) -> Interpreter:
    """One interpreter for each design document and thread: a bulk request validates thousands of documents."""
    kept: dict[str, tuple[str, Interpreter]] = vars(_kept).setdefault("validators", {})
    if name not in kept or kept[name][0] != revision:
        kept[name] = (revision, Interpreter(owner))
    return kept[name][1]


def check_design(server: Server, body: Document) -> None:
    """Refuse a design document whose map or reduce functions do not compile. Raises StoreError 400."""
    views = body.get("views", {})
    if not server.javascript or not isinstance(views, dict) or body.get("language", "javascript") != "javascript":
        return
    interpreter = Interpreter(body)
    for name, view in views.items():
        for kind in ("map", "reduce"):
            source = view.get(kind) if isinstance(view, dict) and name != "lib" else None
            if not isinstance(source, str) or source.startswith("_"):
                continue
            problem = interpreter.compiles(source)
            if problem:
                raise StoreError(
                    400,
                    "compilation_error",
                    f"Compilation of the {kind} function in the '{name}' view failed: {problem}",
                )


def change_filter(
    server: Server, database: Database, name: str, request: Request
) -> Callable[[list[Document]], list[bool]]:
    """The filter function ``design/name`` for changes. Raises StoreError."""
    owner_name, _, filter_name = name.partition("/")
    if not database.counts["live"]:
        # Also where there is no such design document: the lab's central databases are empty and have none.
        return lambda found: [False for _ in found]
    if not server.javascript:
        raise not_modelled("filter functions")
    owner = design(database, owner_name)
    source = function(owner, "filters", filter_name)
    interpreter = Interpreter(owner)
    described = described_request(database, request, None)
    return lambda found: interpreter.each(source, found, described)


def described_request(database: Database, request: Request, identifier: str | None) -> Document:
    """The request object that functions are given."""
    body = request.body
    text = (
        body.decode("utf-8", "replace")
        if isinstance(body, bytes)
        else "undefined"
        if body is None
        else json.dumps(body)
    )
    return {
        "info": database.info(),
        "uuid": check_id(None),
        "id": identifier,
        "method": request.method,
        "requested_path": request.words,
        "path": request.words,
        "raw_path": request.path,
        "query": request.query,
        "headers": {"Content-Type": request.content_type, "Accept": "application/json"},
        "body": text,
        "peer": "127.0.0.1",
        "form": {},
        "cookie": {},
        "userCtx": {**USER, "db": database.name},
        "secObj": database.security,
    }
