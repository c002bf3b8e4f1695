# SPDX-License-Identifier: GPL-3.0-or-later
"""Between two cycles, or not known to be: checked against a worker whose every second is known."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.cycles import GUARD, CycleWatch, sleeps_until
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.heartbeats import Heartbeats, Worker
from hypothesis import given
from hypothesis import strategies as st

ROW = Worker("A", "APoller", 7, "Running", 1000.0, 120, 3.0)


@dataclasses.dataclass(frozen=True)
class Moment:
    """A worker at one second: asleep until when (None in a cycle), its row, the logged end of its last cycle."""

    asleep_until: float | None
    row: Worker
    logged: float | None


def simulate(poll: int, cycles: list[int], at: float) -> Moment:
    """What WMCore.WorkerThreads.BaseWorkerThread has done by second ``at``: every write and every log line."""
    now, written, logged, cycle_time = 0.0, 0.0, None, 0.0
    for length in cycles:
        if now > at:
            break
        written = now
        if at < now + length:
            return Moment(None, dataclasses.replace(ROW, last_updated=written, poll_interval=poll), logged)
        now += length
        logged, written, cycle_time = now, now, float(length)
        for left in range(poll, 0, -1):
            second = now + poll - left
            if second > at:
                break
            if left % 60 == 0:
                written = second
        row = dataclasses.replace(ROW, last_updated=float(int(written)), poll_interval=poll, cycle_time=cycle_time)
        if at < now + poll:
            return Moment(now + poll, row, logged)
        now += poll
    return Moment(None, dataclasses.replace(ROW, last_updated=now, poll_interval=poll), logged)


@given(
    poll=st.integers(1, 700),
    cycles=st.lists(st.integers(1, 900), min_size=1, max_size=6),
    at=st.floats(0, 5000, allow_nan=False),
    shift=st.sampled_from([0, 0, 0, -7200, -3600, 3600]),
)
def test_whoever_is_called_asleep_is_asleep(poll: int, cycles: list[int], at: float, shift: int) -> None:
    """Also where log times are off by an hour, as after a clock change."""
    moment = simulate(poll, cycles, at)
    logged = None if moment.logged is None else moment.logged + shift
    until = sleeps_until(moment.row, logged, None, at)
    if until is not None:
        assert moment.asleep_until is not None
        assert at + GUARD < until
        if shift == 0:
            assert until == moment.asleep_until
    elif shift == 0 and moment.asleep_until is not None:
        assert poll <= GUARD or at + GUARD >= moment.asleep_until


def test_a_change_of_the_row_tells_without_a_log(tmp_path: Path) -> None:
    watch = CycleWatch({"A": tmp_path / "none"})
    beats = Heartbeats((ROW,), {"A": 7})
    assert watch.between_cycles(beats, {"A": 7}, now=1010) == set()
    assert watch.between_cycles(beats, {"A": 7}, now=1011) == set()
    done = Heartbeats((dataclasses.replace(ROW, cycle_time=4.5, last_updated=1012.0),), {"A": 7})
    assert watch.between_cycles(done, {"A": 7}, now=1012) == {"A"}
    assert watch.between_cycles(done, {"A": 7}, now=1100) == {"A"}
    assert watch.between_cycles(done, {"A": 7}, now=1131) == set()


def test_all_workers_of_a_component_must_sleep(tmp_path: Path) -> None:
    log = tmp_path / "ComponentLog"
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S,000", time.localtime(now - 5))
    log.write_text(f"{stamp}:1:INFO:BaseWorkerThread:APoller took 1.0 secs to execute\n")
    watch = CycleWatch({"A": log})
    asleep = dataclasses.replace(ROW, last_updated=float(int(now - 5)))
    busy = dataclasses.replace(asleep, name="BPoller")
    assert watch.between_cycles(Heartbeats((asleep,), {}), {"A": 7}, now) == {"A"}
    assert watch.between_cycles(Heartbeats((asleep, busy), {}), {"A": 7}, now) == set()
    assert watch.between_cycles(Heartbeats((asleep,), {}), {"A": 8}, now) == set(), (
        "rows of an earlier run prove nothing"
    )
    assert watch.between_cycles(Heartbeats((), {}), {"A": 7}, now) == set()
