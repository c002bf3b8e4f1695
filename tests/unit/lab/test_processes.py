# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab ends its own processes and no others."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from support.agent import processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def stranger(tmp_path):
    child = subprocess.Popen(SLEEP)
    yield child
    child.kill()
    child.wait()


def test_a_recorded_process_is_ended_by_its_record(tmp_path):
    running = processes.start(tmp_path / "service", SLEEP, {})
    assert processes.recorded(tmp_path / "service") == running
    assert processes.stop(tmp_path / "service", 10)
    assert processes.start_ticks(running.pid) != running.start_ticks
    assert not processes.stop(tmp_path / "service", 10)


def test_a_process_id_that_was_handed_out_again_is_left_alone(tmp_path, stranger):
    ticks = processes.start_ticks(stranger.pid)
    (tmp_path / processes.RECORD).write_text(json.dumps({"pid": stranger.pid, "start_ticks": ticks - 1}))
    assert processes.recorded(tmp_path) is None
    assert not processes.stop(tmp_path)
    processes.end([processes.Running(stranger.pid, ticks - 1)])
    assert stranger.poll() is None


def test_a_process_that_ignores_sigterm_is_killed(tmp_path):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    folder = tmp_path / "service"
    running = processes.start(folder, [sys.executable, "-c", deaf], {})
    processes.wait_until(lambda: (folder / "output.log").read_text() != "", running, folder, 10)
    begin = time.monotonic()
    assert processes.stop(folder, 0.5)
    assert time.monotonic() - begin < 10
    assert processes.start_ticks(running.pid) != running.start_ticks


def test_only_what_runs_from_the_folder_is_found(tmp_path, stranger):
    script = tmp_path / "inside" / "component.py"
    script.parent.mkdir()
    script.write_text(SLEEP[2])
    ours = subprocess.Popen([sys.executable, str(script)])
    shell = subprocess.Popen(["sleep", "600"], cwd=script.parent)
    editor = subprocess.Popen(["tail", "-f", str(script)], stdout=subprocess.DEVNULL)
    try:
        assert [item.pid for item in processes.under(tmp_path)] == [ours.pid]
        assert processes.under(tmp_path / "ins") == []
    finally:
        for child in (ours, shell, editor):
            child.kill()
            child.wait()


def test_a_service_that_ends_while_starting_is_an_error_with_its_last_words(tmp_path):
    folder = tmp_path / "service"
    argv = [sys.executable, "-c", "import time; time.sleep(0.3); print('no port for me')"]
    running = processes.start(folder, argv, {})
    with pytest.raises(processes.WMAgentError, match="no port for me"):
        processes.wait_until(lambda: False, running, folder, 10)
