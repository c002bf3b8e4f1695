# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock and ledger on real files."""

from __future__ import annotations

import json

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.lock import (
    Lock,
    read_lock,
    refusal,
    release_lock,
    take_lock,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st


def take(path, rollout, now, **more):
    return take_lock(path, owner="me@here", rollout=rollout, ttl=100, clock=lambda: now, **more)


def test_another_rollout_is_refused_until_the_lock_expires(tmp_path):
    path = tmp_path / ".deploy" / "lock"
    take(path, "one", 1000)
    with pytest.raises(WMAgentError, match="wmagent_break_lock=one"):
        take(path, "two", 1099)
    mine, replaced = take(path, "two", 1100)
    assert mine.rollout == "two"
    assert replaced and replaced.rollout == "one"


def test_its_own_lock_is_renewed_and_keeps_its_time(tmp_path):
    path = tmp_path / "lock"
    take(path, "one", 1000)
    mine, replaced = take(path, "one", 1050)
    assert (mine.taken, mine.expires, replaced) == (1000, 1150, None)


def test_break_lock_works_only_with_the_holders_id(tmp_path):
    path = tmp_path / "lock"
    take(path, "one", 1000)
    with pytest.raises(WMAgentError):
        take(path, "two", 1001, break_lock="three")
    assert take(path, "two", 1001, break_lock="one")[0].rollout == "two"


def test_only_the_holder_gives_it_back(tmp_path):
    path = tmp_path / "lock"
    assert not release_lock(path, "one")
    take(path, "one", 1000)
    assert not release_lock(path, "two")
    assert release_lock(path, "one")
    assert read_lock(path) is None


def test_a_damaged_lock_is_never_guessed_at(tmp_path):
    path = tmp_path / "lock"
    path.write_text("")
    with pytest.raises(WMAgentError, match="remove it"):
        take(path, "one", 1000)


@given(st.booleans(), st.booleans(), st.integers(-50, 50), st.booleans())
def test_refusal_is_its_definition(held, same, left, named):
    lock = Lock("o", "holder", 0, 1000 + left) if held else None
    reason = refusal(lock, "holder" if same else "me", "holder" if named else "", 1000)
    assert (reason is None) == (not held or same or left <= 0 or named)


def test_the_ledger_survives_a_line_cut_short(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger.append(path, "adopt", to="a")
    with path.open("a") as stream:
        stream.write('{"action": "upgr')
    ledger.append(path, "upgrade", to="b", **{"from": "a"})
    assert [entry["action"] for entry in ledger.read(path)] == ["adopt", "upgrade"]
    assert json.loads(path.read_text().splitlines()[0])["to"] == "a"


def test_previous_release():
    def moves(*names):
        return [{"action": "upgrade", "to": name} for name in names]

    assert ledger.previous_release([], "a") is None
    assert ledger.previous_release(moves("a"), "a") is None
    assert ledger.previous_release(moves("a", "b"), "b") == "a"
    assert ledger.previous_release(moves("a", "b", "a"), "a") == "b"
    assert ledger.previous_release(moves("a", "b", "b"), "b") == "a"
    assert ledger.previous_release([*moves("a", "b"), {"action": "judged", "to": "z"}], "b") == "a"
