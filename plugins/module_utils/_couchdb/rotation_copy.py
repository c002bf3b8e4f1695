# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a rotation between two databases: make one, copy everything that is live, verify it.

Each of them may be done again: what is there already stays as it is, and nothing is ever deleted here but ``_local``
documents of a copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import leaves
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import (
    CouchClient,
    CouchError,
    CouchLostError,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.indexes import follow, view_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.leaves import Batches, Tally
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.notes import PREFIX
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_marker import State
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

# CouchDB's own notes about the files of one database, and this collection's: neither is true of another database.
_NOT_COPIED = ("_local/purge-", "_local/shard-sync-", PREFIX)
_THERE_ALREADY = 412


@dataclass(frozen=True)
class Pace:
    """in_flight: batches at once; batch_bytes: of each."""

    in_flight: int = 2
    batch_bytes: int = leaves.BATCH_BYTES


def exists(client: CouchClient, database: str) -> bool:
    """Raises WMAgentError where nobody can tell."""
    return client.find(path_of(database)) is not None


def make(client: CouchClient, database: str, state: State) -> None:
    """Make a database like another, closed to those to whom the other is, before anything else is in it.

    One that is there already is left as it is but for these settings. Raises WMAgentError.
    """
    if not exists(client, database):
        try:
            client.put(f"{path_of(database)}?{state.made_by}")
        except CouchLostError:
            if not exists(client, database):
                raise
        except CouchError as error:
            if error.status != _THERE_ALREADY:
                raise
    if client.get(path_of(database, "_security")) != state.security:
        client.put(path_of(database, "_security"), state.security)
    for name, limit in state.limits.items():
        if client.get(path_of(database, name)) != limit:
            client.put(path_of(database, name), limit)


def remove(client: CouchClient, database: str) -> None:
    """Delete a database. Raises WMAgentError where it is still there afterwards."""
    try:
        client.delete(path_of(database))
    except CouchLostError:
        # It may have been done or not; one that is still there may be about to be deleted, so nothing is sent again.
        if exists(client, database):
            raise
    except CouchError as error:
        if error.status != 404:
            raise
    for _ in range(100):
        if not exists(client, database):
            return
        time.sleep(0.1)
    raise WMAgentError(f"{client.settings.where} deleted {database}, and still has it; run again")


def each_copied(
    client: CouchClient,
    source: str,
    target: str,
    names: Iterator[list[str]],
    batches: Batches,
    revs_limit: int,
    in_flight: int,
) -> Iterator[tuple[str, Tally]]:
    """Copy documents with all their leaves; the last id and the tally of each batch, in order. Raises WMAgentError."""

    def work(batch: Sequence[str]) -> Tally:
        documents = leaves.read_leaves(client, source, batch)
        leaves.write_leaves(client, target, documents)
        return leaves.tally_of(documents, revs_limit)

    return leaves.each_batch(names, batches, work, in_flight)


def copy_designs(client: CouchClient, source: str, target: str, revs_limit: int) -> Tally:
    """Copy the design documents: last, since CouchDB begins with an index as soon as it has its design document."""
    names = leaves.design_names(client, source)
    return sum(
        (tally for _, tally in each_copied(client, source, target, iter([names]), Batches(1 << 16), revs_limit, 1)),
        Tally(),
    )


def read_locals(client: CouchClient, database: str) -> dict[str, dict[str, Any]]:
    """``_local`` documents, without revisions, but those that are about one database's files. Raises WMAgentError."""
    answer = client.get(path_of(database, "_local_docs?include_docs=true"))
    rows = answer.get("rows") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise WMAgentError(f"{client.settings.where} answered _local_docs of {database} without rows")
    return {
        row["id"]: {key: value for key, value in row["doc"].items() if key not in ("_id", "_rev")}
        for row in rows
        if not row["id"].startswith(_NOT_COPIED)
    }


def copy_locals(client: CouchClient, source: str, target: str, same: bool) -> None:
    """Copy ``_local`` documents. Raises WMAgentError.

    same: the target's are to be the source's and no others; else those that it has stay as they are
    """
    wanted, there = read_locals(client, source), read_locals(client, target)
    for name, body in wanted.items():
        if name not in there or (same and there[name] != body):
            client.put(_local(target, name), {**body, **_rev(client, target, name)})
    for name in sorted(there.keys() - wanted.keys()) if same else ():
        client.delete(f"{_local(target, name)}?rev={_rev(client, target, name)['_rev']}")
    now = read_locals(client, target)
    if (same and now != wanted) or not wanted.keys() <= now.keys():
        raise WMAgentError(f"the _local documents of {target} are not those of {source}; does somebody write?")


def _local(database: str, name: str) -> str:
    return path_of(database, "_local", quote(name.removeprefix("_local/"), safe=""))


def _rev(client: CouchClient, database: str, name: str) -> dict[str, str]:
    found = client.find(_local(database, name))
    return {"_rev": found["_rev"]} if found else {}


def verify_merged(
    client: CouchClient, source: str, target: str, revs_limit: int, batches: Batches, in_flight: int
) -> None:
    """Every leaf of every document of the source is in the target, where others may have written too.

    Raises WMAgentError.
    """
    wrong: list[str] = []

    def work(batch: Sequence[str]) -> Tally:
        wrong.extend(leaves.not_merged(client, source, target, revs_limit, batch))
        return Tally(len(batch))

    for _ in leaves.each_batch(leaves.read_names(client, source), batches, work, in_flight):
        pass
    if wrong:
        raise WMAgentError(
            f"{target} lacks something of {len(wrong)} documents of {source}, such as {wrong[0]}; run again"
        )


def build_indexes(
    client: CouchClient,
    database: str,
    deadline: float,
    note: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, str]:
    """Have all indexes of a database built; design document -> why CouchDB does not build it. Raises WMAgentError.

    deadline: of the clock; one that is not built then is an error, and CouchDB goes on with it
    """
    refused = {}
    for name in leaves.design_names(client, database):
        document = client.get(path_of(database, "_design", quote(name.removeprefix(leaves.DESIGN), safe="")))
        design = str(document["_id"]).removeprefix(leaves.DESIGN)
        view = view_of(database, document)
        if view is None:
            continue
        note(f"{database}: builds the index of {design}")
        try:
            built = follow(client, view, lambda: clock() < deadline)
        except CouchError as error:
            if isinstance(error, CouchLostError):
                raise
            # It has an error that it had in the old database, too.
            refused[design] = error.reason or str(error)
            continue
        if not built:
            raise WMAgentError(f"{client.settings.where} is still building the index of {view}; run again later")
    return refused
