# SPDX-License-Identifier: GPL-3.0-or-later
"""What CouchDB says of its databases and their views: sizes, documents, tombstones, limits, running tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_TOLD_OF_TASKS = ("type", "database", "design_document", "progress", "changes_done", "total_changes", "started_on")


@dataclass(frozen=True)
class Sizes:
    """Bytes of a database or a view index.

    file:     on disk
    active:   in use by what is live, tombstones and indexes within the file included
    external: of the documents themselves, uncompressed
    """

    file: int
    active: int
    external: int

    @property
    def fragmentation(self) -> float:
        """Share of the file that a compaction would give back, 0 to 1."""
        return max(0.0, 1 - self.active / self.file) if self.file else 0.0

    @property
    def reclaimable(self) -> int:
        """Bytes that a compaction would give back."""
        return max(0, self.file - self.active)


@dataclass(frozen=True)
class View:
    """The index of one design document. purge_seq: how far it has followed purges."""

    name: str
    sizes: Sizes
    compacting: bool
    updating: bool
    update_seq: int
    purge_seq: int


@dataclass(frozen=True)
class Database:
    """One database.

    documents, tombstones: live and deleted documents; design documents count as live
    update_seq, purge_seq: the whole answers, opaque; ``sequence`` gives the number before the dash
    """

    name: str
    sizes: Sizes
    documents: int
    tombstones: int
    update_seq: str
    purge_seq: str
    compacting: bool
    revs_limit: int
    purged_infos_limit: int
    shards: int
    views: list[View] = field(default_factory=list)

    @property
    def tombstone_share(self) -> float:
        """Tombstones among all documents, 0 to 1."""
        total = self.documents + self.tombstones
        return self.tombstones / total if total else 0.0


def path_of(database: str, *more: str) -> str:
    """The path of a database, whose name may hold a slash, and of something in it."""
    return "/" + "/".join([quote(database, safe=""), *more])


def sequence(opaque: str | int) -> int:
    """The number before the dash of an update or purge sequence; for comparing sizes only."""
    number = str(opaque).partition("-")[0]
    return int(number) if number.isdigit() else 0


def version(client: CouchClient) -> str:
    """The server's version. Raises WMAgentError where it is no CouchDB."""
    welcome = client.get("/")
    if not isinstance(welcome, Mapping) or welcome.get("couchdb") != "Welcome":
        raise WMAgentError(f"{client.settings.where} is no CouchDB; do COUCH_HOST and COUCH_PORT name the right one?")
    return str(welcome.get("version", ""))


def list_databases(client: CouchClient) -> list[str]:
    """Names of all databases but CouchDB's own. Raises WMAgentError."""
    names = client.get("/_all_dbs")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise WMAgentError(f"{client.settings.where} answered /_all_dbs with no list of names; is a proxy in between?")
    return [name for name in names if not name.startswith("_")]


def read_database(client: CouchClient, name: str) -> Database:
    """One database with all its views. Raises WMAgentError, also where it does not exist."""
    info = _mapping(client, client.get(path_of(name)), path_of(name))
    return Database(
        name=name,
        sizes=_sizes(client, info, name),
        documents=int(info["doc_count"]),
        tombstones=int(info["doc_del_count"]),
        update_seq=str(info["update_seq"]),
        purge_seq=str(info.get("purge_seq", 0)),
        compacting=bool(info.get("compact_running")),
        revs_limit=int(client.get(path_of(name, "_revs_limit"))),
        purged_infos_limit=int(client.get(path_of(name, "_purged_infos_limit"))),
        shards=int(info["cluster"]["q"]),
        views=[read_view(client, name, view) for view in design_documents(client, name)],
    )


def design_documents(client: CouchClient, database: str) -> list[str]:
    """Names of the design documents that have an index, without ``_design/``. Raises WMAgentError."""
    path = path_of(database, "_design_docs?include_docs=true")
    rows = _mapping(client, client.get(path), path).get("rows")
    if not isinstance(rows, list):
        raise WMAgentError(f"{client.settings.where} answered {path} without rows")
    # One without views, such as a filter's, has no index and no _info.
    found = (row["doc"] for row in rows)
    return [str(document["_id"]).removeprefix("_design/") for document in found if document.get("views")]


def read_view(client: CouchClient, database: str, name: str) -> View:
    """The index of one design document. Raises WMAgentError."""
    path = path_of(database, "_design", quote(name, safe=""), "_info")
    index = _mapping(client, _mapping(client, client.get(path), path).get("view_index"), path)
    return View(
        name=name,
        sizes=_sizes(client, index, f"{database}/_design/{name}"),
        compacting=bool(index.get("compact_running")),
        updating=bool(index.get("updater_running")),
        update_seq=sequence(index.get("update_seq", 0)),
        purge_seq=sequence(index.get("purge_seq", 0)),
    )


def running_tasks(client: CouchClient) -> list[dict[str, Any]]:
    """What the server is doing now: compactions, indexers, replications. Raises WMAgentError."""
    tasks = client.get("/_active_tasks")
    if not isinstance(tasks, list):
        raise WMAgentError(f"{client.settings.where} answered /_active_tasks with no list")
    # A replication's task holds URLs with passwords, so nothing is passed on that is not known.
    return [{key: task[key] for key in _TOLD_OF_TASKS if key in task} for task in tasks]


def _mapping(client: CouchClient, answer: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(answer, Mapping):
        raise WMAgentError(f"{client.settings.where} answered {path} with something unexpected; is a proxy in between?")
    return answer


def _sizes(client: CouchClient, info: Mapping[str, Any], what: str) -> Sizes:
    sizes = info.get("sizes")
    if not isinstance(sizes, Mapping) or not {"file", "active", "external"} <= sizes.keys():
        raise WMAgentError(f"{client.settings.where} does not tell the sizes of {what}; it is older than CouchDB 3")
    return Sizes(int(sizes["file"] or 0), int(sizes["active"] or 0), int(sizes["external"] or 0))
