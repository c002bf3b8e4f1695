# SPDX-License-Identifier: GPL-3.0-or-later
"""The CouchDB stand-in answers what an upgrade asks, and refuses what it cannot answer."""

from __future__ import annotations

import pytest
from support.agent import processes  # noqa: F401 - makes the lab's package importable
from wmagent_lab.couch_standin import Couch
from wmagent_lab.couch_store import Store, StoreError

JOBS = "/wmagent_jobdump%2Fjobs"


@pytest.fixture
def couch():
    server = Couch(Store(None, 1))
    assert server.answer("PUT", JOBS, None) == (201, {"ok": True})
    return server


def refused(couch, method, path, body=None):
    with pytest.raises(StoreError) as caught:
        couch.answer(method, path, body)
    return caught.value.status, caught.value.body["error"]


def seq(couch):
    return couch.answer("GET", JOBS, None)[1]["update_seq"]


def test_it_says_that_it_is_a_stand_in(couch):
    status, body = couch.answer("GET", "/", None)
    assert status == 200
    assert "STAND-IN" in body["vendor"]["name"]


def test_databases_come_and_go_as_in_couchdb(couch):
    assert refused(couch, "PUT", JOBS) == (412, "file_exists")
    assert refused(couch, "PUT", "/Bad%20Name") == (400, "illegal_database_name")
    assert refused(couch, "GET", "/absent_db") == (404, "not_found")
    assert couch.answer("GET", "/_all_dbs", None)[1] == ["_replicator", "_users", "wmagent_jobdump/jobs"]
    assert couch.answer("POST", "/_dbs_info", {"keys": ["absent_db"]})[1] == [
        {"key": "absent_db", "error": "not_found"}
    ]
    assert couch.answer("DELETE", JOBS, None)[0] == 200
    assert refused(couch, "DELETE", JOBS) == (404, "not_found")


def test_each_kind_of_write_changes_update_seq_and_reading_does_not(couch):
    seen = [seq(couch)]
    revision = couch.answer("PUT", f"{JOBS}/1", {"a": 1})[1]["rev"]
    seen.append(seq(couch))
    revision = couch.answer("PUT", f"{JOBS}/1", {"a": 2, "_rev": revision})[1]["rev"]
    seen.append(seq(couch))
    couch.answer("DELETE", f"{JOBS}/1?rev={revision}", None)
    seen.append(seq(couch))
    couch.answer("POST", f"{JOBS}/_bulk_docs", {"docs": [{"_id": "2"}, {"_id": "3"}]})
    seen.append(seq(couch))
    assert len(set(seen)) == len(seen)
    assert [int(value.split("-")[0]) for value in seen] == [0, 1, 2, 3, 5]
    couch.answer("GET", f"{JOBS}/_all_docs?include_docs=true", None)
    couch.answer("GET", f"{JOBS}/_changes", None)
    assert seq(couch) == seen[-1]


def test_a_conflict_writes_nothing(couch):
    couch.answer("PUT", f"{JOBS}/1", {"a": 1})
    before = seq(couch)
    assert refused(couch, "PUT", f"{JOBS}/1", {"a": 2}) == (409, "conflict")
    rows = couch.answer("POST", f"{JOBS}/_bulk_docs", {"docs": [{"_id": "1", "a": 3}]})[1]
    assert rows == [{"id": "1", "error": "conflict", "reason": "Document update conflict."}]
    assert seq(couch) == before


def test_a_view_is_never_answered_with_nothing_where_there_are_documents(couch):
    couch.answer("PUT", f"{JOBS}/_design/JobDump", {"views": {"byName": {"map": "function(doc) {}"}}})
    view = f"{JOBS}/_design/JobDump/_view/byName"
    assert couch.answer("GET", view, None)[1]["rows"] == []
    assert refused(couch, "GET", f"{JOBS}/_design/JobDump/_view/nope") == (404, "not_found")
    assert couch.answer("GET", f"{JOBS}/_design/JobDump/_list/filter/byName", None)[1] == []
    couch.answer("PUT", f"{JOBS}/task_activity", {"tasks": {}})
    assert couch.answer("GET", view, None)[1]["rows"] == []
    couch.answer("PUT", f"{JOBS}/1", {"a": 1})
    assert refused(couch, "GET", view) == (501, "not_implemented")


@pytest.mark.parametrize("path", ["/_purge", "/_find", "/1?open_revs=all", "/_local_docs"])
def test_what_it_cannot_do_it_refuses(couch, path):
    couch.answer("PUT", f"{JOBS}/1", {"a": 1})
    assert refused(couch, "GET", JOBS + path) == (501, "not_implemented")


def test_it_remembers_over_a_restart(tmp_path):
    file = tmp_path / "data.json"
    first = Store(file, 1)
    Couch(first).answer("PUT", JOBS, None)
    Couch(first).answer("PUT", f"{JOBS}/1", {"a": 1})
    first.save()
    second = Couch(Store(file, 2))
    assert second.answer("GET", f"{JOBS}/1", None)[1]["a"] == 1
    assert seq(second) == seq(Couch(first))
