# SPDX-License-Identifier: GPL-3.0-or-later
"""Work spread over processes comes back whole, or as one line."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.parallel import run_parallel, spread
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(0, 1000)), st.integers(1, 6))
def test_spread_loses_nothing_and_is_fair(weights: list[int], parts: int) -> None:
    lists = spread(weights, lambda weight: weight, parts)
    assert sorted(item for part in lists for item in part) == sorted(weights)
    assert len(lists) <= parts
    assert all(lists)
    loads = [sum(part) + len(part) for part in lists]
    if len(lists) == parts > 1:
        assert max(loads) - min(loads) <= max(weights) + 1


def test_answers_come_in_order_and_from_other_processes() -> None:
    answers = run_parallel(lambda part: (part, os.getpid()), [[1], [2], [3]])
    assert [answer[0] for answer in answers] == [[1], [2], [3]]
    assert len({answer[1] for answer in answers} | {os.getpid()}) == 4


def _fail(part: list[str]) -> None:
    if part[0] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if part[0] == "told":
        raise WMAgentError("this is wrong")
    if part[0] == "disk":
        raise OSError(28, "No space left on device", "/agent/file")
    if part[0] == "bug":
        raise KeyError("surprise")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("killed", "worker process was killed"),
        ("told", "^this is wrong$"),
        ("disk", "/agent/file: No space left on device"),
        ("bug", "KeyError: 'surprise'"),
    ],
)
def test_a_part_that_fails_ends_the_others(how: str, message: str, tmp_path: Path) -> None:
    def work(part: list[str]) -> None:
        (tmp_path / part[0]).write_text(str(os.getpid()))
        if part[0] == "slow":
            signal.pause()
        while not (tmp_path / "slow").exists():
            pass
        _fail(part)

    with pytest.raises(WMAgentError, match=message):
        run_parallel(work, [[how], ["slow"]])
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "slow").read_text() or 0) or 2**22 - 1, 0)
