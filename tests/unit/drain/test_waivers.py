# SPDX-License-Identifier: GPL-3.0-or-later
"""Blockers that a person decided not to wait for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import (
    SIGNALS,
    SOURCES,
    UNKNOWN,
    Counted,
    blockers_of,
    unreadable,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.verdict import DRAINED, judge
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.waivers import Waiver, apply_waivers, waivers_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC).timestamp()
GOOD = {"blocker": "blocks_not_closed", "reason": "two of 2019", "person": "someone", "expires": "2026-05-04"}


def left(waiver: dict, count: int = 2, signal: str = "blocks_not_closed") -> int:
    return len(apply_waivers(blockers_of([Counted(signal, count)]), waivers_of([GOOD | waiver]), NOW)[0])


@pytest.mark.parametrize(
    ("waiver", "remaining"),
    [
        ({}, 0),
        ({"at_most": 2}, 0),
        ({"at_most": 1}, 1),
        ({"blocker": "blocks_status_null"}, 1),
        ({"expires": "2026-05-03"}, 1),
        ({"expires": "2026-05-04T11:59:59"}, 1),
        ({"expires": "2026-05-04T12:00:01"}, 0),
        ({"expires": "2026-05-04T14:00:01+02:00"}, 0),
        ({"expires": "2026-05-04T13:00:01+02:00"}, 1),
    ],
)
def test_a_waiver_covers_what_it_says_until_it_ends(waiver, remaining):
    assert left(waiver) == remaining


@pytest.mark.parametrize(
    ("waiver", "said"),
    [
        ({"blocker": "blocks"}, "there is no blocker 'blocks'"),
        ({"blocker": "condor_status_unknown"}, "cannot be waived"),
        ({"reason": " "}, "no reason"),
        ({"person": ""}, "no person"),
        ({"expires": ""}, "no expires"),
        ({"expires": "soon"}, "expires of blocks_not_closed is 'soon'"),
        ({"at_most": 0}, "at_most"),
    ],
)
def test_what_is_no_waiver_is_said_so(waiver, said):
    with pytest.raises(WMAgentError, match=said):
        waivers_of([GOOD | waiver])


some_waivers = st.lists(
    st.builds(
        Waiver,
        st.sampled_from([*sorted(SIGNALS), "condor", "database"]),
        st.just("why"),
        st.just("who"),
        st.floats(NOW - 9, NOW + 9),
        st.none() | st.integers(1, 5),
    ),
    max_size=6,
)


@given(st.dictionaries(st.sampled_from(sorted(SIGNALS)), st.integers(1, 9), max_size=5), some_waivers, st.booleans())
def test_nothing_is_lost_and_nothing_that_nobody_knows_is_waived(counts, waivers, failed):
    blockers = blockers_of(Counted(signal, count) for signal, count in counts.items())
    blockers += [unreadable("condor", "condor", "no answer")] if failed else []
    remaining, waived = apply_waivers(blockers, waivers, NOW)
    assert sorted([*remaining, *(one.blocker for one in waived)], key=str) == sorted(blockers, key=str)
    for one in waived:
        assert one.blocker.kind != UNKNOWN
        assert one.waiver.expires > NOW
        assert one.waiver.at_most is None or one.blocker.count <= one.waiver.at_most
    verdict = judge(remaining, set(SOURCES), [], NOW, 3600).verdict
    assert (verdict == DRAINED) == (len(waived) == len(blockers))


@pytest.mark.parametrize("signal", [name for name, one in SIGNALS.items() if one.kind == UNKNOWN])
def test_what_nobody_knows_is_not_waived_by_its_name(signal):
    waiver = Waiver(signal, "why", "who", NOW + 9)
    blockers = blockers_of([Counted(signal, 1)])
    assert apply_waivers(blockers, [waiver], NOW) == (blockers, [])
