# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes of design documents: built when they are asked for, brought up to date by what changed or was purged."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from typing import Any

from . import couch_sizes as sizes
from .couch_collation import collate
from .couch_errors import Document, missing
from .couch_functions import design
from .couch_javascript import Interpreter
from .couch_reduces import Row
from .couch_render import render
from .couch_store import Database

BATCH = 500
"""Documents that the map functions get at once."""


class Index:
    """All views of one design document. ``sequence`` and ``purge_sequence``: how far it has followed the database."""

    def __init__(self, owner: Document) -> None:
        self.owner = owner
        self.names = [name for name, view in views_of(owner).items() if isinstance(view.get("map"), str)]
        self.signature = signature(owner)
        self.sequence = 0
        self.purge_sequence = 0
        self.file_size = sizes.EMPTY_INDEX
        self.uncommitted = False
        self.compacting = False
        self._by_document: dict[str, list[list[Row]]] = {}
        self._sorted: dict[str, list[Row]] = {}
        self._external: dict[str, int] = {}

    def rows(self, name: str) -> list[Row]:
        """All rows of a view in order. Raises StoreError 404."""
        if name not in self.names:
            raise missing("missing_named_view")
        if name not in self._sorted:
            place = self.names.index(name)
            self._sorted[name] = sorted(
                (row for found in self._by_document.values() for row in found[place]), key=lambda row: row[:3]
            )
        return self._sorted[name]

    def update(self, database: Database) -> None:
        """Follow the database: changed documents are mapped again, purged ones leave."""
        if self.sequence == database.sequence and self.purge_sequence == database.purge_sequence:
            return
        oldest = database.purges[0][0] if database.purges else database.purge_sequence + 1
        if self.sequence and self.purge_sequence + 1 < oldest:
            # It missed purges that are no longer remembered, so nothing it holds can be trusted.
            self.reset()
        changed = {database.by_sequence[number] for number in database.by_sequence if number > self.sequence}
        changed.update(name for number, name, _ in database.purges if number > self.purge_sequence)
        written = self._remap(database, sorted(changed))
        self.sequence, self.purge_sequence = database.sequence, database.purge_sequence
        self.file_size += written * 2 + 200
        self.uncommitted = True
        database.touched += 1

    def reset(self) -> None:
        """Hold nothing, as after a change of the design document."""
        self.sequence = self.purge_sequence = 0
        self._by_document, self._sorted, self._external = {}, {}, {}

    def _remap(self, database: Database, identifiers: list[str]) -> int:
        mapped, written = [], 0
        for identifier in identifiers:
            self._by_document.pop(identifier, None)
            self._external.pop(identifier, None)
            entry = database.documents.get(identifier)
            if entry is not None and entry.live and not identifier.startswith("_design/"):
                mapped.append(identifier)
        self._sorted = {}
        if not mapped or not self.names:
            return written
        interpreter = Interpreter(self.owner)
        for name in self.names:
            interpreter.add_map(views_of(self.owner)[name]["map"])
        for at in range(0, len(mapped), BATCH):
            batch = mapped[at : at + BATCH]
            for identifier, found in zip(batch, interpreter.map(_documents(database, batch)), strict=True):
                if any(found):
                    self._by_document[identifier] = [_rows(identifier, pairs) for pairs in found]
                    size = sum(sizes.index_row(*pair) for pairs in found for pair in pairs)
                    self._external[identifier] = size
                    written += size
        return written

    def active(self) -> int:
        """Bytes that a compaction would keep."""
        rows = sum(len(rows) for found in self._by_document.values() for rows in found)
        return sizes.index_active(self.external(), rows)

    def external(self) -> int:
        """Bytes of the rows as JSON."""
        return sum(self._external.values())

    def compact(self) -> None:
        """Leave only what is active in the file."""
        self.file_size = min(self.file_size, sizes.EMPTY_INDEX) + sizes.INDEX_SLACK + self.active()
        self.uncommitted = False


def _documents(database: Database, identifiers: list[str]) -> list[Document]:
    shown = []
    for identifier in identifiers:
        entry = database.documents[identifier]
        winner = entry.tree.winner()
        document = render(identifier, entry, winner)
        for leaf in entry.tree.ranked()[1:]:
            kind = "_deleted_conflicts" if entry.tree.nodes[leaf].deleted else "_conflicts"
            document.setdefault(kind, []).append(leaf)
        shown.append(document)
    return shown


def _rows(identifier: str, pairs: list[Any]) -> list[Row]:
    return [(collate(key), identifier, place, key, value) for place, (key, value) in enumerate(pairs)]


def views_of(owner: Document) -> Document:
    """The views of a design document, without its library."""
    views = owner.get("views") or {}
    return {name: view for name, view in views.items() if name != "lib" and isinstance(view, dict)}


def signature(owner: Document) -> str:
    """What an index is known by: another definition of the views is another index."""
    kept = [owner.get("views") or {}, owner.get("language", "javascript"), owner.get("options") or {}]
    return hashlib.md5(json.dumps(kept, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def index_of(database: Database, name: str) -> Index:
    """The index of a design document, a new one where its views are new. Raises StoreError 404."""
    owner = design(database, name)
    key = signature(owner)
    if key not in database.indexes:
        database.indexes[key] = Index(owner)
    index: Index = database.indexes[key]
    return index


def cleanup(database: Database) -> None:
    """``_view_cleanup``: indexes that no design document needs any more go."""
    kept = set()
    for name in database.designs:
        if database.documents[name].live:
            kept.add(signature(design(database, name.removeprefix("_design/"))))
    database.indexes = {key: index for key, index in database.indexes.items() if key in kept}


def position(rows: list[Row], key: tuple[Any, ...]) -> int:
    """How many rows come before the first that is not less than the key."""
    return bisect_left(rows, key, key=lambda row: row[: len(key)])


def info(database: Database, name: str) -> Document:
    """``_design/<name>/_info``."""
    index = index_of(database, name)
    behind = database.sequence - index.sequence
    return {
        "name": name,
        "view_index": {
            "updates_pending": {"minimum": behind, "preferred": behind, "total": behind},
            "waiting_commit": index.uncommitted,
            "waiting_clients": 0,
            "updater_running": False,
            "update_seq": index.sequence,
            "sizes": {"file": index.file_size, "external": index.external(), "active": index.active()},
            "signature": index.signature,
            "purge_seq": index.purge_sequence,
            "language": index.owner.get("language", "javascript"),
            "compact_running": index.compacting,
            "collator_versions": ["153.120"],
        },
    }
