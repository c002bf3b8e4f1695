# SPDX-License-Identifier: GPL-3.0-or-later
"""The history file: several writers, what is forgotten, and files that cannot be used."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.store import Event, History, Measure, Recorded
from support.agent import CHECKOUT

DAY = 86400.0
NOW = 1_800_000_000.0
KEEP = 30 * DAY
DISK = ("disk", "/data", "bytes")


def measure(time: float, value: float = 1, agent: str = "a") -> Measure:
    return Measure(time, agent, *DISK, value)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "state" / "history.sqlite", timeout=20)


def week(history: History, now: float) -> None:
    history.record([measure(now - day * DAY) for day in range(7)], [], KEEP, now)


def test_what_was_recorded_is_read_back(history: History) -> None:
    cleanup = Event(NOW, "a", "ledger", {"action": "cleanup", "deleted": {"files": 3}})
    assert history.record([measure(NOW, 2), measure(NOW - 60, 1)], [cleanup], KEEP, NOW) == Recorded(3, 0)
    assert history.series(["a", "never told"], 0) == {"a": {DISK: [[NOW - 60, 1], [NOW, 2]]}, "never told": {}}
    assert history.events(["a"], 0) == {"a": [cleanup]}


def test_told_twice_it_is_kept_once(history: History) -> None:
    event = Event(NOW, "a", "ledger", {"x": 1, "y": 2})
    history.record([measure(NOW, 2)], [event], KEEP, NOW)
    again = [Event(NOW, "a", "ledger", {"y": 2, "x": 1})]
    assert history.missing([measure(NOW, 2)], again, KEEP, NOW) == 0
    assert history.record([measure(NOW, 2)], again, KEEP, NOW) == Recorded(0, 0)


def test_two_events_of_one_second_are_two(history: History) -> None:
    events = [Event(NOW, "a", "ledger", {"part": part}) for part in ("dbsbuffer", "couchdb")]
    assert history.record([], events, KEEP, NOW).added == 2


def test_nothing_is_made_by_reading(history: History) -> None:
    assert history.series(["a"], 0) == {"a": {}}
    assert history.events(["a"], 0) == {"a": []}
    assert history.missing([measure(NOW)], [], KEEP, NOW) == 1
    assert not history.file.parent.exists()


def test_what_is_too_old_is_forgotten_and_not_taken_in_again(history: History) -> None:
    old = [Event(NOW - 5 * DAY, "a", "ledger")]
    history.record([measure(NOW - 5 * DAY, agent="gone")], old, KEEP, NOW)
    week(history, NOW)
    later = NOW + KEEP - 4 * DAY
    week(history, later)
    done = history.record([], old, KEEP, later)
    assert done == Recorded(0, 0)
    assert history.series(["gone"], 0) == {"gone": {}}
    assert history.events(["a"], 0) == {"a": []}
    assert min(time for time, _ in history.series(["a"], 0)["a"][DISK]) >= later - KEEP
    with sqlite3.connect(history.file) as connection:
        assert connection.execute("SELECT count(*) FROM series").fetchone() == (1,)


def test_a_clock_that_is_wrong_for_a_day_forgets_nothing(history: History) -> None:
    week(history, NOW)
    wrong = NOW + 1000 * DAY
    for hour in range(24):
        assert history.record([measure(wrong + hour * 3600)], [], KEEP, wrong + hour * 3600).pruned == 0
    # Gone back again, it goes on where it was.
    assert history.record([measure(NOW + DAY)], [], KEEP, NOW + DAY) == Recorded(1, 0)
    assert len(history.series(["a"], 0)["a"][DISK]) == 7 + 24 + 1


WRITER = """
import sys
from pathlib import Path
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.store import History, Measure
for at in range(40):
    history = History(Path(sys.argv[1]))
    history.record([Measure({now} + at, sys.argv[2], "disk", "/", "bytes", at)], [], {keep}, {now})
"""


def test_several_processes_write_at_once(history: History) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "collections")}
    code = WRITER.format(now=NOW, keep=KEEP)
    agents = [f"agent{number}" for number in range(6)]
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(history.file), agent], env=environment) for agent in agents
    ]
    assert [process.wait(60) for process in started] == [0] * len(agents)
    assert [len(series["disk", "/", "bytes"]) for series in history.series(agents, 0).values()] == [40] * len(agents)


def test_another_writer_is_waited_for_and_then_told_of(history: History) -> None:
    week(history, NOW)
    with sqlite3.connect(history.file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(WMAgentError, match=r"was in use for 0\.2 s"):
            History(history.file, timeout=0.2).record([measure(NOW + 1)], [], KEEP, NOW)


def test_a_failure_halfway_keeps_nothing_of_it(history: History) -> None:
    week(history, NOW)
    with pytest.raises(TypeError):
        history.record([measure(NOW + 1)], [Event(NOW, "a", "ledger", {("no", "key"): 1})], KEEP, NOW)
    assert len(history.series(["a"], 0)["a"][DISK]) == 7


def test_a_newer_version_is_left_alone(history: History) -> None:
    week(history, NOW)
    with sqlite3.connect(history.file) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = history.file.read_bytes()
    for use in (lambda: week(history, NOW), lambda: history.series(["a"], 0), lambda: history.set_aside(NOW)):
        with pytest.raises(WMAgentError, match="is of version 2, this collection knows version 1"):
            use()
    assert history.file.read_bytes() == before


def test_another_program_s_database_is_left_alone(history: History) -> None:
    history.file.parent.mkdir()
    with sqlite3.connect(history.file) as connection:
        connection.execute("CREATE TABLE series (theirs)")
    before = history.file.read_bytes()
    with pytest.raises(WMAgentError, match="is no history of this collection"):
        week(history, NOW)
    assert history.file.read_bytes() == before


@pytest.mark.parametrize("where", ["head", "middle"])
def test_a_damaged_file_is_left_alone_until_somebody_asks(history: History, where: str) -> None:
    for agent in range(200):
        history.record([measure(NOW, agent=f"agent{agent}")], [], KEEP, NOW)
    content = bytearray(history.file.read_bytes())
    content[slice(0, 100) if where == "head" else slice(4096, len(content))] = os.urandom(
        100 if where == "head" else len(content) - 4096
    )
    history.file.write_bytes(content)
    with pytest.raises(WMAgentError, match=r"is damaged .*wmagent_history_damaged=aside"):
        week(history, NOW)
    with pytest.raises(WMAgentError, match="is damaged"):
        history.series(["agent1"], 0)
    assert history.file.read_bytes() == content
    aside = history.set_aside(NOW)
    assert aside is not None
    assert aside.read_bytes() == content
    assert aside.name == "history.sqlite.damaged-20270115T080000Z"
    week(history, NOW)
    assert history.set_aside(NOW) is None


def test_a_full_disk_is_told_and_loses_nothing(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    week(history, NOW)

    def connected(self: History, mode: str) -> sqlite3.Connection:
        connection = connect(self, mode)
        connection.execute("PRAGMA max_page_count = 1")  # SQLite's own way to have no more room
        return connection

    connect = History._connected
    monkeypatch.setattr(History, "_connected", connected)
    many = [Measure(NOW, "a", "table", f"table {number}", "rows", 1) for number in range(1000)]
    with pytest.raises(WMAgentError, match="was not written, since its disk is full"):
        history.record(many, [], KEEP, NOW)
    monkeypatch.undo()
    assert list(history.series(["a"], 0)["a"]) == [DISK]


def test_a_folder_that_cannot_be_made_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WMAgentError, match="cannot be made"):
        week(History(tmp_path / "file" / "history.sqlite"), NOW)


def test_a_folder_in_its_place_is_told_of(history: History) -> None:
    history.file.mkdir(parents=True)
    with pytest.raises(WMAgentError, match="cannot be used"):
        week(history, NOW)
