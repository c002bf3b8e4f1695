# SPDX-License-Identifier: GPL-3.0-or-later
"""The CouchDB stand-in answers what an upgrade asks, and refuses what it cannot answer."""

from __future__ import annotations

import json

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


def test_without_an_engine_a_view_is_never_answered_with_nothing_where_there_are_documents():
    couch = Couch(Store(None, 1), javascript=False)
    couch.answer("PUT", JOBS, None)
    couch.answer("PUT", f"{JOBS}/_design/JobDump", {"views": {"byName": {"map": "function(doc) {}"}}})
    view = f"{JOBS}/_design/JobDump/_view/byName"
    assert couch.answer("GET", view, None)[1]["rows"] == []
    assert refused(couch, "GET", f"{JOBS}/_design/JobDump/_view/nope") == (404, "not_found")
    assert couch.answer("GET", f"{JOBS}/_design/JobDump/_list/filter/byName", None)[1] == []
    couch.answer("PUT", f"{JOBS}/task_activity", {"tasks": {}})
    assert couch.answer("GET", view, None)[1]["rows"] == []
    couch.answer("PUT", f"{JOBS}/1", {"a": 1})
    assert refused(couch, "GET", view) == (501, "not_implemented")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"{JOBS}/_changes?filter=_view", None),
        ("POST", f"{JOBS}/_index", {}),
        ("POST", "/_replicate", {"source": "a", "target": "b", "continuous": True}),
        ("GET", "/_reshard", None),
        ("GET", "/_node/_local/_stats", None),
    ],
)
def test_what_it_cannot_do_it_refuses(couch, method, path, body):
    assert refused(couch, method, path, body) == (501, "not_implemented")


@pytest.mark.parametrize("path", ["/_purge", "/_find", "/_compact", "/_bulk_docs"])
def test_a_method_that_couchdb_does_not_take_is_refused_as_there(couch, path):
    assert refused(couch, "GET", JOBS + path) == (405, "method_not_allowed")


def test_it_remembers_over_a_restart(tmp_path):
    file = tmp_path / "data.json"
    first = Store(file, 1)
    Couch(first).answer("PUT", JOBS, None)
    Couch(first).answer("PUT", f"{JOBS}/1", {"a": 1})
    first.save()
    second = Couch(Store(file, 2))
    assert second.answer("GET", f"{JOBS}/1", None)[1]["a"] == 1
    assert seq(second) == seq(Couch(first))


def test_everything_survives_a_restart(tmp_path):
    file = tmp_path / "data.json"
    first = Store(file, 1)
    couch = Couch(first)
    couch.answer("PUT", JOBS, None)
    couch.answer("PUT", f"{JOBS}/1", {"a": 1})
    forked = {"new_edits": False, "docs": [{"_id": "1", "_rev": f"1-{'f' * 32}", "b": 2}, {"_id": "2", "_rev": "1-0"}]}
    couch.answer("POST", f"{JOBS}/_bulk_docs", forked)
    couch.answer("POST", f"{JOBS}/_purge", {"2": ["1-0"]})
    couch.answer("PUT", f"{JOBS}/_local/cursor", {"at": 3})
    couch.answer("PUT", f"{JOBS}/_revs_limit", 20)
    couch.answer("PUT", f"{JOBS}/_security", {"admins": {}})
    couch.answer("PUT", "/_node/_local/_config/smoosh/min_priority", "3")
    first.save()
    second = Couch(Store(file, 2))
    for path in (
        JOBS,
        f"{JOBS}/_changes?style=all_docs",
        f"{JOBS}/1?open_revs=all",
        f"{JOBS}/_local_docs?include_docs=true",
        f"{JOBS}/_revs_limit",
        f"{JOBS}/_security",
        f"{JOBS}/_purged_infos",
        "/_node/_local/_config",
    ):
        assert second.answer("GET", path, None) == couch.answer("GET", path, None), path


def test_it_reads_what_it_wrote_when_it_kept_one_leaf_of_each_document(tmp_path):
    file = tmp_path / "data.json"
    old = {
        "name": "a",
        "created": 7,
        "sequence": 3,
        "local": {},
        "limits": {"_revs_limit": 9, "_purged_infos_limit": 9},
    }
    old |= {"documents": {"x": {"_id": "x", "_rev": "1-b", "n": 1}}, "changed_at": {"x": 3}}
    file.write_text(json.dumps({"a": old}), encoding="utf-8")
    couch = Couch(Store(file, 1))
    assert couch.answer("GET", "/a/x", None)[1] == {"_id": "x", "_rev": "1-b", "n": 1}
    assert couch.answer("GET", "/a/_changes", None)[1]["results"][0]["seq"].startswith("3-")


def test_a_live_leaf_that_is_purged_leaves_a_tombstone_that_counts_as_a_live_document(couch):
    # As CouchDB 3.5.0 has it: it looks again only when the document is edited.
    live = couch.answer("PUT", f"{JOBS}/1", {"a": 1})[1]["rev"]
    tombstone = f"1-{'0' * 32}"
    forked = {"new_edits": False, "docs": [{"_id": "1", "_rev": tombstone, "_deleted": True}]}
    couch.answer("POST", f"{JOBS}/_bulk_docs", forked)
    assert couch.answer("POST", f"{JOBS}/_purge", {"1": [live]})[1]["purged"] == {"1": [live]}
    info = couch.answer("GET", JOBS, None)[1]
    assert (info["doc_count"], info["doc_del_count"]) == (1, 0)
    assert refused(couch, "GET", f"{JOBS}/1") == (404, "not_found")
    listed = couch.answer("GET", f"{JOBS}/_all_docs", None)[1]
    assert (listed["total_rows"], listed["rows"]) == (1, [])
    assert refused(couch, "PUT", f"{JOBS}/1", {"a": 2}) == (409, "conflict")
    couch.answer("POST", f"{JOBS}/_purge", {"1": [tombstone]})
    assert couch.answer("GET", JOBS, None)[1]["doc_count"] == 0
    assert couch.answer("PUT", f"{JOBS}/1", {"a": 2})[0] == 201


def test_a_feed_that_would_stay_open_ends_with_what_there_is(couch):
    line = couch.answer("GET", f"{JOBS}/_changes?feed=continuous", None)[1]
    assert line.keys() == {"last_seq", "pending"}
    couch.answer("PUT", f"{JOBS}/1", {})
    lines = couch.answer("GET", f"{JOBS}/_changes?feed=continuous", None)[1].data.splitlines()
    assert [sorted(json.loads(line)) for line in lines] == [["changes", "id", "seq"], ["last_seq", "pending"]]


def test_filtered_changes_of_an_empty_database_are_empty_whatever_the_filter(couch):
    assert couch.answer("GET", f"{JOBS}/_changes?filter=WorkQueue/queueFilter", None)[1]["results"] == []
    couch.answer("PUT", f"{JOBS}/1", {})
    assert refused(couch, "GET", f"{JOBS}/_changes?filter=WorkQueue/queueFilter")[0] in (404, 501)


def test_one_shot_replication_copies_all_leaves_that_pass_and_remembers_how_far_it_came(couch):
    couch.answer("PUT", "/target", None)
    live = couch.answer("PUT", f"{JOBS}/1", {"a": 1})[1]["rev"]
    forked = {"new_edits": False, "docs": [{"_id": "1", "_rev": f"1-{'0' * 32}", "a": 2}]}
    couch.answer("POST", f"{JOBS}/_bulk_docs", forked)
    gone = couch.answer("PUT", f"{JOBS}/2", {"a": 1})[1]["rev"]
    couch.answer("DELETE", f"{JOBS}/2?rev={gone}", None)
    job = {"source": "http://u:p@127.0.0.1:1" + JOBS, "target": "target", "selector": {"_deleted": {"$exists": False}}}
    done = couch.answer("POST", "/_replicate", job)[1]
    assert (done["ok"], done["history"][0]["docs_written"]) == (True, 2)
    assert couch.answer("GET", "/target/1?conflicts=true", None)[1]["_conflicts"] == [f"1-{'0' * 32}"]
    assert couch.answer("GET", "/target/1", None)[1]["_rev"] == live
    assert refused(couch, "GET", "/target/2") == (404, "not_found")
    assert couch.answer("POST", "/_replicate", job)[1]["no_changes"]
    couch.answer("POST", "/_replicate", {"source": "wmagent_jobdump/jobs", "target": "target"})
    assert couch.answer("GET", "/target", None)[1]["doc_del_count"] == 1
    assert refused(couch, "POST", "/_replicate", {"source": "absent", "target": "target"}) == (500, "db_not_found")
