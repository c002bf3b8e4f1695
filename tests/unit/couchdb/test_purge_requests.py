# SPDX-License-Identifier: GPL-3.0-or-later
"""How much one purge request holds, which age a tombstone tells, what replications still need: without a server."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_guard import sequences_to_keep
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_requests import Batch, batches, largest_batch
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.replications import Checkpoint, Replication
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.tombstones import told_age
from hypothesis import given
from hypothesis import strategies as st

tombstones = st.lists(
    st.tuples(st.text(min_size=1), st.lists(st.text("0123456789abcdef", min_size=3), min_size=1).map(tuple))
)


@given(tombstones, st.integers(1, 10), st.integers(1, 30))
def test_batches_hold_everything_once_and_not_too_much(given_, documents, revisions):
    made = list(batches(given_, Batch(documents, revisions)))
    assert [one for batch in made for one in batch] == given_
    for batch in made:
        assert 0 < len(batch) <= documents
        assert len(batch) == 1 or sum(len(leaves) for _, leaves in batch) <= revisions
    for batch, following in itertools.pairwise(made):
        full = len(batch) == documents
        assert full or sum(len(leaves) for _, leaves in [*batch, following[0]]) > revisions


@pytest.mark.parametrize(
    ("version", "configured", "size"),
    [
        ("3.2.2", {}, Batch(100, 1000)),
        ("3.5.0", {}, Batch(100, 1000)),
        ("3.5.0", {"max_document_id_number": "400", "max_revisions_number": "5000"}, Batch(400, 5000)),
        ("3.5.0", {"max_document_id_number": "infinity"}, Batch(100, 1000)),
        ("3.3.3", {"max_document_id_number": "100000"}, Batch(1000, 1000)),
        ("3.5.1", {"max_document_id_number": "7"}, Batch(1000, 10000)),
        ("3.10.0", {}, Batch(1000, 10000)),
        ("", {}, Batch(100, 1000)),
    ],
)
def test_the_largest_batch(version, configured, size):
    assert largest_batch(version, configured) == size


@given(st.integers(1, 100_000))
def test_a_batch_is_halved_down_to_one(documents):
    size = Batch(documents, 1000)
    for _ in range(20):
        size = size.halved()
    assert size == Batch(1, 1000)


@pytest.mark.parametrize(
    ("document", "age"),
    [
        (None, None),
        ({}, None),
        ({"timestamp": "yesterday"}, None),
        ({"timestamp": True}, None),
        ({"timestamp": 900}, 100),
        ({"timestamp": 900.5, "updatetime": 950}, 50),
        ({"states": {"0": {"timestamp": 700}, "1": {"timestamp": 990}}}, 10),
        ({"states": [{"timestamp": 990}], "timestamp": 800}, 200),
    ],
)
def test_the_age_a_tombstone_tells(document, age):
    assert told_age(document, now=1000) == age


def replication(name: str, source: str | None, target: str | None) -> Replication:
    return Replication(name, "", f"http://one/{source}", f"http://two/{target}", source, target)


HERE, NOW = "wmagent_summary", 1000.0


@pytest.mark.parametrize(
    ("replications", "checkpoints", "kept"),
    [
        ([], [], []),
        ([replication("a", "other", None)], [], []),
        # None noted yet: everything is needed.
        ([replication("a", HERE, None)], [], ["0"]),
        ([replication("a", HERE, None)], [Checkpoint("a", "5-x", 0)], ["5-x"]),
        (
            [replication("a", HERE, None), replication("b", HERE, "copy")],
            [Checkpoint("a", "5-x", NOW), Checkpoint("b", "7-y", NOW)],
            ["5-x", "7-y"],
        ),
        # Into this database: its sequences are another's.
        ([replication("a", None, HERE)], [Checkpoint("a", "5-x", NOW)], []),
        # One that another server runs, alive or given up long ago.
        ([], [Checkpoint("a", "5-x", NOW)], ["5-x"]),
        ([], [Checkpoint("a", "5-x", NOW - 101)], []),
        ([], [Checkpoint("a", "5-x", float("inf"))], ["5-x"]),
        ([replication("a", HERE, HERE)], [Checkpoint("a", "5-x", NOW)], ["5-x"]),
    ],
)
def test_what_replications_still_need(replications, checkpoints, kept):
    assert sequences_to_keep(HERE, replications, checkpoints, abandoned_before=NOW - 100) == kept
