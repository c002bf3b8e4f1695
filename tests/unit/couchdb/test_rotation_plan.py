# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done about a rotation's copy, and which databases are due: in no state is anything lost."""

from __future__ import annotations

import json

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import Disks
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import Database, Sizes
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.leaves import Tally
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_checks import lacks_room
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_marker import (
    Marker,
    Stage,
    State,
    copied_database,
    copy_name,
    seen_of,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_plan import (
    Copy,
    Step,
    There,
    decide,
    is_due,
    room_needed,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st

SEEN = (7, 0, 3, 4)
STATE = State(SEEN, "q=2&n=1", {"members": {}}, {"_revs_limit": 1000, "_purged_infos_limit": 1000})
TOKEN = "0123456789abcdef" * 2


def marker(stage: Stage, **more) -> Marker:
    return Marker("a/b", TOKEN, stage, STATE, 1000.0, **more)


notes = st.sampled_from(
    [{}, {"role": "old", "token": TOKEN}, {"role": "new", "token": TOKEN}, {"role": "old", "token": "another"}]
)
theres = st.none() | st.builds(There, st.sampled_from([SEEN, (8, 0, 3, 4), (0, 0, 0, 0)]), notes)
markers = st.none() | st.builds(marker, st.sampled_from(Stage), done=st.sampled_from([0.0, 2000.0]))


@given(markers, theres, st.booleans(), st.floats(0, 5000), st.floats(0, 5000))
def test_a_copy_that_may_be_needed_is_never_dropped(marker, there, empty, now, keep):
    step = decide(Copy("c", "a/b", marker, empty), there, now, keep).step
    is_old = there is not None and there.note == {"role": "old", "token": TOKEN}
    if step is Step.DROP:
        assert there is not None
        if marker is None:
            assert empty
        elif marker.stage in (Stage.COMPLETE, Stage.VERIFIED):
            assert is_old and there.seen != SEEN
        elif marker.stage is Stage.DONE:
            assert there.note and now >= marker.done + keep
    if step is Step.CONTINUE:  # the only one that deletes a database
        assert is_old and there.seen == SEEN and marker.stage in (Stage.COPYING, Stage.COMPLETE, Stage.VERIFIED)
    if marker and marker.stage in (Stage.COMPLETE, Stage.VERIFIED) and not is_old:
        assert step is Step.FINISH
    if step is Step.FINISH:
        assert marker.stage in (Stage.COMPLETE, Stage.VERIFIED) and not is_old


def test_each_stage_by_its_word():
    old, changed = There(SEEN, {"role": "old", "token": TOKEN}), There((9, 0, 4, 4), {"role": "old", "token": TOKEN})
    new = There((3, 0, 3, 0), {"role": "new", "token": TOKEN})
    cases = [
        (marker(Stage.COPYING), old, Step.CONTINUE),
        (marker(Stage.COPYING), changed, Step.DROP),
        (marker(Stage.COPYING), There(SEEN, {}), Step.DROP),
        (marker(Stage.COPYING), None, Step.LEAVE),
        (marker(Stage.COMPLETE), old, Step.CONTINUE),
        (marker(Stage.COMPLETE), changed, Step.DROP),
        (marker(Stage.COMPLETE), None, Step.FINISH),
        (marker(Stage.COMPLETE), There((0, 0, 0, 0), {}), Step.FINISH),
        (marker(Stage.VERIFIED), new, Step.FINISH),
        (marker(Stage.DONE, done=2000), new, Step.KEEP),
        (marker(Stage.DONE, done=1000), new, Step.DROP),
        (marker(Stage.DONE, done=1000), None, Step.LEAVE),
        (None, old, Step.LEAVE),
    ]
    for one, there, step in cases:
        assert decide(Copy("c", "a/b", one), there, 2500, 1000).step is step, (one, there)
    assert decide(Copy("c", "a/b", None, empty=True), old, 0, 0).step is Step.DROP
    assert decide(Copy("c", "a/b", None, empty=True), None, 0, 0).step is Step.LEAVE


@given(st.text("abz09_$()+/-", min_size=1), st.uuids().map(lambda one: one.hex), st.floats(0, 4e9))
def test_a_copys_name_tells_its_database_and_is_one(database, token, now):
    name = copy_name(database, token, now)
    assert copied_database(name) == database
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_$()+/-")


def test_other_names_are_no_copies():
    for name in ("jobs", "jobs-rotation", "jobs-rotation-2026", "-rotation-20260101000000-0123abcd"):
        assert copied_database(name) is None


def test_a_marker_comes_back_as_it_was_written():
    one = marker(Stage.COMPLETE, after="ü", tally=Tally(3, 4, 500, 1 << 255), file=99, written_meanwhile=True, done=5.5)
    assert Marker.from_note("c", json.loads(json.dumps(one.as_note()))) == one
    for odd in ({}, {"source": "x"}, one.as_note() | {"stage": "odd"}, one.as_note() | {"tally": {}}):
        with pytest.raises(WMAgentError, match=r"tally|not one of this version"):
            Marker.from_note("c", odd)


def info(**more) -> dict:
    return {"update_seq": "7-x", "purge_seq": "1-y", "doc_count": 3, "doc_del_count": 4} | more


def test_what_is_seen_changes_with_every_change():
    assert seen_of(info()) == (7, 1, 3, 4)
    for more in ({"update_seq": "8-x"}, {"purge_seq": "2-y"}, {"doc_count": 4}, {"doc_del_count": 5}):
        assert seen_of(info(**more)) != seen_of(info())


def database(live: int, gone: int, sizes: Sizes = Sizes(1000, 400, 300)) -> Database:  # noqa: B008 - frozen
    return Database("a/b", sizes, live, gone, "7-x", "0", False, 1000, 1000, 2)


def test_a_database_is_due_by_share_and_number():
    assert is_due(database(10, 90), 0.9, 90)
    assert not is_due(database(11, 90), 0.9, 90)
    assert not is_due(database(10, 90), 0.9, 91)
    assert not is_due(database(10, 0), 0, 0), "one without a tombstone gains nothing"


def test_room_is_for_the_larger_of_what_sizes_tell():
    assert room_needed(database(1, 1)) == 600 and room_needed(database(1, 1, Sizes(1000, 400, 500))) == 750
    assert lacks_room(database(1, 1), Disks({"databases": "d"}, {"d": 600})) == []
    assert "600 bytes, and 599 are free" in lacks_room(database(1, 1), Disks({"databases": "d"}, {"d": 599}))[0]
    assert "told by nobody" in lacks_room(database(1, 1), Disks({}, {}, "told by nobody"))[0]
