# SPDX-License-Identifier: GPL-3.0-or-later
"""What replications hold back: found out from the stand-in and, where COUCHDB_URL names one, a real CouchDB."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.feed import read_pages
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_guard import (
    LIVE_AT_SOURCE,
    NOT_REPLICATED,
    Guard,
    make_guard,
)
from support.couch_servers import couch_database, delete, stand_in, write

DAY = 86400


def guard_of(client: CouchClient, database: str, abandoned_after: float = 30 * DAY) -> Guard:
    return make_guard(client, database, time.time() - abandoned_after, 5)


def reasons(client: CouchClient, database: str, guard: Guard) -> dict[str, str]:
    names = [change.name for page in read_pages(client, database) for change in page.changes if change.deleted]
    return guard.reasons(names)


@pytest.fixture
def other_db(couch) -> Iterator[str]:
    with couch_database(couch) as name:
        yield name


def url_of(server: CouchSettings, database: str) -> str:
    place = f"{server.host}:{server.port}{path_of(database)}"
    return f"http://{server.user}:{server.password}@{place}"


def replicate(client: CouchClient, source: str, target: str, **more: Any) -> None:
    places = {"source": url_of(client.settings, source), "target": url_of(client.settings, target)}
    client.post("/_replicate", places | more)


def test_without_replications_nothing_is_held_back(couch_client, couch_db):
    write(couch_client, couch_db, range(5))
    delete(couch_client, couch_db, range(5))
    guard = guard_of(couch_client, couch_db)
    assert (guard.sources, guard.targets, guard.unknown) == ([], [], [])
    assert reasons(couch_client, couch_db, guard) == {}


def test_a_checkpoint_of_a_replication_that_somebody_else_runs(couch_client, couch_db, other_db):
    write(couch_client, couch_db, range(10))
    delete(couch_client, couch_db, range(3))
    replicate(couch_client, couch_db, other_db)
    delete(couch_client, couch_db, range(3, 7))
    held = reasons(couch_client, couch_db, guard_of(couch_client, couch_db))
    assert held == dict.fromkeys(["3", "4", "5", "6"], NOT_REPLICATED)
    # One that nobody has written to for long enough counts no longer.
    assert reasons(couch_client, couch_db, guard_of(couch_client, couch_db, abandoned_after=-60)) == {}
    replicate(couch_client, couch_db, other_db)
    assert reasons(couch_client, couch_db, guard_of(couch_client, couch_db)) == {}


def test_in_a_target_of_an_unknown_replication_everything_stays(couch_client, couch_db, other_db):
    write(couch_client, couch_db, range(10))
    delete(couch_client, couch_db, range(3))
    replicate(couch_client, couch_db, other_db)
    assert sorted(reasons(couch_client, other_db, guard_of(couch_client, other_db))) == ["0", "1", "2"]


def job(server: CouchSettings, source: str, target: str, **more: Any) -> dict[str, Any]:
    places = {"source": url_of(server, source), "target": url_of(server, target)}
    return {"id": "abc+continuous", "doc_id": None, "info": None, "database": None} | places | more


def scheduled(couch, *jobs: dict[str, Any], documents: bool = False) -> None:
    name, other = ("docs", "jobs") if documents else ("jobs", "docs")
    couch.faults.clear()
    couch.faults.on(f"/_scheduler/{name}", times=-1, answer=(200, {name: list(jobs), "total_rows": len(jobs)}))
    couch.faults.on(f"/_scheduler/{other}", times=-1, answer=(200, {other: [], "total_rows": 0}))


@pytest.mark.parametrize("documents", [False, True])
def test_a_job_that_has_noted_nothing_yet_holds_back_everything(documents):
    with stand_in() as (server, couch):
        client = CouchClient(server)
        for name in ("jobs", "copy"):
            client.put(f"/{name}")
        write(client, "jobs", range(5))
        delete(client, "jobs", range(2))
        scheduled(couch, job(server, "jobs", "elsewhere"), documents=documents)
        assert sorted(reasons(client, "jobs", guard_of(client, "jobs", abandoned_after=0))) == ["0", "1"]
        scheduled(couch, job(server, "jobs", "elsewhere", state="completed"), documents=True)
        assert reasons(client, "jobs", guard_of(client, "jobs")) == {}


def test_what_the_source_still_has_stays_in_its_target():
    with stand_in() as (server, couch):
        client = CouchClient(server)
        for name in ("source", "inbox"):
            client.put(f"/{name}")
            write(client, name, range(6))
        delete(client, "inbox", range(4))
        delete(client, "source", range(2))  # 0 and 1 are gone at both ends
        scheduled(couch, job(server, "source", "inbox"))
        assert reasons(client, "inbox", guard_of(client, "inbox")) == dict.fromkeys(["2", "3"], LIVE_AT_SOURCE)


def test_a_source_on_another_server_is_asked_with_its_own_words_only():
    with stand_in() as (server, couch), stand_in() as (central, _):
        client, there = CouchClient(server), CouchClient(central)
        client.put("/inbox")
        there.put("/workqueue")
        write(there, "workqueue", range(3))
        write(client, "inbox", range(5))
        delete(client, "inbox", range(5))
        client.put("/_replicator/pull", {"source": url_of(central, "workqueue"), "target": "inbox"})
        bare = f"http://{central.host}:{central.port}/workqueue"
        known = {"id": "abc", "source": bare, "target": url_of(server, "inbox")}
        scheduled(couch, known | {"doc_id": "pull"})
        held = reasons(client, "inbox", guard_of(client, "inbox"))
        assert held == dict.fromkeys(["0", "1", "2"], LIVE_AT_SOURCE)
        # Without a document there are no words to ask with.
        scheduled(couch, known | {"doc_id": None})
        guard = guard_of(client, "inbox")
        assert len(guard.unknown) == 1 and "still has the documents" in guard.unknown[0]
        assert len(reasons(client, "inbox", guard)) == 5
        assert "couch-word" not in guard.unknown[0]


@pytest.mark.parametrize(
    ("pattern", "answer"),
    [
        ("/_scheduler/jobs", (500, {"error": "boom", "reason": "no"})),
        ("/_scheduler/docs", (200, {"odd": 1})),
        ("/_scheduler/docs", (200, {"docs": [{"doc_id": "broken", "source": None, "target": None}]})),
        ("_local_docs", (403, {"error": "forbidden", "reason": "no"})),
        ("_local_docs", (200, {"rows": [{"nothing": 1}]})),
    ],
)
def test_what_cannot_be_found_out_holds_back_everything(pattern, answer):
    with stand_in() as (server, couch):
        client = CouchClient(server)
        client.put("/jobs")
        write(client, "jobs", range(3))
        delete(client, "jobs", range(3))
        couch.faults.on(pattern, times=-1, answer=answer)
        guard = guard_of(client, "jobs")
        assert len(guard.unknown) == 1 and "\n" not in guard.unknown[0]
        assert len(guard.reasons(["0", "1", "2"])) == 3


def test_a_continuous_replication_on_a_real_server(couch_client, couch_db, other_db, request):
    if "stand-in" in request.node.name:
        return  # it runs none
    write(couch_client, couch_db, range(6))
    replicate(couch_client, couch_db, other_db, continuous=True)
    try:
        deadline = time.monotonic() + 30
        while couch_client.get(path_of(other_db))["doc_count"] < 6 and time.monotonic() < deadline:
            time.sleep(0.2)
        delete(couch_client, couch_db, range(2))
        # Its checkpoint is written every 30 s: until then all of it may be asked for again.
        assert sorted(reasons(couch_client, couch_db, guard_of(couch_client, couch_db))) == ["0", "1"]
        delete(couch_client, other_db, range(4, 6))
        held = reasons(couch_client, other_db, guard_of(couch_client, other_db))
        assert held == dict.fromkeys(["4", "5"], LIVE_AT_SOURCE)
    finally:
        replicate(couch_client, couch_db, other_db, continuous=True, cancel=True)
