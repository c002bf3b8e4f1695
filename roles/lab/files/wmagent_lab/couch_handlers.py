# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions of design documents that make an answer: updates, shows, lists."""

from __future__ import annotations

import json
from typing import Any

from .couch_documents import save
from .couch_errors import Answer, Document, Raw, StoreError
from .couch_functions import described_request, function
from .couch_javascript import Interpreter
from .couch_render import check_id, render
from .couch_server import Request, Server
from .couch_store import Database


def update(server: Server, database: Database, owner: Document, words: list[str], request: Request) -> Answer:
    """``_update/<function>[/<document>]``: the function writes the document and says what is answered."""
    source = function(owner, "updates", words[0])
    identifier = "/".join(words[1:]) or None
    entry = database.documents.get(identifier) if identifier else None
    old = render(identifier, entry, entry.tree.winner()) if identifier and entry and entry.live else None
    result = Interpreter(owner).call(source, old, described_request(database, request, identifier))
    pair = result.get("value")
    if "thrown" in result or not isinstance(pair, list) or len(pair) != 2:
        raise StoreError(500, "render_error", "undefined response from update function")
    new, said = pair
    headers: dict[str, str] = {}
    status = 200
    if new is not None:
        key = check_id(new.get("_id") or identifier)
        revision = save(server, database, key, new)
        headers, status = {"X-Couch-Id": key, "X-Couch-Update-NewRev": revision}, 201
    return _said(said, status, headers)


def show(database: Database, owner: Document, words: list[str], request: Request) -> Answer:
    """``_show/<function>[/<document>]``."""
    source = function(owner, "shows", words[0])
    identifier = "/".join(words[1:]) or None
    entry = database.documents.get(identifier) if identifier else None
    shown = render(identifier, entry, entry.tree.winner()) if identifier and entry and entry.live else None
    result = Interpreter(owner).call(source, shown, described_request(database, request, identifier))
    if result.get("value") is None and result.get("chunks"):
        return _said("".join(result["chunks"]), 200, {})
    return _said(result.get("value"), 200, {})


def lists(database: Database, owner: Document, name: str, answer: Document, request: Request) -> Answer:
    """``_list/<function>/<view>``: the function makes the body of the view's rows."""
    interpreter = Interpreter(owner)
    interpreter.rows(answer["rows"])
    head = {key: value for key, value in answer.items() if key != "rows"}
    result = interpreter.call(function(owner, "lists", name), head, described_request(database, request, None))
    if "thrown" in result:
        raise StoreError(500, "render_error", json.dumps(result["thrown"]))
    tail = result["value"] if isinstance(result["value"], str) else ""
    started = result["start"] or {}
    kind = started.get("headers", {}).get("Content-Type", "application/json")
    return int(started.get("code", 200)), Raw(("".join(result["chunks"]) + tail).encode(), kind)


def _said(said: Any, status: int, headers: dict[str, str]) -> Answer:
    """A function's answer: text, or an object with code, headers, body or json."""
    if not isinstance(said, dict):
        return status, Raw(str(said or "").encode(), "text/html; charset=utf-8", headers)
    status = int(said.get("code", status))
    given = {str(key): str(value) for key, value in said.get("headers", {}).items()}
    kind = given.pop("Content-Type", "application/json" if "json" in said else "text/html; charset=utf-8")
    body = json.dumps(said["json"]) if "json" in said else str(said.get("body", ""))
    return status, Raw(body.encode(), kind, {**headers, **given})
