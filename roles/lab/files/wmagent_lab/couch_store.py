# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of the CouchDB stand-in: databases, revisions, update sequences. One leaf a document, no conflicts kept."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from pathlib import Path
from typing import Any

Document = dict[str, Any]
SYSTEM = ("_users", "_replicator")
NAME = re.compile(r"^[a-z][a-z0-9_$()+/-]*$")


class StoreError(Exception):
    """An answer that is not a success: HTTP status, CouchDB's ``error`` word and ``reason``."""

    def __init__(self, status: int, error: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.body = {"error": error, "reason": reason}


def missing_database() -> StoreError:
    """What CouchDB says of a database that is not there."""
    return StoreError(404, "not_found", "Database does not exist.")


class Database:
    """One database; ``sequence`` counts the writes it ever took."""

    def __init__(self, name: str, created: int) -> None:
        self.name = name
        self.created = created
        self.sequence = 0
        self.documents: dict[str, Document] = {}
        self.changed_at: dict[str, int] = {}
        self.local: dict[str, Document] = {}
        self.limits = {"_revs_limit": 1000, "_purged_infos_limit": 1000}

    def update_seq(self, number: int | None = None) -> str:
        """Opaque to clients but for "same or not" and the number before the dash."""
        count = self.sequence if number is None else number
        return f"{count}-{hashlib.sha256(f'{self.name} {self.created} {count}'.encode()).hexdigest()[:40]}"

    def info(self) -> Document:
        """``GET /<database>``."""
        deleted = sum(1 for document in self.documents.values() if document.get("_deleted"))
        size = sum(len(json.dumps(document)) for document in self.documents.values())
        return {
            "instance_start_time": str(self.created),
            "db_name": self.name,
            "purge_seq": "0-stand-in",
            "update_seq": self.update_seq(),
            "sizes": {"file": 16710 + size, "external": size, "active": size},
            "props": {},
            "doc_del_count": deleted,
            "doc_count": len(self.documents) - deleted,
            "disk_format_version": 8,
            "compact_running": False,
            "cluster": {"q": 2, "n": 1, "w": 1, "r": 1},
        }

    def get(self, identifier: str) -> Document:
        """The live document. Raises StoreError 404."""
        document = self.documents.get(identifier)
        if document is None or document.get("_deleted"):
            raise StoreError(404, "not_found", "deleted" if document else "missing")
        return document

    def put(self, identifier: str, body: Document, new_edits: bool = True) -> str:
        """Write one revision and return its name. Raises StoreError 409 where ``_rev`` is not the present one."""
        present = self.documents.get(identifier)
        if not new_edits:
            revision = str(body["_rev"])
            if present and present["_rev"] != revision and str(present["_rev"]).split("-")[1] not in _history(body):
                raise StoreError(501, "not_implemented", "this is a stand-in: it keeps no conflicting revisions")
        else:
            self._check_revision(present, body.get("_rev"))
            generation = int(str(present["_rev"]).split("-")[0]) + 1 if present else 1
            revision = f"{generation}-{_digest(body)}"
        self.documents[identifier] = {**body, "_id": identifier, "_rev": revision}
        self.sequence += 1
        self.changed_at[identifier] = self.sequence
        return revision

    @staticmethod
    def _check_revision(present: Document | None, given: Any) -> None:
        expected = None if present is None or (present.get("_deleted") and given is None) else present["_rev"]
        if given != expected:
            raise StoreError(409, "conflict", "Document update conflict.")

    def live(self) -> list[Document]:
        """Live documents by id."""
        return [self.documents[key] for key in sorted(self.documents) if not self.documents[key].get("_deleted")]

    def changes(self, since: int, limit: int | None) -> Document:
        """``_changes``: the last change of each document after ``since``."""
        later = sorted((at, key) for key, at in self.changed_at.items() if at > since)
        taken = later if limit is None else later[:limit]
        results = [self._change(at, key) for at, key in taken]
        last = self.update_seq(taken[-1][0] if len(taken) < len(later) else None) if taken else self.update_seq()
        return {"results": results, "last_seq": last, "pending": len(later) - len(taken)}

    def _change(self, at: int, key: str) -> Document:
        document = self.documents[key]
        row: Document = {"seq": self.update_seq(at), "id": key, "changes": [{"rev": document["_rev"]}]}
        if document.get("_deleted"):
            row["deleted"] = True
        return row


class Store:
    """All databases, kept in one JSON file."""

    def __init__(self, file: Path | None, now: int) -> None:
        self.file = file
        self.lock = threading.RLock()
        self.databases: dict[str, Database] = {name: Database(name, now) for name in SYSTEM}
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
        """Write the file where anything changed since the last time."""
        if self.file is None:
            return
        with self.lock:
            state = {name: vars(database) for name, database in self.databases.items()}
            text = json.dumps(state)
        if text != self._saved:
            partial = self.file.with_suffix(".new")
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.file)
            self._saved = text

    def _load(self, state: Document) -> None:
        for name, fields in state.items():
            database = Database(name, 0)
            vars(database).update(fields)
            self.databases[name] = database


def _digest(body: Document) -> str:
    kept = {key: value for key, value in body.items() if key != "_rev"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:32]


def _history(body: Document) -> list[str]:
    """Digests of the revisions that a replicated document comes from."""
    return list(body.get("_revisions", {}).get("ids", []))
