# SPDX-License-Identifier: GPL-3.0-or-later
"""Purging tombstones: against the stand-in and, where COUCHDB_URL names one, a real CouchDB."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchError
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.notes import read_note
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_guard import Guard, SourceGuard
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_requests import Purger, read_largest_batch
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.tombstones import (
    CHANGED,
    YOUNG,
    Progress,
    count_tombstones,
    purge_tombstones,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from support.couch_servers import add_leaf, delete, live, stand_in, write

VIEW = {"language": "javascript", "views": {"all": {"map": "function (doc) { emit(doc.workflow, 1); }"}}}
NO_LIMITS = Limits(None, None, None)


def purge(client: CouchClient, database: str, guard: Guard | None = None, min_age: float = 0, **more: Any) -> Progress:
    progress = Progress(database)
    limits = more.pop("limits", NO_LIMITS)
    purge_tombstones(client, progress, guard or Guard(), min_age, limits, in_flight=3, **more)
    return progress


def counted(client: CouchClient, database: str, guard: Guard | None = None, min_age: float = 0) -> Progress:
    progress = Progress(database)
    count_tombstones(client, progress, guard or Guard(), min_age, NO_LIMITS)
    return progress


def test_tombstones_go_and_everything_else_stays(couch_client, couch_db):
    write(couch_client, couch_db, range(300))
    couch_client.put(path_of(couch_db, "_design/Jobs"), VIEW)
    delete(couch_client, couch_db, range(250))
    add_leaf(couch_client, couch_db, "280", "9-" + "a" * 32)  # a conflict that wins
    add_leaf(couch_client, couch_db, "281", "9-" + "b" * 32, deleted=True)  # a deleted leaf of a live document
    add_leaf(couch_client, couch_db, "7", "9-" + "c" * 32, deleted=True)  # a second tombstone of one document
    add_leaf(couch_client, couch_db, "ö/+ %", "1-" + "d" * 32, deleted=True)
    before = live(couch_client, couch_db)
    assert len(before) == 51
    planned = counted(couch_client, couch_db)
    assert (planned.tombstones, planned.going, planned.purged) == (251, 251, 0)
    assert read_database(couch_client, couch_db).tombstones == 251
    done = purge(couch_client, couch_db)
    assert (done.tombstones, done.going, done.purged, done.stopped_by) == (251, 251, 251, "")
    assert not done.held and done.rate > 0
    assert live(couch_client, couch_db) == before
    found = read_database(couch_client, couch_db)
    assert (found.documents, found.tombstones) == (51, 0)


def test_the_next_run_looks_only_at_what_came_since(couch_client, couch_db):
    write(couch_client, couch_db, range(40))
    delete(couch_client, couch_db, range(30))
    assert purge(couch_client, couch_db).purged == 30
    noted = read_note(couch_client, couch_db, "purge")
    again = purge(couch_client, couch_db)
    assert (again.tombstones, again.purged) == (0, 0)
    assert read_note(couch_client, couch_db, "purge") == noted
    delete(couch_client, couch_db, range(30, 35))
    assert counted(couch_client, couch_db).going == 5
    assert purge(couch_client, couch_db).purged == 5
    assert read_database(couch_client, couch_db).documents == 5


def test_the_young_stay_where_they_tell_their_age(couch_client, couch_db):
    now = time.time()
    told: dict[str, dict[str, Any]] = {
        "old report": {"timestamp": now - 5000},
        "young report": {"timestamp": now - 10},
        "old job": {"states": {"0": {"timestamp": now - 9000}, "1": {"timestamp": now - 8000}}},
        "young job": {"states": {"0": {"timestamp": now - 9000}, "1": {"timestamp": now - 10}}},
        "tells nothing": {},
    }
    for name, body in told.items():
        answer = couch_client.put(path_of(couch_db, name.replace(" ", "%20")), body)
        gone = {"_id": name, "_rev": answer["rev"], "_deleted": True, **body}
        couch_client.post(path_of(couch_db, "_bulk_docs"), {"docs": [gone]})
    done = purge(couch_client, couch_db, min_age=3600)
    assert (done.purged, dict(done.held)) == (3, {YOUNG: 2})
    # They are not passed over: once they are old enough they go.
    assert purge(couch_client, couch_db, min_age=1).purged == 2
    assert read_database(couch_client, couch_db).tombstones == 0


def test_a_document_made_again_meanwhile_stays(couch_client, couch_db, monkeypatch):
    write(couch_client, couch_db, range(20))
    delete(couch_client, couch_db, range(20))

    class Late(Purger):
        def purge(self, tombstones):
            write(couch_client, couch_db, range(5))
            return super().purge(tombstones)

    monkeypatch.setattr(f"{purge_tombstones.__module__}.Purger", Late)
    done = purge(couch_client, couch_db)
    assert (done.purged, dict(done.held)) == (15, {CHANGED: 5})
    assert sorted(live(couch_client, couch_db)) == ["0", "1", "2", "3", "4"]
    monkeypatch.undo()
    assert purge(couch_client, couch_db).purged == 0
    assert sorted(live(couch_client, couch_db)) == ["0", "1", "2", "3", "4"]


def test_no_index_falls_behind(couch_client, couch_db):
    couch_client.put(path_of(couch_db, "_design/Jobs"), VIEW)
    couch_client.put(path_of(couch_db, "_design/never-built"), {"views": {"no": {"map": "function (doc) {}"}}})
    write(couch_client, couch_db, range(400))
    couch_client.get(path_of(couch_db, "_design/Jobs/_view/all?limit=1"))
    delete(couch_client, couch_db, range(390))
    couch_client.put(path_of(couch_db, "_purged_infos_limit"), 40)
    lags: list[int] = []

    class Looking(Limits):
        def reason(self, rows_done: int) -> str:
            found = read_database(couch_client, couch_db)
            view = next(one for one in found.views if one.name == "Jobs")
            lags.append(int(found.purge_seq.partition("-")[0]) - view.purge_seq)
            return ""

    done = purge(couch_client, couch_db, limits=Looking(None, None, None))
    assert done.purged == 390
    shards = read_database(couch_client, couch_db).shards
    assert len(lags) > 390 / (40 * shards) and max(lags) <= 40 * shards
    assert len(couch_client.get(path_of(couch_db, "_design/Jobs/_view/all"))["rows"]) == 10
    assert [one.purge_seq for one in read_database(couch_client, couch_db).views if one.name == "Jobs"] == [390]


def test_a_run_that_ends_early_is_gone_on_with(couch_client, couch_db, tmp_path):
    write(couch_client, couch_db, range(60))
    delete(couch_client, couch_db, range(50))
    none = purge(couch_client, couch_db, limits=Limits(0, None, None))
    assert (none.purged, none.stopped_by) == (0, "max_runtime")
    assert read_note(couch_client, couch_db, "purge") == {}
    stop = tmp_path / "stop"
    stop.touch()
    none = purge(couch_client, couch_db, limits=Limits(None, None, stop))
    assert (none.purged, none.stopped_by) == (0, "stop_file")
    stop.unlink()
    assert purge(couch_client, couch_db, limits=Limits(None, None, stop)).purged == 50


def test_with_a_share_of_the_time_it_pauses_and_comes_to_the_same(couch_client, couch_db, monkeypatch):
    write(couch_client, couch_db, range(250))
    delete(couch_client, couch_db, range(240))
    pauses: list[float] = []
    monkeypatch.setattr(f"{purge_tombstones.__module__}.time.sleep", pauses.append)
    started = time.monotonic()
    done = purge(couch_client, couch_db, share=0.25)
    took = time.monotonic() - started
    assert (done.purged, done.stopped_by, len(pauses)) == (240, "", 3)
    assert 0 < sum(pauses) <= 3 * took
    assert read_database(couch_client, couch_db).tombstones == 0


def test_what_is_not_replicated_yet_stays(couch_client, couch_db):
    write(couch_client, couch_db, range(20))
    delete(couch_client, couch_db, range(5))
    sequence = couch_client.get(path_of(couch_db))["update_seq"]
    delete(couch_client, couch_db, range(5, 12))
    guard = Guard(sources=[SourceGuard(couch_client, couch_db, sequence)])
    assert counted(couch_client, couch_db, Guard(sources=[SourceGuard(couch_client, couch_db, sequence)])).going == 5
    done = purge(couch_client, couch_db, guard)
    assert (done.purged, dict(done.held)) == (5, {"not replicated yet": 7})
    later = couch_client.get(path_of(couch_db))["update_seq"]
    assert purge(couch_client, couch_db, Guard(sources=[SourceGuard(couch_client, couch_db, later)])).purged == 7


def test_a_deletion_after_the_page_was_read_is_not_missed_by_the_guard(couch_client, couch_db):
    write(couch_client, couch_db, range(5))
    guard = SourceGuard(couch_client, couch_db, couch_client.get(path_of(couch_db))["update_seq"])
    assert guard.holds(["0", "1"]) == set()
    delete(couch_client, couch_db, range(2))
    assert guard.holds(["0", "1", "2"]) == {"0", "1"}
    assert guard.holds(["0"]) == {"0"}


def test_where_anything_is_unknown_nothing_goes(couch_client, couch_db):
    write(couch_client, couch_db, range(5))
    delete(couch_client, couch_db, range(5))
    done = purge(couch_client, couch_db, Guard(unknown=["nobody knows"]))
    assert (done.purged, dict(done.held), done.unknown) == (0, {"cannot be found out": 5}, ["nobody knows"])
    assert read_database(couch_client, couch_db).tombstones == 5
    assert purge(couch_client, couch_db).purged == 5


def test_a_server_that_takes_less_than_it_says():
    with stand_in() as (server, couch):
        client = CouchClient(server)
        client.put("/jobs")
        client.put("/_node/_local/_config/purge/max_document_id_number", "900")
        write(client, "jobs", range(450))
        delete(client, "jobs", range(440))
        assert read_largest_batch(client).documents == 900
        done = purge(client, "jobs")
        assert (done.purged, read_database(client, "jobs").tombstones) == (440, 0)
        asked = [request for request in couch.faults.seen if "_purge" in request and "POST" in request]
        assert 5 < len(asked) < 25


@pytest.mark.parametrize("writes", [0, 1, 57, 130, 199])
def test_a_server_that_goes_away_in_the_middle(writes):
    with stand_in() as (server, couch):
        client = CouchClient(server, timeout=5)
        client.put("/jobs")
        write(client, "jobs", range(220))
        delete(client, "jobs", range(200))
        before = live(client, "jobs")
        couch.faults.die_after(writes)
        with pytest.raises(CouchError, match="cannot be reached"):
            purge(client, "jobs")
        couch.faults.revive()
        assert live(client, "jobs") == before
        left = read_database(client, "jobs").tombstones
        assert 0 < left <= 200
        assert purge(client, "jobs").purged == left
        assert live(client, "jobs") == before
