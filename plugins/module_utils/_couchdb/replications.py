# SPDX-License-Identifier: GPL-3.0-or-later
"""The replications that a server runs or will run, and what they have noted of how far they came.

See CouchDB's documentation of ``/_scheduler/jobs``, ``/_scheduler/docs`` and of its replication protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.server import local_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_MOST = 10_000
_OVER = frozenset(["completed"])


@dataclass(frozen=True)
class Replication:
    """One replication.

    id:       of its checkpoints
    document: its document in ``_replicator``, '' for one that has none
    source, target: as CouchDB tells them, without credentials
    local_source, local_target: databases of this server; None where they are another's
    """

    id: str
    document: str
    source: str
    target: str
    local_source: str | None
    local_target: str | None


@dataclass(frozen=True)
class Checkpoint:
    """How far a replication says to have come. sequence: of its source; written: UNIX time, seconds, inf if unknown."""

    id: str
    sequence: str
    written: float


def read_replications(client: CouchClient) -> list[Replication]:
    """All replications of this server, failed and waiting ones included; those that are over are not.

    Raises WMAgentError, also where one of them does not tell its source and target.
    """
    jobs = _rows(client, "/_scheduler/jobs", "jobs")
    documents = [row for row in _rows(client, "/_scheduler/docs", "docs") if row.get("state") not in _OVER]
    found = {}
    for row in (*jobs, *documents):
        one = _replication(client, row)
        found[one.id or one.document] = one
    return list(found.values())


def _rows(client: CouchClient, path: str, name: str) -> list[Mapping[str, Any]]:
    answer = client.get(f"{path}?limit={_MOST}")
    rows = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(rows, list) or len(rows) >= _MOST:
        raise WMAgentError(f"{client.settings.where} does not tell all of its replications by {path}")
    return rows


def _replication(client: CouchClient, row: Mapping[str, Any]) -> Replication:
    source, target = row.get("source"), row.get("target")
    document = str(row.get("doc_id") or "")
    if not source or not target:
        raise WMAgentError(
            f"{client.settings.where} does not tell source and target of the replication {document or row.get('id')}; "
            "mend or remove it"
        )
    return Replication(
        str(row.get("id") or "").partition("+")[0],
        document,
        str(source),
        str(target),
        local_database(source, client.settings),
        local_database(target, client.settings),
    )


def read_checkpoints(client: CouchClient, database: str) -> list[Checkpoint]:
    """What replications have noted in a database, be it their source or their target. Raises WMAgentError."""
    answer = client.get(path_of(database, "_local_docs?include_docs=true"))
    try:
        documents = [row["doc"] for row in answer["rows"]]
        return [
            Checkpoint(
                document["_id"].removeprefix("_local/"), str(document["source_last_seq"]), _written(document["history"])
            )
            for document in documents
            if "source_last_seq" in document and "history" in document
        ]
    except (KeyError, TypeError, AttributeError):
        raise WMAgentError(f"{client.settings.where} answered _local_docs of {database} unexpectedly") from None


def _written(history: list[Mapping[str, Any]]) -> float:
    try:
        return max(parsedate_to_datetime(entry["end_time"]).timestamp() for entry in history)
    except (KeyError, TypeError, ValueError):
        return float("inf")


def open_source(client: CouchClient, replication: Replication, timeout: float) -> tuple[CouchClient, str]:
    """A client for a replication's source, and the source's path there. Raises WMAgentError where nothing can tell.

    An agent's own password is for its own server: another is asked with what the replication's document holds.
    """
    if replication.local_source is not None:
        return client, path_of(replication.local_source)
    place: Any = replication.source
    if replication.document:
        place = client.get(path_of("_replicator", quote(replication.document, safe=""))).get("source", place)
    words = place if isinstance(place, Mapping) else {"url": place}
    url = urlsplit(str(words.get("url", "")))
    basic = words.get("auth", {}).get("basic", {})
    if url.scheme not in ("http", "https") or not url.hostname:
        raise WMAgentError(f"the source {replication.source} of a replication is no URL")
    settings = CouchSettings(
        url.hostname,
        url.port or (443 if url.scheme == "https" else 80),
        basic.get("username") or unquote(url.username or ""),
        basic.get("password") or unquote(url.password or ""),
        url.scheme == "https",
        client.settings.ca,
    )
    return CouchClient(settings, timeout), url.path.rstrip("/")
