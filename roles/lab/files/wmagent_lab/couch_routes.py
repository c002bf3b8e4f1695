# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of the CouchDB stand-in answers a request; no sockets here."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from . import couch_bulk as bulk
from . import (
    couch_changes,
    couch_config,
    couch_documents,
    couch_find,
    couch_handlers,
    couch_javascript,
    couch_maintenance,
    couch_purge,
    couch_replication,
    couch_view_query,
    couch_views,
)
from .couch_errors import (
    Answer,
    ConnectionLostError,
    Document,
    StoreError,
    bad_request,
    missing,
    missing_database,
    not_allowed,
    not_modelled,
)
from .couch_functions import design
from .couch_server import NODE, Request, Server
from .couch_store import Database, Store

VERSION = "3.5.0"
VENDOR = "dmwm.wmagent lab: a STAND-IN, not CouchDB"
# WorkQueueManager's note of its housekeeping, a minute after its start; its views show queue elements only.
NOT_SHOWN = ("task_activity",)
NOT_MODELLED = ("_cluster_setup", "_dedupe", "_reshard", "_utils", "_search_analyze", "_db_updates", "_stats")
OPEN = ("", "_up", "_session")
JSON_ONLY = frozenset(
    ("_bulk_docs", "_bulk_get", "_changes", "_compact", "_ensure_full_commit", "_find", "_purge", "_view_cleanup")
)
# Methods that a part of a database takes.
METHODS = {
    "_bulk_docs": "POST",
    "_bulk_get": "POST",
    "_compact": "POST",
    "_ensure_full_commit": "POST",
    "_find": "POST",
    "_purge": "POST",
    "_revs_diff": "POST",
    "_view_cleanup": "POST",
    "_purged_infos": "GET",
    "_security": "GET,PUT",
    "_revs_limit": "GET,PUT",
    "_purged_infos_limit": "GET,PUT",
    "_all_docs": "GET,POST",
    "_design_docs": "GET,POST",
    "_local_docs": "GET,POST",
    "_changes": "GET,POST",
}


class Couch(Server):
    """A server that answers. ``javascript``: None for "where the engine is installed"."""

    def __init__(self, store: Store, version: str = VERSION, javascript: bool | None = None, **more: Any) -> None:
        super().__init__(store, version, couch_javascript.AVAILABLE if javascript is None else javascript, **more)

    def answer(
        self, method: str, path: str, body: Any, *, authorized: bool = True, content_type: str = "application/json"
    ) -> Answer:
        """Status and body of one request. Raises StoreError, or ConnectionLostError where there is to be no answer.

        body: the JSON, or bytes for an attachment or an update function
        """
        replaced, lost = self.faults.before(f"{method} {path}")
        if replaced is not None:
            return replaced
        parts = urlsplit(path)
        query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        words = [unquote(word) for word in parts.path.strip("/").split("/")]
        request = Request(method, path, words, query, body, authorized, content_type)
        with self.store.lock:
            self.tasks.settle(self.clock())
            try:
                answer = self._route(request)
            finally:
                for database in self.store.databases.values():
                    database.commit()
        if lost:
            raise ConnectionLostError
        return answer

    def _route(self, request: Request) -> Answer:
        words = request.words
        name = words[0]
        of_server = name == "" or (name.startswith("_") and name not in self.store.databases)
        if not request.authorized and name not in OPEN:
            of_database = not of_server and len(words) > 1 and words[1] != "_purge"
            who = "authorized to access this db" if of_database else "a server admin"
            raise StoreError(401, "unauthorized", f"You are not {who}.")
        if of_server:
            return self._server(request)
        if len(words) == 1:
            return self._database(request, name)
        database = self.store.database(name)
        if words[1] in ("_design", "_local") and len(words) > 2:
            return self._reserved(request, database)
        if words[1].startswith("_"):
            return self._part(request, database)
        if len(words) > 2:
            return couch_documents.attached(self, database, words[1], "/".join(words[2:]), request)
        return couch_documents.answer(self, database, words[1], request)

    def _server(self, request: Request) -> Answer:
        name = request.words[0]
        if name == "_dbs_info" and request.method == "POST":
            keys = request.object().get("keys")
            if not isinstance(keys, list):
                raise bad_request("`keys` member must " + ("exist." if keys is None else "be an array."))
            return 200, [self._info_row(key) for key in keys]
        if name == "_replicate":
            if request.method != "POST":
                raise not_allowed("POST")
            return couch_replication.replicate(self, request)
        if name == "_node":
            return couch_config.node(self, request)
        if name in NOT_MODELLED:
            raise not_modelled(f"/{'/'.join(request.words)}")
        found = self._readings(request).get("/".join(request.words))
        if found is None:
            raise missing_database() if name not in ("_scheduler",) else missing()
        if request.method not in ("GET", "HEAD"):
            raise not_allowed("GET,HEAD")
        return 200, found()

    def _readings(self, request: Request) -> dict[str, Callable[[], Any]]:
        names = sorted(self.store.databases)
        user = {"name": "wmagent" if request.authorized else None, "roles": ["_admin"] if request.authorized else []}
        return {
            "": lambda: {
                "couchdb": "Welcome",
                "version": self.version,
                "git_sha": "stand-in",
                "uuid": "0" * 32,
                "features": [],
                "vendor": {"name": VENDOR},
            },
            "_up": lambda: {"status": "ok", "seeds": {}},
            "_session": lambda: {"ok": True, "userCtx": user, "info": {"authentication_handlers": ["default"]}},
            "_all_dbs": lambda: bulk.page(bulk.in_range(names, request, lambda item: item)[0], request),
            "_dbs_info": lambda: [self._info_row(name) for name in names],
            "_active_tasks": lambda: self.tasks.rows(self.clock()),
            "_scheduler/jobs": lambda: {"total_rows": len(self.jobs), "offset": 0, "jobs": self.jobs},
            "_scheduler/docs": lambda: {"total_rows": len(self.replications), "offset": 0, "docs": self.replications},
            "_membership": lambda: {"all_nodes": [NODE], "cluster_nodes": [NODE]},
            "_uuids": lambda: {"uuids": [uuid.uuid4().hex for _ in range(request.number("count") or 1)]},
        }

    def _info_row(self, name: str) -> Document:
        if name not in self.store.databases:
            return {"key": name, "error": "not_found"}
        return {"key": name, "info": self.store.databases[name].info()}

    def _database(self, request: Request, name: str) -> Answer:
        if request.method == "PUT":
            self.faults.write()
            self.store.create(name, int(self.clock()))
            return 201, {"ok": True}
        database = self.store.database(name)
        if request.method == "DELETE":
            if "rev" in request.query:
                raise bad_request(
                    "You tried to DELETE a database with a ?=rev parameter. Did you mean to DELETE a document instead?"
                )
            del self.store.databases[name]
            self.tasks.cancel(name)
            return 200, {"ok": True}
        if request.method == "POST":
            key = couch_documents.check_id(request.object().get("_id"))
            return 201, {"ok": True, "id": key, "rev": couch_documents.save(self, database, key, request.body)}
        return 200, database.info()

    def _reserved(self, request: Request, database: Database) -> Answer:
        words = request.words[1:]
        identifier = f"{words[0]}/{words[1]}"
        if words[0] == "_local":
            return couch_documents.local(self, database, "/".join(words), request)
        if len(words) == 2:
            return couch_documents.answer(self, database, identifier, request)
        if words[2] in ("_info", "_view", "_list", "_show", "_update", "_rewrite", "_queries"):
            return self._design(request, database, words[1], words[2:])
        return couch_documents.attached(self, database, identifier, "/".join(words[2:]), request)

    def _part(self, request: Request, database: Database) -> Answer:
        name, words = request.words[1], request.words[2:]
        methods = METHODS.get(name)
        if methods and request.method.replace("HEAD", "GET") not in methods.split(","):
            raise not_allowed(methods)
        if name == "_compact":
            return couch_maintenance.compact(self, database, words[0] if words else None)
        plain: dict[str, Callable[[], Answer]] = {
            "_bulk_docs": lambda: bulk.bulk_docs(self, database, request),
            "_bulk_get": lambda: bulk.bulk_get(database, request),
            "_revs_diff": lambda: bulk.revs_diff(database, request),
            "_all_docs": lambda: bulk.all_docs(database, request),
            "_design_docs": lambda: bulk.all_docs(database, request, "_design/"),
            "_local_docs": lambda: bulk.local_docs(database, request),
            "_changes": lambda: couch_changes.changes(self, database, request),
            "_purge": lambda: couch_purge.purge(self, database, request),
            "_purged_infos": lambda: couch_purge.infos(database),
            "_purged_infos_limit": lambda: couch_purge.limit(self, database, name, request),
            "_revs_limit": lambda: couch_purge.limit(self, database, name, request),
            "_view_cleanup": lambda: couch_maintenance.cleanup(database),
            "_find": lambda: couch_find.find(database, request),
            "_index": lambda: couch_find.indexes(request),
            "_security": lambda: self._security(database, request),
            "_ensure_full_commit": lambda: (201, {"ok": True, "instance_start_time": str(database.created)}),
        }
        if name in plain:
            return plain[name]()
        if request.method in ("PUT", "POST"):
            couch_documents.check_id(name)
        raise missing()

    @staticmethod
    def _security(database: Database, request: Request) -> Answer:
        if request.method != "PUT":
            return 200, database.security
        database.security = request.object()
        database.touched += 1
        return 200, {"ok": True}

    def _design(self, request: Request, database: Database, name: str, words: list[str]) -> Answer:
        if words[0] == "_info":
            return 200, couch_views.info(database, name)
        owner = design(database, name)
        if not self.javascript:
            return self._without_javascript(database, owner, words)
        if len(words) < 2 or words[0] not in ("_view", "_list", "_show", "_update"):
            raise not_modelled("/".join(words))
        if words[0] == "_view":
            return couch_view_query.query(database, name, words[1], request)
        if words[0] == "_update":
            return couch_handlers.update(self, database, owner, words[1:], request)
        if words[0] == "_show":
            return couch_handlers.show(database, owner, words[1:], request)
        couch_handlers.function(owner, "lists", words[1])
        other = words[2] if len(words) == 3 else ""
        found = couch_view_query.query(database, name, other, request)[1]
        return couch_handlers.lists(database, owner, words[1], found, request)

    @staticmethod
    def _without_javascript(database: Database, owner: Document, words: list[str]) -> Answer:
        """A view of documents that no view would show is empty; any other is refused, never "nothing"."""
        if words[0] == "_view" and words[1] not in owner.get("views", {}):
            raise missing("missing_named_view")
        if any(not name.startswith("_design/") and name not in NOT_SHOWN for name in database.live_ids()):
            raise not_modelled("views over documents: install quickjs-ng")
        if words[0] == "_list":
            return 200, []  # WorkQueue's own list function makes an array of the rows
        return 200, {"total_rows": 0, "offset": 0, "rows": []}
