# SPDX-License-Identifier: GPL-3.0-or-later
"""``_changes``: the last change of each document, with the filters that CouchDB has."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from . import couch_functions
from .couch_errors import Answer, Document, Raw, bad_request, not_modelled
from .couch_render import render
from .couch_selector import compile_selector
from .couch_server import Request, Server
from .couch_store import Database, Entry

Filter = Callable[[list[Document]], list[bool]]
"""Which of these revisions pass."""


def changes(server: Server, database: Database, request: Request) -> Answer:
    """``GET`` or ``POST /<database>/_changes``. Feeds that stay open answer at once with what there is."""
    since = database.since(request.query.get("since", "0"))
    passes = chosen_filter(server, database, request)
    limit = request.number("limit")
    numbers = [number for number in database.by_sequence if number > since]
    if request.flag("descending"):
        numbers.reverse()
    rows: list[Document] = []
    looked_at = 0
    last = since
    for number in numbers:
        if limit is not None and len(rows) >= limit:
            break
        looked_at, last = looked_at + 1, number
        identifier = database.by_sequence[number]
        row = _row(database, identifier, database.documents[identifier], passes, request)
        if row is not None:
            rows.append(row)
    if looked_at == len(numbers) and not request.flag("descending"):
        last = max(since, database.sequence)
    end = {"last_seq": database.update_seq(last), "pending": len(numbers) - looked_at}
    if request.query.get("feed") != "continuous":
        return 200, {"results": rows, **end}
    if not rows:
        return 200, end
    lines = "".join(json.dumps(row) + "\n" for row in (*rows, end))
    return 200, Raw(lines.encode(), "application/json")


def _row(database: Database, identifier: str, entry: Entry, passes: Filter | None, request: Request) -> Document | None:
    winner = entry.tree.winner()
    leaves = entry.tree.ranked() if request.query.get("style") == "all_docs" else [winner]
    if passes is not None:
        verdicts = passes([render(identifier, entry, leaf) for leaf in leaves])
        leaves = [leaf for leaf, passed in zip(leaves, verdicts, strict=True) if passed]
        if not leaves:
            return None
    row: Document = {
        "seq": database.update_seq(entry.sequence),
        "id": identifier,
        "changes": [{"rev": leaf} for leaf in leaves],
    }
    if not entry.live:
        row["deleted"] = True
    if request.flag("include_docs"):
        row["doc"] = render(identifier, entry, winner, request)
    return row


def chosen_filter(server: Server, database: Database, request: Request) -> Filter | None:
    """The filter that a request names, None for none. Raises StoreError."""
    name = request.query.get("filter")
    if name is None:
        return None
    body: Any = request.body if isinstance(request.body, dict) else {}
    if name == "_selector":
        if "selector" not in body:
            raise bad_request("Selector must be specified in POST payload")
        match = compile_selector(body["selector"])
        return lambda documents: [match(document) for document in documents]
    if name == "_doc_ids":
        wanted = set(body.get("doc_ids") or request.value("doc_ids") or ())
        return lambda documents: [document["_id"] in wanted for document in documents]
    if name == "_design":
        return lambda documents: [document["_id"].startswith("_design/") for document in documents]
    if name == "_view":
        raise not_modelled("filter _view")
    if "/" not in name:
        raise bad_request("`filter` must be of the form `designname/filtername`")
    return couch_functions.change_filter(server, database, name, request)
