# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases of the CouchDB stand-in: documents with all their revisions, update sequences, purges, sizes."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import couch_sizes as sizes
from .couch_errors import Document, StoreError, bad_request, missing, missing_database
from .couch_revisions import Node, RevisionTree

__all__ = ["Database", "Document", "Entry", "Purge", "Store", "StoreError", "missing_database"]

SYSTEM = ("_users", "_replicator")
NAME = re.compile(r"^[a-z][a-z0-9_$()+/-]*$")
SHARDS = 2
CONFLICT = "Document update conflict."
Purge = tuple[int, str, list[str]]
"""Number of a purge, the document's id, the revisions that were asked for."""


class Entry:
    """One document: its revisions, and the update sequence of its last change.

    live:    whether its winning leaf is no deletion
    counted: whether it counts as live and takes edits as a live one does. A purge does not look again: a document of
             which only tombstones are left stays counted until it is edited or gone. So it is in CouchDB 3.5.0.
    """

    __slots__ = ("active", "counted", "external", "live", "sequence", "tree")

    def __init__(self, tree: RevisionTree, sequence: int) -> None:
        self.tree = tree
        self.sequence = sequence
        self.live = self.counted = False
        self.external = self.active = 0

    def measure(self, purged: bool = False) -> None:
        """Work out what follows from the revisions again."""
        nodes = self.tree.nodes
        self.live = not self.tree.deleted()
        if not purged:
            self.counted = self.live
        self.external = sum(nodes[leaf].size for leaf in self.tree.leaves)
        self.active = sum(sizes.leaf(nodes[leaf].size, len(self.tree.history(leaf))) for leaf in self.tree.leaves)


class Database:
    """One database; ``sequence`` counts the writes it ever took."""

    def __init__(self, name: str, created: int) -> None:
        self.name = name
        self.created = created
        self.sequence = 0
        self.documents: dict[str, Entry] = {}
        self.by_sequence: dict[int, str] = {}
        self.designs: set[str] = set()
        self.local: dict[str, Document] = {}
        self.limits = {"_revs_limit": 1000, "_purged_infos_limit": 1000}
        self.security: Document = {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}
        self.purge_sequence = 0
        self.purges: list[Purge] = []
        self.file_size = sizes.EMPTY_FILE
        self.counts = {"live": 0, "deleted": 0, "external": 0, "active": 0}
        self.indexes: dict[str, Any] = {}
        self.compacting = False
        self.touched = 0
        self._unwritten: dict[int, int] = {}

    def update_seq(self, number: int | None = None) -> str:
        """Opaque to clients but for "same or not" and the number before the dash."""
        return self._token("", self.sequence if number is None else number)

    def purge_seq(self) -> str:
        """The same for purges."""
        return self._token("purge", self.purge_sequence)

    def _token(self, kind: str, count: int) -> str:
        words = f"{self.name} {self.created} {kind}{count}"
        return f"{count}-g1AAAA{hashlib.sha256(words.encode()).hexdigest()[:40]}"

    def since(self, token: str) -> int:
        """The number in a sequence; 0 for one that another database of this name gave, which is what CouchDB does."""
        text = token.strip('"')
        if text == "now":
            return self.sequence
        if text in ("", "0"):
            return 0
        number, dash, _ = text.partition("-")
        if not dash or not number.isdigit():
            raise bad_request("Malformed sequence supplied in 'since' parameter.")
        return int(number) if text == self.update_seq(int(number)) else 0

    def info(self) -> Document:
        """``GET /<database>``."""
        active = self.counts["active"] + sizes.PURGE_INFO * len(self.purges)
        return {
            "instance_start_time": str(self.created),
            "db_name": self.name,
            "purge_seq": self.purge_seq(),
            "update_seq": self.update_seq(),
            "sizes": {"file": self.file_size, "external": self.counts["external"], "active": active},
            "props": {},
            "doc_del_count": self.counts["deleted"],
            "doc_count": self.counts["live"],
            "disk_format_version": 8,
            "compact_running": self.compacting,
            "cluster": {"q": SHARDS, "n": 1, "w": 1, "r": 1},
        }

    @staticmethod
    def shard(identifier: str) -> int:
        """Which shard holds the document."""
        return zlib.crc32(identifier.encode()) * SHARDS >> 32

    def live_ids(self) -> list[str]:
        """Ids of live documents in order."""
        return sorted(name for name, entry in self.documents.items() if entry.live)

    def winner(self, identifier: str) -> Node:
        """The live winning revision. Raises StoreError 404."""
        entry = self.documents.get(identifier)
        if entry is None or not entry.live:
            raise missing("deleted" if entry else "missing")
        return entry.tree.nodes[entry.tree.winner()]

    def parent_of_edit(self, identifier: str, given: str | None, deletion: bool) -> str | None:
        """The revision that an edit with this ``_rev`` follows, None for a first one. Raises StoreError 409.

        A document whose leaves are all deleted takes one edit only: a new body without ``_rev``.
        """
        entry = self.documents.get(identifier)
        if entry is None:
            if given is None:
                return None
        elif not entry.counted:
            if given is None and not deletion:
                return entry.tree.winner()
        elif given in entry.tree.leaves:
            return given
        raise StoreError(409, "conflict", CONFLICT)

    def merge(self, identifier: str, path: Sequence[str], node: Node) -> bool:
        """Write one revision; False where it is known. ``path``: it and those it follows, newest first."""
        entry = self.documents.get(identifier)
        known = entry is not None
        if entry is None:
            entry = Entry(RevisionTree(), 0)
        else:
            self._account(entry, -1)
        if not entry.tree.add(path, node):
            self._account(entry, 1)
            return False
        self.documents[identifier] = entry
        entry.tree.stem(self.limits["_revs_limit"])
        entry.measure()
        self._account(entry, 1)
        if identifier.startswith("_design/"):
            self.designs.add(identifier)
        self.sequence += 1
        self._place(identifier, entry, self.sequence)
        self.grow(identifier, sizes.leaf(node.size, 1) + (sizes.REWRITTEN if known else 0))
        return True

    def _place(self, identifier: str, entry: Entry, sequence: int) -> None:
        self.by_sequence.pop(entry.sequence, None)
        entry.sequence = sequence
        self.by_sequence[sequence] = identifier

    def _account(self, entry: Entry, sign: int) -> None:
        self.counts["live" if entry.counted else "deleted"] += sign
        self.counts["external"] += sign * entry.external
        self.counts["active"] += sign * entry.active

    def purge(self, requests: dict[str, list[str]], each: Callable[[], None]) -> dict[str, list[str]]:
        """Take leaves away; what was removed of each document. ``each`` is called before each document.

        A shard that was asked counts at least one update, whether or not anything was removed.
        """
        purged: dict[str, list[str]] = {}
        for shard in range(SHARDS):
            asked = {name: revisions for name, revisions in requests.items() if self.shard(name) == shard}
            before = self.sequence
            for name, revisions in asked.items():
                each()
                self.purge_sequence += 1
                self.purges.append((self.purge_sequence, name, revisions))
                purged[name] = self._purge_one(name, revisions)
                self.grow(name, sizes.PURGE_INFO + sizes.REWRITTEN)
            if asked and self.sequence == before:
                self.sequence += 1
        return purged

    def _purge_one(self, name: str, revisions: list[str]) -> list[str]:
        entry = self.documents.get(name)
        if entry is None:
            return []
        self._account(entry, -1)
        removed = entry.tree.remove_leaves(revisions)
        if not entry.tree.leaves:
            del self.documents[name]
            self.by_sequence.pop(entry.sequence, None)
            self.designs.discard(name)
            return removed
        entry.measure(purged=True)
        self._account(entry, 1)
        if removed:
            # What is left of the document counts as changed, once for each leaf.
            self.sequence += len(entry.tree.leaves)
            self._place(name, entry, self.sequence)
        return removed

    def set_limit(self, name: str, value: int) -> None:
        """``_revs_limit`` or ``_purged_infos_limit``; each shard counts it as an update.

        Histories are cut at once: CouchDB shows them cut at once and cuts them at the next write or compaction.
        """
        self.limits[name] = value
        if name == "_revs_limit":
            for entry in self.documents.values():
                self._account(entry, -1)
                entry.tree.stem(value)
                entry.measure(purged=True)
                self._account(entry, 1)
        self.sequence += SHARDS
        for shard in range(SHARDS):
            self._unwritten[shard] = self._unwritten.get(shard, 0)
        self.touched += 1

    def grow(self, identifier: str, count: int) -> None:
        """So many bytes are written for this document; ``commit`` puts them into the file."""
        shard = self.shard(identifier)
        self._unwritten[shard] = self._unwritten.get(shard, 0) + count
        self.touched += 1

    def commit(self) -> None:
        """The end of a request: what it wrote, and a header for each shard."""
        if self._unwritten:
            self.file_size += sum(self._unwritten.values()) + sizes.HEADER * len(self._unwritten)
            self._unwritten = {}

    def state(self) -> Document:
        """For JSON. Indexes are left out: they are built again when they are asked for."""
        plain = ("created", "sequence", "local", "limits", "security", "purge_sequence", "purges", "file_size")
        documents = {
            name: [entry.sequence, entry.counted, entry.tree.state()] for name, entry in self.documents.items()
        }
        return {**{key: getattr(self, key) for key in plain}, "trees": documents}

    @classmethod
    def from_state(cls, name: str, state: Document) -> Database:
        """What ``state`` gave, or what the stand-in wrote before it kept more than one leaf."""
        database = cls(name, state["created"])
        for key, value in state.items():
            if key in vars(database) and key != "documents":
                setattr(database, key, value)
        database.purges = [(number, identifier, revisions) for number, identifier, revisions in database.purges]
        trees = state.get("trees") or _one_leaf_each(state)
        for identifier, (sequence, counted, tree) in sorted(trees.items(), key=lambda item: item[1][0]):
            entry = Entry(RevisionTree.from_state(tree), 0)
            entry.counted = counted
            entry.measure(purged=True)
            database.documents[identifier] = entry
            database._account(entry, 1)
            database._place(identifier, entry, sequence)
            if identifier.startswith("_design/"):
                database.designs.add(identifier)
        return database


def _one_leaf_each(state: Document) -> Document:
    trees = {}
    for identifier, document in state.get("documents", {}).items():
        body = {key: value for key, value in document.items() if not key.startswith("_")}
        node = [document["_rev"], None, bool(document.get("_deleted")), body, len(json.dumps(body))]
        trees[identifier] = [state["changed_at"][identifier], not node[2], [node]]
    return trees


class Store:
    """All databases and the server's settings, kept in one JSON file."""

    def __init__(self, file: Path | None, now: int) -> None:
        self.file = file
        self.lock = threading.RLock()
        self.databases: dict[str, Database] = {name: Database(name, now) for name in SYSTEM}
        self.config: dict[str, dict[str, str]] = {}
        self.config_touched = 0
        self._texts: dict[str, tuple[object, str]] = {}
        self._saved = ""
        if file is not None and file.exists():
            self._load(json.loads(file.read_text(encoding="utf-8")))

    def database(self, name: str) -> Database:
        """Raises StoreError 404."""
        if name not in self.databases:
            raise missing_database()
        return self.databases[name]

    def create(self, name: str, now: int) -> None:
        """Raises StoreError 400 for a name CouchDB does not take, 412 where it is there."""
        if not NAME.match(name) and name not in SYSTEM:
            raise StoreError(
                400,
                "illegal_database_name",
                f"Name: '{name}'. Only lowercase characters (a-z), digits (0-9), and any of the characters "
                "_, $, (, ), +, -, and / are allowed. Must begin with a letter.",
            )
        if name in self.databases:
            raise StoreError(412, "file_exists", "The database could not be created, the file already exists.")
        self.databases[name] = Database(name, now)

    def save(self) -> None:
        """Write the file where anything changed since the last time; a database that did not is not looked at."""
        if self.file is None:
            return
        with self.lock:
            texts = {name: self._text(name, database) for name, database in self.databases.items()}
            self._texts = {name: self._texts[name] for name in texts}
            text = json.dumps({"config": self.config})[:-1] + ', "databases": {'
        text += ", ".join(f"{json.dumps(name)}: {part}" for name, part in texts.items()) + "}}"
        if text != self._saved:
            partial = self.file.with_suffix(".new")
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.file)
            self._saved = text

    def _text(self, name: str, database: Database) -> str:
        mark = (database, database.touched)
        known = self._texts.get(name)
        if known is None or known[0] != mark:
            self._texts[name] = known = (mark, json.dumps(database.state()))
        return known[1]

    def _load(self, state: Document) -> None:
        self.config = state.get("config", {}) if "databases" in state else {}
        for name, fields in state.get("databases", state).items():
            self.databases[name] = Database.from_state(name, fields)
