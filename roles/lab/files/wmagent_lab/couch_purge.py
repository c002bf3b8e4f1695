# SPDX-License-Identifier: GPL-3.0-or-later
"""``_purge`` and what it leaves behind. Only leaves can be purged; what is asked for in vain is remembered too."""

from __future__ import annotations

from typing import Any

from .couch_erlang import revision_bytes
from .couch_errors import Answer, StoreError, bad_request
from .couch_faults import DiskFullError
from .couch_render import REVISION
from .couch_server import Request, Server
from .couch_store import Database

MOST_IDS = 100
MOST_REVISIONS = 1000
NO_LIMIT_FROM = (3, 5, 1)
"""From this version on a request may name as many documents as it likes."""


def purge(server: Server, database: Database, request: Request) -> Answer:
    """``POST /<database>/_purge``."""
    asked = _checked(request.object())
    limited = tuple(int(part) for part in server.version.split(".")) < NO_LIMIT_FROM
    if limited and len(asked) > MOST_IDS:
        raise bad_request("Exceeded maximum number of documents.")
    if limited and sum(map(len, asked.values())) > MOST_REVISIONS:
        raise bad_request("Exceeded maximum number of revisions.")
    try:
        purged = database.purge(asked, server.faults.write)
    except DiskFullError:
        raise StoreError(500, "case_clause", "{error,[{error,internal_server_error}]}") from None
    return 201, {"purge_seq": None, "purged": {name: purged[name] for name in asked}}


def _checked(asked: dict[str, Any]) -> dict[str, list[str]]:
    for revisions in asked.values():
        if not isinstance(revisions, list):
            raise bad_request("Invalid list of revisions")
        if not all(isinstance(item, str) and REVISION.match(item) for item in revisions):
            raise bad_request("Invalid rev format")
    return asked


def infos(database: Database) -> Answer:
    """``_purged_infos``: what is still remembered, each pair of document and revisions once."""
    pairs = sorted({(name, tuple(sorted(revisions, key=_place))) for _, name, revisions in database.purges})
    return 200, {"purged_infos": [{"id": name, "revs": list(revisions)} for name, revisions in pairs]}


def _place(revision: str) -> tuple[int, bytes]:
    number, _, digest = revision.partition("-")
    return int(number), revision_bytes(digest)


def limit(server: Server, database: Database, name: str, request: Request) -> Answer:
    """``_revs_limit`` and ``_purged_infos_limit``."""
    if request.method != "PUT":
        return 200, database.limits[name]
    value = request.body
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        if name == "_purged_infos_limit":
            raise bad_request("`purged_infos_limit` must be positive integer")
        raise StoreError(500, "unknown_error", "function_clause", ref=0)
    server.faults.write()
    database.set_limit(name, value)
    return 200, {"ok": True}


def forget_old(database: Database) -> None:
    """Compaction: in each shard the newest ``_purged_infos_limit`` stay, and those that an index has not seen yet."""
    seen = min((index.purge_sequence for index in database.indexes.values()), default=database.purge_sequence)
    left = {0: database.limits["_purged_infos_limit"], 1: database.limits["_purged_infos_limit"]}
    kept = []
    for item in reversed(database.purges):
        shard = database.shard(item[1])
        left[shard] -= 1
        if left[shard] >= 0 or item[0] > seen:
            kept.append(item)
    database.purges = kept[::-1]
