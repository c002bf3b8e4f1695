# SPDX-License-Identifier: GPL-3.0-or-later
"""Which remedy gives back what, and which is the cheapest: without a server."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import Database, Sizes
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.remedies import Remedy, cheapest, remedies_of
from hypothesis import given
from hypothesis import strategies as st

QUIET = Database("jobs", Sizes(50_000, 50_000, 40_000), 1000, 0, "1-x", "0-x", False, 1000, 1000, 2)


def test_nothing_to_gain():
    found = remedies_of(QUIET)
    assert {name: one.gives_back for name, one in found.items()} == {"compact": 0, "purge": 0, "rotate": 0}
    assert cheapest(found) == ""


def test_unused_bytes_are_given_back_by_a_compaction():
    assert cheapest(remedies_of(replace(QUIET, sizes=Sizes(5_000_000, 50_000, 40_000)))) == "compact"


def test_tombstones_among_many_live_documents_are_purged():
    busy = replace(QUIET, sizes=Sizes(60_000_000, 60_000_000, 9_000_000), documents=100_000, tombstones=50_000)
    assert cheapest(remedies_of(busy)) == "purge"


def test_hardly_anything_but_tombstones_is_rotated():
    dead = replace(QUIET, sizes=Sizes(300_000_000, 210_000_000, 400_000), documents=1000, tombstones=1_000_000)
    found = remedies_of(dead)
    assert cheapest(found) == "rotate"
    assert found["rotate"].gives_back == found["purge"].gives_back == 290_000_000


@given(
    st.dictionaries(
        st.sampled_from(["compact", "purge", "rotate"]), st.tuples(st.integers(0, 1000), st.floats(0, 99)), min_size=1
    )
)
def test_the_cheapest_is_quick_and_gives_nearly_all(given_):
    found = {name: Remedy(*values) for name, values in given_.items()}
    name = cheapest(found)
    best = max(one.gives_back for one in found.values())
    if not best:
        assert name == ""
        return
    assert found[name].gives_back >= 0.9 * best
    assert all(one.seconds >= found[name].seconds for one in found.values() if one.gives_back >= 0.9 * best)
