# SPDX-License-Identifier: GPL-3.0-or-later
"""How one revision of a document looks as JSON, with what a request asks to be told besides; ids and their limits."""

from __future__ import annotations

import re
import uuid
from typing import Any

from .couch_errors import Document, StoreError
from .couch_revisions import Node, RevisionTree, generation
from .couch_server import Request
from .couch_store import Entry

REVISION = re.compile(r"^\d+-.+$")
SPECIAL = re.compile(
    r"^_(id|rev|deleted|attachments|revisions|conflicts|deleted_conflicts|revs_info|local_seq|replication_.*)$"
)
INVALID_REVISION = "Invalid rev format"


def check_id(identifier: Any) -> str:
    """A document's id, a new one for None. Raises StoreError 400."""
    if identifier is None:
        return uuid.uuid4().hex
    if not isinstance(identifier, str):
        raise StoreError(400, "illegal_docid", "Document id must be a string")
    if identifier.startswith("_") and not identifier.startswith(("_design/", "_local/")):
        raise StoreError(400, "illegal_docid", "Only reserved document ids may start with underscore.")
    return identifier


def render(identifier: str, entry: Entry, revision: str, request: Request | None = None) -> Document:
    """One revision as JSON. ``request``: for its options conflicts, revs and so on."""
    node = entry.tree.nodes[revision]
    document: Document = {"_id": identifier, "_rev": revision, **(node.body or {})}
    if node.deleted:
        document["_deleted"] = True
    if "_attachments" in document:
        full = request is not None and request.flag("attachments")
        document["_attachments"] = {name: _shown(item, full) for name, item in document["_attachments"].items()}
    if request is not None:
        document.update(_options(entry, revision, request))
    return document


def _shown(item: Document, full: bool) -> Document:
    left_out = "length" if full else "data"
    shown = {key: value for key, value in item.items() if key != left_out}
    return shown if full else {**shown, "stub": True}


def _options(entry: Entry, revision: str, request: Request) -> Document:
    tree = entry.tree
    more: Document = {}
    meta = request.flag("meta")
    if request.flag("revs"):
        more["_revisions"] = revisions(tree, revision)
    if request.flag("revs_info") or meta:
        more["_revs_info"] = [{"rev": item, "status": _status(tree.nodes[item])} for item in tree.history(revision)]
    losers = [leaf for leaf in tree.ranked() if leaf != revision]
    for name, wanted in (("conflicts", False), ("deleted_conflicts", True)):
        found = [leaf for leaf in losers if tree.nodes[leaf].deleted == wanted]
        if found and (request.flag(name) or meta):
            more[f"_{name}"] = found
    if request.flag("local_seq") or meta:
        more["_local_seq"] = entry.sequence
    return more


def _status(node: Node) -> str:
    return "missing" if node.body is None else "deleted" if node.deleted else "available"


def revisions(tree: RevisionTree, revision: str) -> Document:
    """``_revisions`` of one revision."""
    return {
        "start": generation(revision),
        "ids": [item.partition("-")[2] for item in tree.history(revision)],
    }
