# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping CouchDB small: how fast tombstones go, how small it gets, and what the agent feels of it."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import trial
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.feed import read_pages
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_guard import make_guard
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_requests import Purger, read_largest_batch
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation import Rotation
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_copy import remove
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_run import Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.strategy import PURGE, ROTATE, Work, choose
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.tombstones import Progress, purge_tombstones
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits

from tests.benchmarks.couchdb_data import (
    DELETED,
    LIVE,
    build_views,
    compact,
    file_sizes,
    job,
    jobdump,
    server,
    server_version,
)
from tests.benchmarks.rows import Benchmark, Row, compared, versions

RUNS = int(os.environ.get("BENCH_RUNS", "3"))
IN_FLIGHT = 2
SHARE = 0.5
"""As couchdb_purge has it while the agent works."""
_PACE = 0.02
"""Seconds between two requests of the writer."""
_ALONE = 20.0
"""Seconds in which the writer is measured without a cleanup."""


def purge(client: CouchClient, name: str, share: float = 1) -> float:
    """Seconds that our purge takes, the first run's: everything is read."""
    started = time.monotonic()
    progress = Progress(name)
    guard = make_guard(client, name, 0, 30)
    purge_tombstones(client, progress, guard, 0, Limits(None, None, None), IN_FLIGHT, share)
    if client.get(path_of(name))["doc_del_count"]:
        raise RuntimeError(f"tombstones are left in {name}")
    return time.monotonic() - started


def ceiling(client: CouchClient, name: str, indexed: bool) -> float:
    """Seconds for the same from memory: nothing is read meanwhile, and the views follow once, at the end."""
    changes = (change for page in read_pages(client, name) for change in page.changes)
    tombstones = [(change.name, change.leaves) for change in changes if change.deleted]
    started = time.monotonic()
    with Purger(client, name, read_largest_batch(client), IN_FLIGHT) as purger:
        purger.purge(tombstones)
    if indexed:
        build_views(client, name)
    return time.monotonic() - started


def tombstones_per_second() -> list[Row]:
    """Purging, reading included, against the server's own ceiling: without views, and with views that follow."""
    deleted = max(1, DELETED // 10)
    rows = []
    with server() as client:
        for indexed in (False, True):
            ours, against = [], []
            for _ in range(RUNS):
                with jobdump(client, LIVE // 10, deleted, indexed) as name:
                    against.append(deleted / ceiling(client, name, indexed))
                with jobdump(client, LIVE // 10, deleted, indexed) as name:
                    ours.append(deleted / purge(client, name))
            ratio = statistics.median(ours) / statistics.median(against)
            rows.append(
                Row(
                    f"couchdb: tombstones purged per second, {'views follow' if indexed else 'no views'}",
                    "/s",
                    statistics.median(ours),
                    statistics.median(against),
                    ratio,
                    "≥ 0.6 ×",
                    ratio >= 0.6,
                    RUNS,
                    versions(**server_version(client)),
                    f"{deleted} tombstones between {LIVE // 10} live documents; against: largest batches from memory",
                )
            )
    return rows


def size_after_cleanup() -> list[Row]:
    """A database and its views after purge and compaction, against a fresh copy of the live documents."""
    live, deleted = LIVE // 10, max(1, DELETED // 10)
    ours, against = [], []
    with server() as client:
        for _ in range(RUNS):
            with jobdump(client, live, deleted) as name:
                purge(client, name)
                compact(client, name)
                ours.append(file_sizes(client, name))
            with jobdump(client, live, deleted, tombstones=False) as copy:
                # Made as small as it gets: a file that was only written to has gone over old nodes.
                compact(client, copy)
                against.append(file_sizes(client, copy))
        used = versions(**server_version(client))
    note = f"{deleted} tombstones purged, {live} live documents, one compaction; the copy is compacted, too"
    return [
        compared(
            f"couchdb: {what} after cleanup", "MB", [one[at] / 1e6 for one in ours], [one[at] / 1e6 for one in against],
            1.1, used, note,
        )
        for at, what in enumerate(("database", "views"))
    ]  # fmt: skip


class Writer:
    """Does what an agent does, at a steady pace: a job's next transition, and a look at a workflow's jobs."""

    def __init__(self, client: CouchClient, name: str, first: int) -> None:
        self.latencies: list[float] = []
        self._client, self._name, self._number = client, name, first
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        view = path_of(self._name, '_design/JobDump/_view/jobsByWorkflowName?limit=20&startkey=["user_Run_7"]')
        while not self._end.wait(_PACE):
            self._number += 1
            if self._number % 10:
                self._timed("_bulk_docs", {"docs": [job(self._number)]})
            else:
                started = time.monotonic()
                self._client.get(view)
                self.latencies.append(time.monotonic() - started)

    def _timed(self, path: str, body: object) -> None:
        started = time.monotonic()
        self._client.post(path_of(self._name, path), body)
        self.latencies.append(time.monotonic() - started)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._end.set()
            self._thread.join()

    @property
    def p99(self) -> float:
        """Milliseconds."""
        return 1000 * statistics.quantiles(self.latencies, n=100)[98]


def what_the_agent_feels() -> list[Row]:
    """Requests of an agent's kind of writer while its database is purged and compacted, against without."""
    live, deleted = LIVE // 10, max(1, DELETED // 40)
    alone, during = [], []
    with server() as client:
        for _ in range(RUNS):
            with jobdump(client, live, deleted) as name:
                writer = Writer(client, name, 10**9)
                with writer.at_work():
                    time.sleep(_ALONE)
                alone.append(writer.p99)
                writer = Writer(client, name, 2 * 10**9)
                with writer.at_work():
                    purge(client, name, SHARE)
                    compact(client, name)
                during.append(writer.p99)
        used = versions(**server_version(client))
    note = f"p99 of a write each {1000 * _PACE:.0f} ms, each tenth a view; {deleted} tombstones purged, share {SHARE:g}"
    return [compared("couchdb: an agent's requests during cleanup, p99", "ms", during, alone, 3, used, note)]


def rotate(client: CouchClient, name: str) -> float:
    """Seconds that a rotation takes, watching for writers included; the kept copy is dropped afterwards, untimed."""
    started = time.monotonic()
    time.sleep(Rules().observation)
    rotated = Rotation(client, name, Limits(None, None, None)).begin()
    seconds = time.monotonic() - started
    if not rotated.finished:
        raise RuntimeError(f"{name} was not rotated")
    remove(client, rotated.copy)
    return seconds


def purge_or_rotate() -> list[Row]:
    """A jobdump of mostly tombstones: what the strategy chooses, against the other."""
    seconds: dict[str, float] = {}
    sizes: dict[str, tuple[int, int]] = {}
    with server() as client:
        with jobdump(client, LIVE, DELETED) as name:
            rates = trial.measure(client, name)
            choice = choose(Work.of(read_database(client, name)), rates, 10_000, [])
            seconds[PURGE] = purge(client, name) + compact(client, name)
            sizes[PURGE] = file_sizes(client, name)
        with jobdump(client, LIVE, DELETED) as name:
            seconds[ROTATE] = rotate(client, name)
            sizes[ROTATE] = file_sizes(client, name)
        used = versions(**server_version(client))
    (other,) = {PURGE, ROTATE} - {choice.choice}
    final = ", ".join(f"{way}: {sizes[way][0] / 1e6:.1f} MB and views {sizes[way][1] / 1e6:.1f} MB" for way in sizes)
    expected = ", ".join(f"{way} {choice.seconds[way]:.0f} s" for way in sizes)
    note = f"{LIVE} live, {DELETED} tombstones; chose {choice.choice} (expected {expected}); final {final}"
    row = compared("couchdb: what auto chose", "s", [seconds[choice.choice]], [seconds[other]], 1, used, note, "≤ 1 ×")
    return [row]


BENCHMARKS: dict[str, Benchmark] = {
    "couchdb tombstones purged per second": tombstones_per_second,
    "couchdb purge or rotate": purge_or_rotate,
    "couchdb size after cleanup": size_after_cleanup,
    "couchdb requests during cleanup": what_the_agent_feels,
}
