# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures on this server, with a sample of a database in a scratch database, what a purge and a rotation cost.

The scratch database is always dropped, by the next run where this one is killed.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import leaves, rotation_copy
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import list_databases, path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.feed import BEGINNING, read_page
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.leaves import Batches, Leaves, Tally
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_guard import Guard
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_copy import Pace
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_marker import State, read_state
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.strategy import Rates
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.tombstones import Progress, purge_tombstones
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits

_PREFIX = "dmwm-wmagent-trial-"
_SCRATCH = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{12}")
_SHORTEST = 0.001
_LONGEST_BEGIN = 2.0


@dataclass(frozen=True)
class Sample:
    """How much is tried: documents, tombstones, bytes of documents at the most; index_seconds for its indexes.

    in_flight: requests at once of a purge
    """

    documents: int = 3000
    tombstones: int = 6000
    bytes: int = 16 * 1024 * 1024
    index_seconds: float = 300.0
    compact_seconds: float = 60.0
    in_flight: int = 2


def is_scratch(name: str) -> bool:
    """Whether a database is one that is made here. Pure."""
    return _SCRATCH.fullmatch(name) is not None


def drop_leftovers(client: CouchClient) -> list[str]:
    """Scratch databases that a killed run left, dropped. Raises WMAgentError."""
    left = [name for name in list_databases(client) if is_scratch(name)]
    for name in left:
        rotation_copy.remove(client, name)
    return left


def measure(client: CouchClient, database: str, sample: Sample = Sample()) -> Rates:
    """Rates of this server for documents and views such as a database has. The database is only read.

    Raises WMAgentError.
    """
    state = read_state(client, database)
    names = _names(client, database, sample)
    with _scratch(client, state) as scratch:
        copying, tally = _copy(client, database, scratch, names, state)
        indexing = _index(client, database, scratch, state, sample)
        _write_tombstones(client, database, scratch, sample.tombstones)
        purged = Progress(scratch)
        purge_tombstones(client, purged, Guard(), 0, Limits(None, None, None), sample.in_flight)
        compacting = _compact(client, scratch, sample.compact_seconds)
    if not purged.purged:
        raise WMAgentError(f"{database} has no tombstone to try a purge with")
    documents = max(1, tally.documents)
    return Rates(
        purges=purged.rate,
        copies=documents / max(_SHORTEST, copying),
        indexed=documents / indexing if indexing else float("inf"),
        compacted=tally.bytes / max(_SHORTEST, compacting) or 1.0,
        each_bytes=tally.bytes / documents,
    )


@contextmanager
def _scratch(client: CouchClient, state: State) -> Iterator[str]:
    name = _PREFIX + uuid.uuid4().hex[:12]
    try:
        rotation_copy.make(client, name, state)
        yield name
    finally:
        rotation_copy.remove(client, name)


def _names(client: CouchClient, database: str, sample: Sample) -> list[str]:
    """The first ids, as many as are not too many bytes by what the first few have."""
    page = next(leaves.without_designs(leaves.read_names(client, database)), [])
    first = page[:20]
    each = leaves.tally_of(leaves.read_leaves(client, database, first), 1000).bytes / max(1, len(first))
    return page[: min(sample.documents, max(1, int(sample.bytes / max(1.0, each))))]


def _copy(client: CouchClient, source: str, target: str, names: list[str], state: State) -> tuple[float, Tally]:
    """Seconds of copying and verifying, and what was copied."""
    pace, total = Pace(), Tally()
    batches = Batches(4096)
    started = time.monotonic()
    copied = rotation_copy.each_copied(client, source, target, iter([names]), batches, state.revs_limit, pace.in_flight)
    for _, tally in copied:
        total += tally
    if leaves.tally_database(client, target, state.revs_limit, batches, pace.in_flight) != total:
        raise WMAgentError(f"{target} does not hold what was written into it; look at CouchDB's log")
    return time.monotonic() - started, total


def _index(client: CouchClient, source: str, scratch: str, state: State, sample: Sample) -> float:
    """Seconds of building all indexes, but for what one of a single document takes; 0 where there is none."""
    designs = leaves.design_names(client, source)
    documents = leaves.read_leaves(client, source, designs)
    if not any(leaf.get("views") for some in documents.values() for leaf in some):
        return 0.0
    with _scratch(client, state) as empty:
        fixed = _build(client, empty, documents, sample.index_seconds)
    whole = _build(client, scratch, documents, sample.index_seconds)
    return max(_SHORTEST, whole - fixed, 0.2 * whole)


def _build(client: CouchClient, database: str, documents: dict[str, Leaves], longest: float) -> float:
    started = time.monotonic()
    leaves.write_leaves(client, database, documents)
    rotation_copy.build_indexes(client, database, started + longest, lambda text: None)
    return time.monotonic() - started


def _write_tombstones(client: CouchClient, source: str, scratch: str, count: int) -> None:
    """Tombstones of the source, with their ids and leaf revisions, as far as the beginning of its feed has them."""
    since, found = BEGINNING, 0
    # Live documents may come first: so far, and no further.
    for _ in range(5):
        page = read_page(client, source, since, count)
        gone = [change for change in page.changes if change.deleted][: count - found]
        documents = {
            one.name: [{"_id": one.name, "_rev": leaf, "_deleted": True} for leaf in one.leaves] for one in gone
        }
        leaves.write_leaves(client, scratch, documents)
        found += len(gone)
        since = page.sequence
        if page.last or found >= count:
            return


def _compact(client: CouchClient, database: str, longest: float) -> float:
    """Seconds until a compaction has ended."""
    before = client.get(path_of(database))["sizes"]["file"]
    started = time.monotonic()
    client.post(path_of(database, "_compact"), {})
    while time.monotonic() - started < longest:
        info = client.get(path_of(database))
        gone = time.monotonic() - started
        # One that has not begun after a while has nothing to gain.
        if not info["compact_running"] and (info["sizes"]["file"] < before or gone > _LONGEST_BEGIN):
            return gone
        time.sleep(0.02)
    return time.monotonic() - started
