# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a compaction has come and whether it ends: without a server."""

from __future__ import annotations

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_progress import (
    COPYING,
    VIEW_COPYING,
    Sample,
    Shard,
    progress,
)
from hypothesis import given
from hypothesis import strategies as st


def watch(copied: float, written: float, seconds: int = 100, phase: str = COPYING) -> list[Sample]:
    """Looks, one a second, at a compaction that copies and a database that is written to at these rates."""
    return [
        Sample(float(at), int(written * at), {"s": Shard(phase, int(copied * at), 10_000)}) for at in range(seconds + 1)
    ]


def test_rate_share_and_time_left():
    seen = progress(watch(copied=50, written=10), patience=60)
    assert (seen.percent, seen.per_second, seen.written_per_second) == (50, 50, 10)
    assert seen.eta == pytest.approx(100) and seen.converging
    assert str(seen) == "50 %, 50.0 changes/s copied, 10.0/s written, 100 s left"


def test_without_a_task_there_is_no_figure():
    assert progress([], 60).converging
    seen = progress([Sample(0, 0, {}), Sample(100, 50, {})], 60)
    assert seen.percent is None and seen.eta is None and seen.converging


@given(st.integers(0, 500), st.integers(0, 500))
def test_it_does_not_converge_where_others_write_as_fast_as_it_copies(copied, written):
    assert progress(watch(copied, written), 60).converging == (written < copied or written == 0)


def test_that_is_said_only_after_it_was_so_for_long_enough():
    assert progress(watch(1, 10, seconds=59), 60).converging
    assert not progress(watch(1, 10, seconds=60), 60).converging
    burst = [
        *watch(1, 10, seconds=100),
        *(Sample(100.0 + n, 1000, {"s": Shard(COPYING, 100 + n, 10_000)}) for n in range(200)),
    ]
    assert progress(burst, 60).converging  # the others have stopped since


@pytest.mark.parametrize("phase", [VIEW_COPYING, "docid_sort", "docid_copy"])
def test_other_phases_count_other_things(phase):
    assert progress(watch(1, 10, phase=phase), 60).converging


def test_passes_that_never_have_less_to_do_do_not_converge():
    def passes(*totals: int) -> list[Sample]:
        looks = [(Shard(COPYING, done, total)) for total in totals for done in (0, total)]
        return [Sample(float(at), 0, {"s": shard}) for at, shard in enumerate(looks)]

    assert progress(passes(1000, 100, 10, 2), 600).converging
    assert progress(passes(1000, 100, 50, 60, 40), 600).converging
    assert not progress(passes(1000, 100, 100, 110, 120), 600).converging


def test_shards_are_counted_one_by_one():
    looks = [
        Sample(0, 0, {"a": Shard(COPYING, 10, 100), "b": Shard(COPYING, 0, 100)}),
        Sample(10, 0, {"a": Shard(COPYING, 100, 100), "b": Shard(COPYING, 30, 100)}),
        Sample(20, 0, {"b": Shard(COPYING, 60, 100)}),
    ]
    seen = progress(looks, 600)
    assert (seen.percent, seen.per_second) == (60, (90 + 30 + 30) / 20)
