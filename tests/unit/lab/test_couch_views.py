# SPDX-License-Identifier: GPL-3.0-or-later
"""Views, lists, updates and validations of the CouchDB stand-in."""

from __future__ import annotations

import json
import random
from urllib.parse import quote

import pytest
from support.agent import processes  # noqa: F401 - makes the lab's package importable
from wmagent_lab import couch_javascript
from wmagent_lab.couch_collation import collate
from wmagent_lab.couch_routes import Couch
from wmagent_lab.couch_store import Store, StoreError

pytestmark = pytest.mark.skipif(not couch_javascript.AVAILABLE, reason="quickjs-ng is not installed")

DESIGN = {
    "views": {
        "byWorkflow": {"map": "function(doc) { emit([doc.workflow, doc.n], doc.n); }", "reduce": "_sum"},
        "own": {
            "map": "function(doc) { emit(doc.workflow, doc.n); }",
            "reduce": "function(k, v, r) { return sum(v); }",
        },
        "failing": {"map": "function(doc) { emit(doc._id, 1); throw('no'); }"},
        "conflicts": {"map": "function(doc) { if (doc._conflicts) { emit(doc._id, doc._conflicts); } }"},
        "helped": {"map": "function twice(n) { return 2 * n; }\n\nfunction(doc) { emit(twice(doc.n), null); };"},
    },
    "lib": {"names": "exports.word = 'from the library';"},
    "lists": {
        "ids": "function(head, req) { var row; send('['); while (row = getRow()) { send(toJSON(row.id)); } send(']'); }"
    },
    "shows": {"word": "function(doc, req) { return require('lib/names').word; }"},
    "updates": {
        "set": "function(doc, req) { if (!doc) { return [null, 'none']; } doc.n = +req.query.n; return [doc, 'OK']; }"
    },
    "filters": {"one": "function(doc, req) { return doc.workflow === req.query.workflow; }"},
    "validate_doc_update": "function(doc, old, user) { if (doc.refused) { throw({forbidden: 'refused'}); } }",
}
VIEW = "/db/_design/app/_view/"


@pytest.fixture
def couch():
    server = Couch(Store(None, 1))
    server.answer("PUT", "/db", None)
    server.answer("PUT", "/db/_design/app", DESIGN)
    docs = [{"_id": f"d{n}", "workflow": f"wf{n % 2}", "n": n} for n in range(6)]
    server.answer("POST", "/db/_bulk_docs", {"docs": docs})
    return server


def rows(couch, path, body=None):
    return couch.answer("POST" if body else "GET", VIEW + path, body)[1]["rows"]


def keys(couch, path):
    return [row["key"] for row in rows(couch, path)]


def revision(couch, key):
    return couch.answer("GET", f"/db/{key}", None)[1]["_rev"]


def test_a_view_follows_what_changes_is_deleted_and_is_purged(couch):
    assert rows(couch, "byWorkflow") == [{"key": None, "value": 15}]
    couch.answer("PUT", "/db/d0", {"workflow": "wf0", "n": 100, "_rev": revision(couch, "d0")})
    couch.answer("DELETE", f"/db/d1?rev={revision(couch, 'd1')}", None)
    assert rows(couch, "byWorkflow?update=false") == [{"key": None, "value": 15}]
    assert rows(couch, "byWorkflow") == [{"key": None, "value": 114}]
    couch.answer("POST", "/db/_purge", {"d2": [revision(couch, "d2")]})
    assert rows(couch, "byWorkflow") == [{"key": None, "value": 112}]


def test_an_index_that_missed_purges_which_are_forgotten_is_built_again(couch):
    couch.answer("PUT", "/db/_purged_infos_limit", 1)
    assert len(rows(couch, "byWorkflow?reduce=false")) == 6
    database = couch.store.databases["db"]
    couch.answer("POST", "/db/_purge", {f"d{n}": [revision(couch, f"d{n}")] for n in range(4)})
    couch.answer("POST", "/db/_compact", None)
    assert len(database.purges) == 4, "an index that lags keeps them"
    index = next(iter(database.indexes.values()))
    database.purges = database.purges[-1:]
    assert [row["id"] for row in rows(couch, "byWorkflow?reduce=false")] == ["d4", "d5"]
    assert index.purge_sequence == database.purge_sequence
    couch.answer("POST", "/db/_purge", {"d4": [revision(couch, "d4")]})
    rows(couch, "byWorkflow?reduce=false")
    couch.answer("POST", "/db/_compact", None)
    assert len(database.purges) <= 2


def test_ranges_groups_and_pages(couch):
    assert keys(couch, "byWorkflow?reduce=false&startkey=%5B%22wf1%22%5D&endkey=%5B%22wf1%22,%7B%7D%5D") == [
        ["wf1", 1],
        ["wf1", 3],
        ["wf1", 5],
    ]
    assert keys(couch, "byWorkflow?reduce=false&descending=true&limit=2&skip=1") == [["wf1", 3], ["wf1", 1]]
    assert rows(couch, "byWorkflow?group_level=1") == [{"key": ["wf0"], "value": 6}, {"key": ["wf1"], "value": 9}]
    assert rows(couch, "own?group=true", {"keys": ["wf1", "nothing"]}) == [{"key": "wf1", "value": 9}]
    assert keys(couch, "own?reduce=false&key=%22wf0%22&startkey_docid=d2") == ["wf0"] * 2


def test_reduces_of_many_rows_are_made_in_parts_and_put_together(couch):
    couch.answer("POST", "/db/_bulk_docs", {"docs": [{"workflow": "many", "n": 1} for _ in range(1234)]})
    assert rows(couch, "own?group=true&key=%22many%22") == [{"key": "many", "value": 1234}]


def test_a_map_function_that_fails_shows_nothing_of_the_document_and_helpers_may_stand_before_one(couch):
    assert rows(couch, "failing") == []
    assert keys(couch, "helped") == [0, 2, 4, 6, 8, 10]


def test_map_functions_see_conflicts(couch):
    forked = {"_id": "d3", "_rev": f"1-{'0' * 32}", "workflow": "x"}
    couch.answer("POST", "/db/_bulk_docs", {"new_edits": False, "docs": [forked]})
    assert rows(couch, "conflicts") == [{"id": "d3", "key": "d3", "value": [f"1-{'0' * 32}"]}]


def test_a_function_that_does_not_compile_is_refused_with_its_design_document(couch):
    with pytest.raises(StoreError) as caught:
        couch.answer("PUT", "/db/_design/bad", {"views": {"v": {"map": "function(doc) { emit("}}})
    assert caught.value.body["error"] == "compilation_error"
    assert "'v' view" in caught.value.body["reason"]


def test_lists_shows_updates_filters_and_validations_are_run(couch):
    status, made = couch.answer("GET", "/db/_design/app/_list/ids/own?reduce=false&limit=1", None)
    assert (status, made.data) == (200, b'["d0"]')
    assert couch.answer("GET", "/db/_design/app/_show/word", None)[1].data == b"from the library"
    status, made = couch.answer("PUT", "/db/_design/app/_update/set/d0?n=77", b"")
    assert (status, made.data) == (201, b"OK")
    assert couch.answer("GET", "/db/d0", None)[1]["n"] == 77
    assert couch.answer("PUT", "/db/_design/app/_update/set/absent?n=1", b"")[0] == 200
    found = couch.answer("GET", "/db/_changes?filter=app/one&workflow=wf0", None)[1]["results"]
    assert sorted(row["id"] for row in found) == ["d0", "d2", "d4"]
    with pytest.raises(StoreError) as caught:
        couch.answer("PUT", "/db/new", {"refused": True})
    assert (caught.value.status, caught.value.body) == (403, {"error": "forbidden", "reason": "refused"})
    said = couch.answer("POST", "/db/_bulk_docs", {"docs": [{"_id": "a"}, {"_id": "b", "refused": True}]})[1]
    assert [row.get("error") for row in said] == [None, "forbidden"]


def test_the_size_of_an_index_follows_its_rows_and_its_updates(couch):
    def sizes():
        return couch.answer("GET", "/db/_design/app/_info", None)[1]["view_index"]["sizes"]

    rows(couch, "own")
    small = sizes()
    for n in range(20):
        couch.answer("PUT", f"/db/e{n}", {"workflow": "wf", "n": n})
        rows(couch, "own")
    grown = sizes()
    assert all(grown[kind] > small[kind] for kind in small)
    couch.answer("POST", "/db/_compact/app", None)
    assert sizes()["file"] < grown["file"]
    assert sizes()["active"] == grown["active"]


def test_a_changed_design_document_has_another_index_until_the_cleanup(couch):
    rows(couch, "own")
    couch.answer(
        "PUT",
        "/db/_design/app",
        {**DESIGN, "views": {"v": DESIGN["views"]["own"]}, "_rev": revision(couch, "_design/app")},
    )
    rows(couch, "v")
    indexes = couch.store.databases["db"].indexes
    assert len(indexes) == 2
    couch.answer("POST", "/db/_view_cleanup", None)
    assert len(couch.store.databases["db"].indexes) == 1


def test_keys_are_in_the_order_that_a_real_couchdb_put_them():
    texts = " _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789"
    ordered = [None, False, True, -1, 0, 2.5, 3, "", *texts]
    ordered += ["a", "A", "a b", "a_b", "a-b", "aa", "ab", "aB", "Ab", "b", "B", "e", "E", "é", "f"]
    ordered += ["s", "S", "ß", "t", "wf_1", "wf-1", "wf1", "WF1", "x"]
    ordered += [[], [None], ["a"], ["a", 1], ["a", {}], ["b"], {}, {"a": 1}, {"a": 2}, {"b": 0}]
    shuffled = ordered[:]
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=collate) == ordered


def test_any_key_is_found_by_itself(couch):
    for number, key in enumerate([None, True, 0, 1.5, "é", "Z", [1, "a"], {"k": [None]}]):
        couch.answer("PUT", f"/db/k{number}", {"workflow": key, "n": 0})
        assert [row["id"] for row in rows(couch, f"own?reduce=false&key={quote(json.dumps(key))}")] == [f"k{number}"]
