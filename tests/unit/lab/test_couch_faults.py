# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests can have go wrong in the stand-in, how its files grow and shrink, and that it holds many documents."""

from __future__ import annotations

import http.client
import time

import pytest
from support import couch_transcripts as transcripts
from support.agent import processes  # noqa: F401 - makes the lab's package importable
from wmagent_lab.couch_errors import ConnectionLostError
from wmagent_lab.couch_routes import Couch
from wmagent_lab.couch_standin import serving
from wmagent_lab.couch_store import Store, StoreError


class Clock:
    now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def couch():
    server = Couch(Store(None, 1), clock=Clock())
    server.answer("PUT", "/db", None)
    server.answer("POST", "/db/_bulk_docs", {"docs": [{"_id": f"{n:03d}", "text": "x" * 400} for n in range(100)]})
    return server


def info(couch):
    return couch.answer("GET", "/db", None)[1]


def leaves(couch):
    found = couch.answer("GET", "/db/_changes?style=all_docs", None)[1]["results"]
    return {row["id"]: [item["rev"] for item in row["changes"]] for row in found}


def delete_all(couch):
    docs = [{"_id": key, "_rev": revs[0], "_deleted": True} for key, revs in leaves(couch).items()]
    couch.answer("POST", "/db/_bulk_docs", {"docs": docs})


def test_a_file_grows_with_every_write_and_a_compaction_leaves_what_is_active(couch):
    full = info(couch)["sizes"]
    delete_all(couch)
    deleted = info(couch)["sizes"]
    assert deleted["file"] > full["file"] and deleted["external"] < full["external"]
    couch.answer("POST", "/db/_compact", None)
    compacted = info(couch)["sizes"]
    assert compacted["active"] < compacted["file"] < full["file"]
    couch.answer("POST", "/db/_purge", leaves(couch))
    purged = info(couch)["sizes"]
    assert purged["file"] > compacted["file"] and purged["active"] < compacted["active"], "tombstones take room too"
    couch.answer("POST", "/db/_compact", None)
    assert info(couch)["sizes"]["file"] < compacted["file"]
    assert (info(couch)["doc_count"], info(couch)["doc_del_count"]) == (0, 0)


def test_reading_writes_nothing(couch):
    before = info(couch)
    couch.answer("GET", "/db/_all_docs?include_docs=true", None)
    couch.answer("GET", "/db/001?revs=true", None)
    couch.answer("PUT", "/db/_local/cursor", {"at": 1})
    assert info(couch) == before


def test_a_compaction_can_take_time(couch):
    delete_all(couch)
    before = info(couch)["sizes"]["file"]
    couch.faults.compaction_seconds = 10
    couch.answer("POST", "/db/_compact", None)
    couch.clock.now += 5
    [task] = couch.answer("GET", "/_active_tasks", None)[1]
    assert (task["type"], task["progress"]) == ("database_compaction", 50)
    assert task["database"] == f"shards/00000000-7fffffff/db.{int(Clock.now)}"
    assert info(couch)["compact_running"] and info(couch)["sizes"]["file"] == before
    couch.clock.now += 5
    assert not info(couch)["compact_running"] and info(couch)["sizes"]["file"] < before
    assert couch.answer("GET", "/_active_tasks", None)[1] == []


def test_a_full_disk_refuses_writes_and_a_compaction_comes_to_nothing(couch):
    couch.faults.disk_full = True
    before = info(couch)
    for method, path, body, word in (
        ("PUT", "/db/new", {}, "error"),
        ("PUT", "/db/_local/new", {}, "error"),
        ("POST", "/db/_purge", {"001": leaves(couch)["001"]}, "case_clause"),
        ("PUT", "/other", None, "error"),
    ):
        with pytest.raises(StoreError) as caught:
            couch.answer(method, path, body)
        assert (caught.value.status, caught.value.body["error"]) == (500, word)
    refused = [{"id": "new", "error": "error", "reason": "internal_server_error"}]
    assert couch.answer("POST", "/db/_bulk_docs", {"docs": [{"_id": "new"}]}) == (500, refused)
    assert couch.answer("POST", "/db/_compact", None)[0] == 202
    assert info(couch) == before
    couch.faults.clear()
    assert couch.answer("PUT", "/db/new", {})[0] == 201


def test_it_can_die_in_the_middle_of_a_purge_and_come_back(couch):
    delete_all(couch)
    couch.faults.die_after(writes=40)
    with pytest.raises(ConnectionLostError):
        couch.answer("POST", "/db/_purge", _revs(couch))
    with pytest.raises(ConnectionLostError):
        couch.answer("GET", "/", None)
    couch.faults.revive()
    assert info(couch)["doc_del_count"] == 60


def _revs(couch):
    entries = couch.store.databases["db"].documents
    return {key: [entry.tree.winner()] for key, entry in entries.items()}


def test_rules_for_requests_delay_replace_or_lose_answers(couch):
    with serving(couch, "admin", "word") as port:
        token = {"Authorization": "Basic YWRtaW46d29yZA==", "Content-Type": "application/json"}
        couch.faults.on("^GET /db$", answer=(503, {"error": "busy", "reason": "later"}), times=2)
        assert [transcripts.ask(port, "GET", "/db", None, token)[0] for _ in range(3)] == [503, 503, 200]
        couch.faults.on("^PUT /db/lost", lose="after")
        couch.faults.on("^PUT /db/never", lose="before")
        for name in ("lost", "never"):
            with pytest.raises((http.client.HTTPException, OSError)):
                transcripts.ask(port, "PUT", f"/db/{name}", {}, token)
        assert transcripts.ask(port, "GET", "/db/lost", None, token)[0] == 200
        assert transcripts.ask(port, "GET", "/db/never", None, token)[0] == 404
        couch.faults.on("_purge", delay=0.2)
        begin = time.monotonic()
        transcripts.ask(port, "POST", "/db/_purge", {}, token)
        assert time.monotonic() - begin >= 0.2


def test_twenty_thousand_documents_are_no_trouble(tmp_path):
    couch = Couch(Store(tmp_path / "data.json", 1))
    couch.answer("PUT", "/db", None)
    begin = time.process_time()
    for at in range(0, 20000, 1000):
        docs = [{"_id": f"{n:05d}", "workflow": f"wf{n % 50}", "text": "x" * 300} for n in range(at, at + 1000)]
        couch.answer("POST", "/db/_bulk_docs", {"docs": docs})
    if couch.javascript:
        views = {"v": {"map": "function(d) { emit(d.workflow, 1); }", "reduce": "_count"}}
        couch.answer("PUT", "/db/_design/d", {"views": views})
        assert couch.answer("GET", "/db/_design/d/_view/v", None)[1]["rows"][0]["value"] == 20000
    since, seen = "0", 0
    while True:
        page = couch.answer("GET", f"/db/_changes?style=all_docs&limit=2000&since={since}", None)[1]
        seen, since = seen + len(page["results"]), page["last_seq"]
        if not page["pending"]:
            break
    assert seen == couch.answer("GET", "/db", None)[1]["doc_count"]
    revs = list(_revs(couch).items())
    for at in range(0, 10000, 100):
        couch.answer("POST", "/db/_purge", dict(revs[at : at + 100]))
    couch.answer("POST", "/db/_compact", None)
    couch.store.save()
    assert Couch(Store(tmp_path / "data.json", 2)).answer("GET", "/db", None) == couch.answer("GET", "/db", None)
    assert time.process_time() - begin < 30
