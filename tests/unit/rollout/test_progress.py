# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress: what may come from an agent, what is written and when, what is shown, and when work ends."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils import _long_task, _progress
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from ansible_collections.dmwm.wmagent.plugins.module_utils._progress import Progress, Writer, parse, report
from ansible_collections.dmwm.wmagent.plugins.plugin_utils import live
from ansible_collections.dmwm.wmagent.plugins.plugin_utils.live_view import LiveView, in_words
from hypothesis import given
from hypothesis import strategies as st

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NUMBERS = st.integers() | st.floats() | ANYTHING
TOLD = st.fixed_dictionaries(
    {"step": st.text(min_size=1), "unit": st.text(), "done": NUMBERS, "total": NUMBERS, "rate": NUMBERS, "eta": NUMBERS}
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.binary() | ANYTHING.map(json.dumps) | TOLD.map(json.dumps))
def test_nothing_that_an_agent_tells_can_reach_a_terminal(told):
    progress = parse(told)
    if progress is None:
        return
    line = in_words(progress)
    assert line.isprintable() and len(line) < 400


def test_progress_is_what_it_was_once_read_again(tmp_path):
    clock = Clock()
    writer = Writer(tmp_path / "progress", clock)
    writer.write("purges jobs", 0, 100, "tombstones", None)
    assert parse((tmp_path / "progress").read_text()) == Progress("purges jobs", 0, 100, "tombstones")
    clock.now += 0.9
    writer.write("purges jobs", 9, 100, "tombstones", None)
    assert parse((tmp_path / "progress").read_text()).done == 0, "more than once a second"
    clock.now += 1.1
    writer.write("purges jobs", 20, 100, "tombstones", None)
    assert parse((tmp_path / "progress").read_text()) == Progress("purges jobs", 20, 100, "tombstones", 10.0, 8.0)
    writer.write("compacts jobs", 3, 100, "%", 7.5)
    assert parse((tmp_path / "progress").read_text()) == Progress("compacts jobs", 3, 100, "%", None, 7.5)
    assert [file.name for file in tmp_path.iterdir()] == ["progress"]


def test_a_file_that_cannot_be_written_ends_no_work(tmp_path):
    _progress.write_to(tmp_path / "missing" / "progress")
    try:
        report("purges jobs", 1, 2)
    finally:
        _progress.write_to(None)
    report("purges jobs", 1, 2)


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress("plans"), "plans"),
        (
            Progress("copies jobs", 50, 200, "documents", 2.5, 60),
            "copies jobs  [#####...............]  25 %  60 s left  50 of 200 documents  2.5/s",
        ),
        (Progress("compacts", 99, 100, "%", None, 7200), "compacts  [###################.]  99 %  2.0 h left"),
        (Progress("counts", 12, None, "files", 1234.5), "counts  12 files  1234/s"),
        (Progress("counts", 12, 10, "files"), "counts  [####################] 100 %  12 of 10 files"),
    ],
)
def test_progress_in_words(progress, words):
    assert in_words(progress) == words


class Display:
    """What the view needs of Ansible's."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.lines: list[str] = []

    def display(self, text: str) -> None:
        self.lines.append(text)


def test_plain_lines_come_with_each_step_and_every_half_minute():
    display, clock, headings = Display(), Clock(), []
    view = LiveView(display, lambda: headings.append(len(display.lines)), terminal=False, clock=clock)
    view.step("Purge tombstones")
    view.begun("agent1")
    for second in range(65):
        clock.now += 1
        view.tell("agent1", Progress("purges jobs" if second < 50 else "compacts jobs", second, 100))
    steps = [line.split("  ")[1] for line in display.lines]
    assert steps == ["purges jobs", "purges jobs", "compacts jobs"] and headings == [0, 1, 2]
    view.quiet = True
    view.tell("agent1", Progress("asks"))
    assert len(display.lines) == 3


def test_live_lines_tell_who_is_at_work():
    view, clock = LiveView(Display(), terminal=False, clock=(now := Clock())), now
    view.step("Purge tombstones")
    for number in range(15):
        view.begun(f"agent{number:02}")
        view.tell(f"agent{number:02}", Progress("purges jobs"))
    assert view.lines() == [], "a step that is soon done needs no line"
    clock.now += 5
    view.done("agent03")
    lines = view.lines()
    assert lines[0].strip() == "Purge tombstones: 1 of 15 agents, 5 s"
    assert lines[1].strip() == "agent00  purges jobs" and len(lines) == 14 and lines[-1].strip() == "and 2 more"
    assert not any("agent03" in line for line in lines)
    view.step("")
    assert view.lines() == []


def test_what_is_told_arrives_and_ends_with_the_block():
    channel = live.open_channel()
    with live.task("agent1") as tell:
        tell(Progress("drains", 3, 12, "elements", eta=60))
    assert live.receive(channel, 1) == ("agent1", Progress("drains", 3, 12, "elements", eta=60))
    assert live.receive(channel, 1) == ("agent1", None)
    assert live.receive(channel, 0.01) is None
    with live.task("agent1") as tell:
        for number in range(10_000):  # far more than anybody reads
            tell(Progress("drains", number))


def test_work_ends_once_nobody_asks(tmp_path):
    clock = Clock()
    (tmp_path / "alive").touch()
    watched = _long_task.Watched(tmp_path, clock)
    for _ in range(3):
        clock.now += _long_task.LOST - 1
        assert not watched.stop_reason() or pytest.fail("it was asked in time")
        os.utime(tmp_path / "alive", (clock.now * 7 % 5000,) * 2)  # whatever this host's clock says
    assert not watched.stop_reason()
    clock.now += _long_task.LOST + 1
    assert watched.stop_reason() == "controller"


def test_work_ends_once_it_is_asked_to(tmp_path):
    def reason() -> str:
        return Limits(None, None, None).reason(0)

    (tmp_path / "alive").touch()
    _long_task.watch(tmp_path)
    try:
        assert reason() == ""
        (tmp_path / "stop").touch()
        assert reason() == "controller"
        (tmp_path / "stop").unlink()
        (tmp_path / "alive").unlink()
        assert reason() == "controller"
    finally:
        _long_task.watch(None)
    assert reason() == ""


def test_the_four_long_modules_can_be_watched():
    """Each has an action plugin, and its module hands over."""
    plugins = Path(__file__).resolve().parents[3] / "plugins"
    actions = {file.stem for file in (plugins / "action").glob("*.py") if "LongTaskAction" in file.read_text()}
    modules = {file.stem for file in (plugins / "modules").glob("*.py") if "run_long(main)" in file.read_text()}
    assert actions == modules == {"couchdb_compact", "couchdb_purge", "couchdb_rotate", "dbsbuffer_cleanup"}
