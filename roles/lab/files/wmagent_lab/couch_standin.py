# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for CouchDB, for machines without one. It answers what an agent and its upgrade ask, and says what it is.

``python -m wmagent_lab.couch_standin PORT ACCOUNT_FILE DATA_FILE``. It has no views: a view of a database that
holds nothing that a view would show is empty, and any other is refused with 501, never answered with "nothing".
"""

from __future__ import annotations

import base64
import json
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from .couch_store import Database, Document, Store, StoreError

VERSION = "3.5.0"
VENDOR = "dmwm.wmagent lab: a STAND-IN, not CouchDB"
# WorkQueueManager's note of its housekeeping, a minute after its start; its views show queue elements only.
NOT_SHOWN = ("task_activity",)
Answer = tuple[int, Any]


class Couch:
    """CouchDB's answers over a store; no sockets here."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def answer(self, method: str, path: str, body: Any) -> Answer:
        """Status and JSON body of one request. Raises StoreError."""
        parts = urlsplit(path)
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        words = [unquote(word) for word in parts.path.strip("/").split("/")]
        with self.store.lock:
            if words[0] == "" or (words[0].startswith("_") and words[0] not in self.store.databases):
                return self._server(method, words, body)
            if len(words) == 1:
                return self._database(method, words[0], body)
            if len(words) > 2 and words[1] in ("_design", "_local") and len(words) == 3:
                return self._document(method, self.store.database(words[0]), f"{words[1]}/{words[2]}", query, body)
            if words[1].startswith("_"):
                return self._special(method, self.store.database(words[0]), words[1:], query, body)
            return self._document(method, self.store.database(words[0]), "/".join(words[1:]), query, body)

    def _server(self, method: str, words: list[str], body: Any) -> Answer:
        if words[0] == "_dbs_info" and method == "POST":
            return 200, [self._info_row(name) for name in (body or {}).get("keys", [])]
        fixed: dict[str, Any] = {
            "": {
                "couchdb": "Welcome",
                "version": VERSION,
                "features": [],
                "vendor": {"name": VENDOR},
                "uuid": "0" * 32,
            },
            "_up": {"status": "ok", "seeds": {}},
            "_all_dbs": sorted(self.store.databases),
            "_dbs_info": [self._info_row(name) for name in sorted(self.store.databases)],
            "_active_tasks": [],
            "_scheduler/jobs": {"total_rows": 0, "offset": 0, "jobs": []},
            "_scheduler/docs": {"total_rows": 0, "offset": 0, "docs": []},
            "_session": {"ok": True, "userCtx": {"name": "wmagent", "roles": ["_admin"]}},
        }
        if "/".join(words) not in fixed or method not in ("GET", "HEAD"):
            raise StoreError(501, "not_implemented", f"this is a stand-in: it has no /{'/'.join(words)}")
        return 200, fixed["/".join(words)]

    def _info_row(self, name: str) -> Document:
        if name not in self.store.databases:
            return {"key": name, "error": "not_found"}
        return {"key": name, "info": self.store.databases[name].info()}

    def _database(self, method: str, name: str, body: Any) -> Answer:
        if method == "PUT":
            self.store.create(name, int(time.time()))
            return 201, {"ok": True}
        database = self.store.database(name)
        if method == "DELETE":
            del self.store.databases[name]
            return 200, {"ok": True}
        if method == "POST":
            identifier = str(body.get("_id") or f"{time.time_ns():032x}")
            return 201, {"ok": True, "id": identifier, "rev": database.put(identifier, body)}
        return 200, database.info()

    def _document(self, method: str, database: Database, key: str, query: dict[str, str], body: Any) -> Answer:
        if key.startswith("_local/"):
            return self._local(method, database, key, body)
        if method in ("GET", "HEAD"):
            if {"open_revs", "conflicts"} & set(query):
                raise StoreError(501, "not_implemented", "this is a stand-in: it keeps no conflicting revisions")
            return 200, database.get(key)
        if method == "PUT":
            if "rev" in query and isinstance(body, dict):
                body = {**body, "_rev": query["rev"]}
            return 201, {"ok": True, "id": key, "rev": database.put(key, body)}
        if method == "DELETE":
            database.get(key)
            revision = database.put(key, {"_deleted": True, "_rev": query.get("rev")})
            return 200, {"ok": True, "id": key, "rev": revision}
        raise StoreError(405, "method_not_allowed", "Only DELETE,GET,HEAD,PUT allowed")

    @staticmethod
    def _local(method: str, database: Database, key: str, body: Any) -> Answer:
        if method == "PUT":
            database.local[key] = {**body, "_id": key, "_rev": "0-1"}
            return 201, {"ok": True, "id": key, "rev": "0-1"}
        if key not in database.local:
            raise StoreError(404, "not_found", "missing")
        return 200, database.local[key]

    def _special(self, method: str, database: Database, words: list[str], query: dict[str, str], body: Any) -> Answer:
        name = words[0]
        if name == "_bulk_docs":
            return 201, self._bulk(database, body)
        if name in ("_all_docs", "_design_docs"):
            return 200, self._all_docs(database, query, body, only_design=name == "_design_docs")
        if name == "_changes":
            if "filter" in query and database.live():
                raise StoreError(501, "not_implemented", "this is a stand-in: it filters no changes")
            since = query.get("since", "0").strip('"')
            number = database.sequence if since == "now" else int(since.partition("-")[0])
            return 200, database.changes(number, int(query["limit"]) if "limit" in query else None)
        if name == "_design":
            return self._design(database, words)
        if name in ("_compact", "_view_cleanup"):
            return 202, {"ok": True}
        if name == "_ensure_full_commit":
            return 201, {"ok": True, "instance_start_time": "0"}
        if name in database.limits:
            return 200, self._limit(method, database, name, body)
        if name == "_security":
            return 200, {} if method == "GET" else {"ok": True}
        raise StoreError(501, "not_implemented", f"this is a stand-in: it has no {name}")

    @staticmethod
    def _limit(method: str, database: Database, name: str, body: Any) -> Any:
        if method != "PUT":
            return database.limits[name]
        database.limits[name] = int(body)
        return {"ok": True}

    @staticmethod
    def _bulk(database: Database, body: Any) -> list[Document]:
        if not isinstance(body, dict) or "docs" not in body:
            raise StoreError(400, "bad_request", "POST body must include `docs` parameter.")
        new_edits = body.get("new_edits", True)
        rows: list[Document] = []
        for document in body["docs"]:
            key = str(document.get("_id") or f"{time.time_ns():032x}")
            try:
                rows.append({"ok": True, "id": key, "rev": database.put(key, document, new_edits)})
            except StoreError as error:
                rows.append({"id": key, **error.body})
        return rows if new_edits else []

    @staticmethod
    def _all_docs(database: Database, query: dict[str, str], body: Any, only_design: bool) -> Document:
        documents = database.live()
        full = query.get("include_docs") == "true"
        keys = (body or {}).get("keys") if isinstance(body, dict) else json.loads(query.get("keys", "null"))
        if keys is not None:
            return {
                "total_rows": len(documents),
                "offset": None,
                "rows": [_key_row(database, key, full) for key in keys],
            }
        chosen = [item for item in documents if not only_design or item["_id"].startswith("_design/")]
        first, last = (json.loads(query.get(word, "null")) for word in ("startkey", "endkey"))
        chosen = [
            item for item in chosen if (first is None or item["_id"] >= first) and (last is None or item["_id"] <= last)
        ]
        if "limit" in query:
            chosen = chosen[: int(query["limit"])]
        return {
            "total_rows": len(documents),
            "offset": 0,
            "rows": [_key_row(database, item["_id"], full) for item in chosen],
        }

    @staticmethod
    def _design(database: Database, words: list[str]) -> Answer:
        design = database.get(f"_design/{words[1]}")
        if words[2:3] == ["_info"]:
            return 200, {"name": words[1], "view_index": {"updater_running": False, "sizes": {"file": 0}}}
        if words[2:3] == ["_view"] and words[3] not in design.get("views", {}):
            raise StoreError(404, "not_found", "missing_named_view")
        shown = (item["_id"] for item in database.live() if item["_id"] not in NOT_SHOWN)
        if any(not name.startswith("_design/") for name in shown):
            raise StoreError(501, "not_implemented", "this is a stand-in: it has no views over documents")
        if words[2:3] == ["_list"]:
            return 200, []  # WorkQueue's own list function makes an array of the rows
        return 200, {"total_rows": 0, "offset": 0, "rows": []}


def _key_row(database: Database, key: str, full: bool) -> Document:
    document = database.documents.get(key)
    if document is None:
        return {"key": key, "error": "not_found"}
    row: Document = {"id": key, "key": key, "value": {"rev": document["_rev"]}}
    if document.get("_deleted"):
        row["value"]["deleted"] = True
        return row | ({"doc": None} if full else {})
    return row | ({"doc": document} if full else {})


class Handler(BaseHTTPRequestHandler):
    """HTTP around ``Couch``."""

    protocol_version = "HTTP/1.1"
    server_version = "wmagent-lab-couchdb-STAND-IN"
    couch: ClassVar[Couch]
    authorization: ClassVar[str]

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        try:
            status, body = self._answer(raw)
        except StoreError as error:
            status, body = error.status, error.body
        data = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _answer(self, raw: bytes) -> Answer:
        if urlsplit(self.path).path != "/" and self.headers.get("Authorization") != self.authorization:
            raise StoreError(401, "unauthorized", "You are not a server admin.")
        if (
            self.command == "POST"
            and raw
            and not (self.headers.get("Content-Type") or "").startswith("application/json")
        ):
            raise StoreError(415, "bad_content_type", "Content-Type must be application/json")
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            raise StoreError(400, "bad_request", "invalid UTF-8 JSON") from None
        return self.couch.answer(self.command, self.path, body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - names that http.server asks for

    def log_message(self, format: str, *args: Any) -> None:
        """No line for each request: the log would grow for as long as the lab runs."""


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM."""
    port, account_file, data_file = int(arguments[0]), Path(arguments[1]), Path(arguments[2])
    account = json.loads(account_file.read_text(encoding="utf-8"))
    token = base64.b64encode(f"{account['user']}:{account['password']}".encode()).decode()
    store = Store(data_file, int(time.time()))
    Handler.couch, Handler.authorization = Couch(store), f"Basic {token}"
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"This is a STAND-IN for CouchDB on port {port}, not CouchDB: no views, no replication.", flush=True)
    saver = threading.Thread(target=_save_often, args=(store,), daemon=True)
    saver.start()
    server.serve_forever()
    store.save()
    return 0


def _save_often(store: Store) -> None:
    while True:
        time.sleep(1)
        store.save()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
