# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents with all their leaves: the digest that tells them apart, and batches by bytes."""

from __future__ import annotations

import random
import threading

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import leaves
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchLostError
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.leaves import (
    Batches,
    Tally,
    canonical,
    each_batch,
    read_leaves,
    tally_of,
    write_leaves,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st
from support.couch import serving

LEAF = {
    "_id": "a",
    "_rev": "2-b",
    "x": 1,
    "_revisions": {"start": 2, "ids": ["b", "a"]},
    "_attachments": {"f": {"content_type": "a/b", "revpos": 1, "data": "AA==", "digest": "md5-x"}},
}


def test_whatever_differs_in_a_leaf_makes_another_digest():
    same = canonical(LEAF, 10)
    assert canonical(dict(reversed(LEAF.items())), 10) == same
    attachment = LEAF["_attachments"]["f"]
    assert canonical(LEAF | {"_attachments": {"f": attachment | {"digest": "md5-y", "length": 1}}}, 10) == same
    others = [
        {"_id": "b"},
        {"_rev": "2-c"},
        {"x": 1.0},
        {"x": "1"},
        {"_deleted": True},
        {"_revisions": {"start": 2, "ids": ["b", "c"]}},
        {"_attachments": {"f": attachment | {"data": "AQ=="}}},
        {"_attachments": {"f": attachment | {"content_type": "a/c"}}},
        {"_attachments": {"g": attachment}},
    ]
    for other in others:
        assert canonical(LEAF | other, 10) != same, other


def test_a_history_counts_as_far_as_it_is_kept():
    longer = LEAF | {"_revisions": {"start": 2, "ids": ["b", "a", "older"]}}
    assert canonical(LEAF, 2) == canonical(longer, 2) and canonical(LEAF, 3) != canonical(longer, 3)


documents = st.dictionaries(st.text(min_size=1), st.lists(st.fixed_dictionaries({"_rev": st.text()}), min_size=1))


@given(documents, st.integers(0, 2**32))
def test_a_tally_depends_neither_on_order_nor_on_batches(found, seed):
    whole = tally_of(found, 10)
    names = list(found)
    random.Random(seed).shuffle(names)
    total = Tally()
    for name in names:
        total += tally_of({name: found[name]}, 10)
    assert total == whole == Tally.from_note(whole.as_note())
    if found:
        assert tally_of({name: found[name] for name in names[1:]}, 10) != whole


def test_batches_follow_what_documents_have():
    batches = Batches(1000, 100_000)
    assert batches.documents == 100
    batches.saw(Tally(10, 10, 100_000, 0))
    assert batches.documents == 10, "larger documents count at once"
    for _ in range(40):
        batches.saw(Tally(100, 100, 10_000, 0))
    assert 900 < batches.documents <= 1000
    batches.saw(Tally(1, 1, 10**9, 0))
    assert batches.documents == 1


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 4), st.integers(1, 9))
def test_each_name_is_worked_on_once_and_told_in_order(pages, in_flight, size):
    numbers = iter(range(10**6))
    names = [[str(next(numbers)) for _ in range(count)] for count in pages]
    lock, seen = threading.Lock(), []

    def work(batch):
        with lock:
            seen.extend(batch)
        return Tally(len(batch), 0, len(batch) * 100, 0)

    told = list(each_batch(iter(names), Batches(100, 100 * size), work, in_flight))
    flat = [name for page in names for name in page]
    assert sorted(seen, key=int) == flat and sum(tally.documents for _, tally in told) == len(flat)
    assert [int(last) for last, _ in told] == sorted(int(last) for last, _ in told)
    assert not told or told[-1][0] == flat[-1]


def test_a_batch_that_goes_wrong_is_not_passed_over():
    def work(batch):
        raise WMAgentError("refused")

    with pytest.raises(WMAgentError, match="refused"):
        list(each_batch(iter([["a"], ["b"]]), Batches(1), work, 2))


def test_what_is_not_told_is_an_error():
    gone = {"results": [{"id": "a", "docs": [{"error": {"error": "not_found"}}]}]}
    for answer, said in (
        (gone, "all revisions of a"),
        ({"results": []}, "something else than was asked"),
        ({"results": [{"id": "a", "docs": []}]}, "all revisions of a"),
        ([], "something else"),
    ):
        with serving(lambda *asked, answer=answer: (200, answer)) as server, pytest.raises(WMAgentError, match=said):
            read_leaves(CouchClient(server), "db", ["a"])
    refused = [{"id": "a", "error": "forbidden", "reason": "no job"}]
    with serving(lambda *asked: (201, refused)) as server, pytest.raises(WMAgentError, match=r"such as a \(no job\)"):
        write_leaves(CouchClient(server), "db", {"a": [LEAF]})


def test_what_is_too_much_at_once_is_read_in_halves(monkeypatch):
    asked = []

    class Slow:
        def post(self, path, body):
            names = [one["id"] for one in body["docs"]]
            asked.append(len(names))
            if len(names) > 1:
                raise CouchLostError("an answer of more than 268435456 bytes")
            return {"results": [{"id": names[0], "docs": [{"ok": {"_id": names[0]}}]}]}

    assert list(read_leaves(Slow(), "db", ["a", "b", "c"])) == ["a", "b", "c"] and asked == [3, 1, 2, 1, 1]

    class Gone:
        def post(self, path, body):
            asked.append("gone")
            raise CouchLostError("cannot be reached")

    with pytest.raises(CouchLostError):
        read_leaves(Gone(), "db", ["a", "b", "c"])
    assert asked.count("gone") == 1


def test_names_are_read_to_the_end(monkeypatch):
    monkeypatch.setattr(leaves, "_IDS_AT_ONCE", 2)
    there = ["a", "b", "c", "d", "e"]

    class Client:
        def get(self, path):
            after = path.partition("startkey=%22")[2][:1]
            rows = [{"id": name} for name in there if name >= after]
            return {"rows": rows[:3]}

    assert list(leaves.read_names(Client(), "db")) == [["a", "b", "c"], ["d", "e"]]
    assert list(leaves.read_names(Client(), "db", "c")) == [["d", "e"]]
    assert list(leaves.read_names(Client(), "db", "e")) == []
