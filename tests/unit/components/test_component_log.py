# SPDX-License-Identifier: GPL-3.0-or-later
"""What a ComponentLog says since the start."""

from __future__ import annotations

import time
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import component_log
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.component_log import (
    find_start,
    last_cycles,
    read_log,
    telling_line,
    traces,
)

STAMP = "2026-11-23 06:54:46,105:139836867227712:"
START = f"{STAMP}INFO:Harness:>>>Starting: A<<<\n"
READY = f"{STAMP}INFO:Harness:>>>Initialization finished!\n\n"


def trace(function: str = "query", message: str = "ValueError: no", line: int = 7) -> str:
    return (
        f"{STAMP}ERROR:APoller:it went wrong\n"
        "Traceback (most recent call last):\n"
        f'  File "/one/lib/APoller.py", line {line}, in algorithm\n    self.{function}()\n'
        f'  File "/one/lib/DB.py", line 3, in {function}\n    raise\n'
        f"{message}\n"
    )


CRASH = (
    f"{STAMP}ERROR:BaseWorkerThread:Error in worker algorithm (1):\nBacktrace:\n  <A object at 0x7f> boom"
    '  File "/x/BaseWorkerThread.py", line 200, in __call__\n    run()\n'
)


def test_only_what_was_written_since_the_last_start_counts(tmp_path: Path) -> None:
    log = tmp_path / "ComponentLog"
    log.write_text(START + trace("old") + START + READY)
    found = read_log(log, "A")
    assert (found.new, found.known, found.initialized) == ((), 0, True)
    assert found.offset == len(START + trace("old"))


def test_a_traceback_of_before_is_nothing_new_in_another_release(tmp_path: Path) -> None:
    log = tmp_path / "ComponentLog"
    log.write_text(START + trace(line=7) + START + trace(line=99, message="ValueError: no, and 4711 this time"))
    assert (read_log(log, "A").new, read_log(log, "A").known) == ((), 1)


def test_another_function_or_exception_is_new(tmp_path: Path) -> None:
    log = tmp_path / "ComponentLog"
    log.write_text(START + trace() + START + trace("insert") + trace(message="KeyError: 'x'") + trace("insert"))
    found = read_log(log, "A")
    assert len(found.new) == 2
    assert found.new[1].reason == "KeyError: 'x'"
    assert not any(one.fatal for one in found.new)


def test_the_end_of_a_worker_is_always_news(tmp_path: Path) -> None:
    log = tmp_path / "ComponentLog"
    log.write_text(START + CRASH + START + CRASH)
    assert [one.fatal for one in read_log(log, "A").new] == [True]


def test_an_offset_that_is_known_is_used(tmp_path: Path) -> None:
    log = tmp_path / "ComponentLog"
    log.write_text(START + trace())
    assert read_log(log, "A", log.stat().st_size).new == ()
    assert len(read_log(log, "A", 0).new) == 1
    assert len(read_log(log, "A", 10**9).new) == 1, "a log that is shorter than that was rotated"


def test_a_start_far_back_is_found_across_blocks(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(component_log, "_CHUNK", 100)
    log = tmp_path / "ComponentLog"
    log.write_text("x" * 333 + "\n" + START + f"{STAMP}INFO:A:working\n" * 40)
    assert find_start(log, "A") == 334
    assert find_start(log, "B") == -1
    assert find_start(log, "A", limit=500) == -1


def test_a_log_that_is_missing_is_an_error_not_silence(tmp_path: Path) -> None:
    assert "cannot be read" in read_log(tmp_path / "ComponentLog", "A").error


def test_chained_and_consecutive_tracebacks() -> None:
    chained = trace() + "\nDuring handling of the above exception, another exception occurred:\n\n" + trace("other")
    assert len({one.signature for one in traces(chained)}) == 2
    assert traces("nothing to see\n") == []


def test_ends_of_cycles() -> None:
    text = (
        f"{STAMP}INFO:BaseWorkerThread:APoller took 0.002 secs to execute\n"
        "2026-11-23 07:00:00,500:1:INFO:BaseWorkerThread:APoller took 1.5 secs to execute\n"
        "2026-11-23 07:00:01,000:1:INFO:BaseWorkerThread:BPoller took 1.5 secs to execute\n"
        "2026-11-23 07:00:02,000:1:ERROR:BaseWorkerThread:APoller took offence\n"
    )
    at = time.mktime((2026, 11, 23, 7, 0, 0, 0, 0, -1))
    assert last_cycles(text) == {"APoller": at + 0.5, "BPoller": at + 1}


def test_the_telling_line() -> None:
    assert telling_line("") == ""
    assert telling_line(f"{STAMP}INFO:A:hello\nlast\n\n") == "last"
    assert telling_line(trace()) == "ValueError: no"
    assert telling_line(CRASH) == "boom"
    assert telling_line(CRASH.replace(" boom", ' (1146, "Table gone")\n[SQL: SELECT]')) == '(1146, "Table gone")'
    loop = f"{STAMP}ERROR:BaseWorkerThread:Error in event loop (2): <A object at 0x7f> boom\nBacktrace:\n  File x\n"
    assert telling_line(loop) == "boom"
    block = "<@===== WMException Start =====@>\nException Class: X\nMessage: no table\nClassName : None\n"
    assert telling_line(CRASH.replace(" boom", " " + block)) == "no table"
    post_mortem = f"{STAMP}CRITICAL:Harness:PostMortem: choked when initializing with error: (2002, 'gone')\n  File x\n"
    assert telling_line(post_mortem) == "(2002, 'gone')"
    assert telling_line(post_mortem + trace()) == "(2002, 'gone')"
