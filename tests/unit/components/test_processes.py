# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading /proc, and signals that reach the process that was looked at or nobody."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import processes
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.processes import Handle, read_process, wait_gone
from support.daemons import wait_until


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_reads_this_process() -> None:
    me = read_process(os.getpid())
    assert me is not None
    assert (me.pid, me.ppid, me.pgid, me.sid) == (os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0))
    assert me.uid == os.getuid()
    assert not me.dead
    assert abs(time.time() - me.started) < 3600 * 24
    assert me in [dataclasses.replace(one, cpu_ticks=me.cpu_ticks, state=me.state) for one in processes.all_processes()]


def test_a_command_with_parentheses_and_spaces_does_not_confuse() -> None:
    code = "import ctypes,time;ctypes.CDLL(None).prctl(15,b'a) R (b c',0,0,0);print(1,flush=True);time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        read = read_process(process.pid)
        assert read is not None
        assert (read.comm, read.ppid) == ("a) R (b c", os.getpid())
    finally:
        process.kill()
        process.wait()


def test_start_time_is_right(sleeper: subprocess.Popen[bytes]) -> None:
    read = read_process(sleeper.pid)
    assert read is not None
    assert abs(read.started - time.time()) < 5


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen(["true"])
    wait_until(lambda: (read := read_process(process.pid)) and read.state == "Z")
    read = read_process(process.pid)
    assert read is not None and read.dead and read.cmdline == ()
    handle = Handle(read)
    assert not handle.alive()
    assert not handle.signal(signal.SIGTERM)
    process.wait()


def test_no_process() -> None:
    assert read_process(2**22 + 1) is None
    assert processes.thread_ids(2**22 + 1) == {}
    assert processes.working_directory(2**22 + 1) is None
    assert processes.environment(2**22 + 1) == {}


def test_a_reused_pid_is_not_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    """The process looked at had this pid, but another start time."""
    read = read_process(sleeper.pid)
    assert read is not None
    former = dataclasses.replace(read, start_ticks=read.start_ticks - 100)
    with Handle(former) as handle:
        assert not handle.signal(signal.SIGKILL)
        assert not handle.alive()
    assert sleeper.poll() is None


def test_without_pidfd_the_start_time_is_compared(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", absent)
    read = read_process(sleeper.pid)
    assert read is not None
    assert not Handle(dataclasses.replace(read, start_ticks=1)).signal(signal.SIGKILL)
    assert sleeper.poll() is None
    handle = Handle(read)
    assert handle.signal(signal.SIGTERM)
    sleeper.wait(10)
    assert wait_gone([handle], 5) == []


def test_waits_until_one_has_gone(sleeper: subprocess.Popen[bytes]) -> None:
    other = subprocess.Popen(["sleep", "600"])
    handles = [Handle(read) for one in (sleeper, other) if (read := read_process(one.pid))]
    began = time.monotonic()
    assert wait_gone(handles, 0.05) == handles
    other.kill()
    assert wait_gone(handles, 20) == handles[:1]
    assert time.monotonic() - began < 10
    other.wait()


def test_one_that_ended_before_is_not_waited_for(sleeper: subprocess.Popen[bytes]) -> None:
    other = subprocess.Popen(["sleep", "600"])
    handles = [Handle(read) for one in (sleeper, other) if (read := read_process(one.pid))]
    other.kill()
    other.wait()
    began = time.monotonic()
    assert wait_gone(handles, 20) == handles[:1]
    assert time.monotonic() - began < 10


def test_threads_and_environment() -> None:
    code = "import threading,time;threading.Thread(target=time.sleep,args=(600,)).start();print(1,flush=True)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={"WMA_X": "1"})
    try:
        assert process.stdout is not None
        process.stdout.readline()
        threads = processes.thread_ids(process.pid)
        assert len(threads) == 2 and process.pid in threads
        assert processes.environment(process.pid)["WMA_X"] == "1"
    finally:
        process.kill()
        process.wait()
