# SPDX-License-Identifier: GPL-3.0-or-later
"""A jobdump database of a given size, with views of the kind JobDump has.

BENCH_COUCH_LIVE and BENCH_COUCH_DELETED (default 100,000 and 1,000,000) are the documents of the largest; the others
are a tenth of it. COUCHDB_URL names the server; without it the lab's stand-in is measured, and the rows say so.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import (
    CouchClient,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction import Compaction
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, version
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.disk_space import disks_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.indexes import follow
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from support.couch_servers import KINDS, couch_server

KIND = KINDS[-1]
LIVE = int(os.environ.get("BENCH_COUCH_LIVE", "100000"))
DELETED = int(os.environ.get("BENCH_COUCH_DELETED", "1000000"))

_numbers = itertools.count(1)
_AT_ONCE = 2000
_VIEWS = {
    "jobsByWorkflowName": {"map": "function (doc) { emit([doc.workflow, doc.jobid], {id: doc._id, rev: doc._rev}); }"},
    "transitions": {
        "map": "function (doc) { for (var i in doc.states) { emit([doc.workflow, doc.states[i].newstate], 1); } }",
        "reduce": "_sum",
    },
}


@contextmanager
def server() -> Iterator[CouchClient]:
    """A client of the server that is measured."""
    with couch_server(KIND) as settings:
        yield CouchClient(settings, 600)


def server_version(client: CouchClient) -> dict[str, str]:
    """What to note of it with a figure."""
    return {"couchdb": version(client) + ("" if KIND == "real" else " (stand-in)")}


def job(number: int) -> dict[str, object]:
    """A job's document after its first transition."""
    created = {"oldstate": "new", "newstate": "created", "location": "Agent", "timestamp": 1_790_000_000 + number}
    workflow = f"user_Run_{number % 97}"
    return {
        "_id": str(number),
        "type": "job",
        "jobid": number,
        "workflow": workflow,
        "task": f"/{workflow}/Processing",
        "states": {"0": created},
        "inputfiles": [f"/store/data/{number % 1000}/{number}.root"],
    }


def tombstone(number: int) -> dict[str, object]:
    """What a deleted job leaves behind, with three revisions behind it."""
    revisions = [hashlib.md5(f"{number} {i}".encode(), usedforsecurity=False).hexdigest() for i in range(3)]
    history = {"start": 3, "ids": revisions}
    return {"_id": str(number), "_rev": f"3-{revisions[0]}", "_deleted": True, "_revisions": history}


@contextmanager
def jobdump(
    client: CouchClient, live: int, deleted: int, indexed: bool = True, tombstones: bool = True
) -> Iterator[str]:
    """The name of a new database with so many documents; dropped afterwards.

    indexed: with views, which are built; tombstones: False for the same live documents alone
    """
    name = f"bench{os.getpid()}_{next(_numbers)}/jobs"
    client.put(path_of(name))
    try:
        if indexed:
            client.put(path_of(name, "_design/JobDump"), {"language": "javascript", "views": _VIEWS})
        with ThreadPoolExecutor(3) as threads:
            list(
                threads.map(
                    lambda start: _fill(client, name, start, live, deleted, tombstones),
                    range(0, live + deleted, _AT_ONCE),
                )
            )
        if indexed:
            build_views(client, name)
        yield name
    finally:
        client.delete(path_of(name))


def _fill(client: CouchClient, name: str, start: int, live: int, deleted: int, tombstones: bool) -> None:
    numbers = range(start, min(start + _AT_ONCE, live + deleted))
    # Live documents lie between the dead ones, as in a database that has been at work.
    every = max(1, (live + deleted) // max(1, live))
    alive = [number for number in numbers if number % every == 0 and number // every < live]
    dead = [tombstone(number) for number in sorted(set(numbers) - set(alive))]
    if dead and tombstones:
        client.post(path_of(name, "_bulk_docs"), {"docs": dead, "new_edits": False})
    if alive:
        client.post(path_of(name, "_bulk_docs"), {"docs": [job(number) for number in alive]})


def build_views(client: CouchClient, name: str) -> float:
    """Seconds until the views of a database are up to date."""
    started = time.monotonic()
    follow(client, path_of(name, "_design/JobDump/_view/jobsByWorkflowName?limit=1"), lambda: True)
    return time.monotonic() - started


def compact(client: CouchClient, name: str) -> float:
    """Seconds of one run of our compaction of a database and its views; all that is unused counts."""
    rules = Rules(minimum_fragmentation=0.02, minimum_gain=0, large_gain=1 << 40, leave_alone=0, minimum_free=0)
    disks = disks_of(client, None, 1 << 40)
    started = time.monotonic()
    run = Compaction(client, [name], rules, Limits(None, None, None), lambda: disks)
    run.look()
    run.run()
    return time.monotonic() - started


def file_sizes(client: CouchClient, name: str) -> tuple[int, int]:
    """Bytes on disk of a database and of its views."""
    view = client.get(path_of(name, "_design/JobDump/_info"))["view_index"]
    return int(client.get(path_of(name))["sizes"]["file"]), int(view["sizes"]["file"])
