# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of a lab: started once, recorded with their start time, ended by that record only.

A process id alone says little, since the kernel hands it out again. So every signal goes through a
pidfd, and only after the start time (or the place the process runs from) was seen through that pidfd's process.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

RECORD = "process.json"


@dataclass(frozen=True)
class Running:
    """A live process: its id and its start time in clock ticks since boot."""

    pid: int
    start_ticks: int


def start_ticks(pid: int) -> int | None:
    """Start time in clock ticks since boot, or None where no such process lives (a zombie does not live)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="latin1").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def recorded(folder: Path) -> Running | None:
    """The live process that ``folder/process.json`` names, or None."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        running = Running(int(record["pid"]), int(record["start_ticks"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return running if start_ticks(running.pid) == running.start_ticks else None


def start(folder: Path, argv: Sequence[str], environment: Mapping[str, str]) -> Running:
    """Start ``argv`` in a session of its own, its output appended to ``folder/output.log``, and record it.

    ``environment`` replaces the whole environment. Raises WMAgentError where the program cannot be run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.log").open("ab") as log:
        try:
            child = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=dict(environment),
                start_new_session=True,
            )
        except OSError as error:
            raise WMAgentError(f"{argv[0]} cannot be started ({error.strerror}); see the lab's prerequisites") from None
    ticks = start_ticks(child.pid)
    if ticks is None:
        raise WMAgentError(f"{argv[0]} ended at once; see {folder}/output.log")
    running = Running(child.pid, ticks)
    partial = folder / (RECORD + ".new")
    partial.write_text(json.dumps({"pid": running.pid, "start_ticks": ticks, "argv0": argv[0]}), encoding="utf-8")
    partial.replace(folder / RECORD)
    return running


def wait_until(ready: Callable[[], bool], running: Running, folder: Path, seconds: float) -> None:
    """Wait until ``ready()``; WMAgentError as soon as the process is gone or after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not ready():
        _reap(running.pid)
        if start_ticks(running.pid) != running.start_ticks:
            raise WMAgentError(
                f"a lab service ended while starting: {last_line(folder / 'output.log')} ({folder}/output.log)"
            )
        if time.monotonic() > deadline:
            raise WMAgentError(f"a lab service was not ready within {seconds:.0f} s; see {folder}/output.log")
        time.sleep(0.05)


def last_line(log: Path) -> str:
    """Last line of a log that is not blank, at most 200 characters; empty where there is none."""
    try:
        lines = [
            line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
    except OSError:
        return ""
    return lines[-1][:200] if lines else ""


def stop(folder: Path, seconds: float = 20.0) -> bool:
    """End the process that ``folder`` recorded; True where there was one to end."""
    running = recorded(folder)
    if running is not None:
        end([running], seconds)
    (folder / RECORD).unlink(missing_ok=True)
    return running is not None


def end(processes: Sequence[Running], seconds: float = 20.0) -> None:
    """SIGTERM to each, SIGKILL to those that are still there after ``seconds``. Raises WMAgentError where one stays."""
    handles: dict[int, Running] = {}
    for running in processes:
        try:
            handle = os.pidfd_open(running.pid)
        except ProcessLookupError:
            continue
        if start_ticks(running.pid) == running.start_ticks:
            handles[handle] = running
        else:
            os.close(handle)
    try:
        for number, limit in ((signal.SIGTERM, seconds), (signal.SIGKILL, 10.0)):
            _send(handles, number)
            if _wait_gone(handles, limit):
                return
        raise WMAgentError(f"process {next(iter(handles.values())).pid} does not end; look at it and end it by hand")
    finally:
        for handle in handles:
            os.close(handle)


def _send(handles: Mapping[int, Running], number: signal.Signals) -> None:
    for handle in handles:
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            continue


def _wait_gone(handles: Mapping[int, Running], seconds: float) -> bool:
    """A pidfd becomes readable when its process has ended."""
    waiting = set(handles)
    deadline = time.monotonic() + seconds
    while waiting:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        ready, _, _ = select.select(list(waiting), [], [], left)
        for handle in ready:
            _reap(handles[handle].pid)
            waiting.discard(handle)
    return True


def _reap(pid: int) -> None:
    """A child of ours would stay a zombie until we end; anyone else's child is its parent's business."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def under(folder: Path) -> list[Running]:
    """Our live processes whose program, or whose Python script, stands under ``folder``."""
    root = str(folder.resolve()) + "/"
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if entry.stat().st_uid != os.geteuid():
                continue
            ticks = start_ticks(int(entry.name))
            if ticks is not None and _runs_from(entry, root):
                found.append(Running(int(entry.name), ticks))
        except OSError:
            continue
    return sorted(found, key=lambda running: running.start_ticks)


def command_line(pid: int) -> list[str]:
    """Arguments of a process; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _runs_from(entry: Path, root: str) -> bool:
    """Neither a working directory nor a file to edit makes a process ours: that may be somebody's shell or editor."""
    program, *arguments = [*command_line(int(entry.name))[:2], ""][:2]
    script = arguments[0] if Path(program).name.startswith("python") else ""
    return program.startswith(root) or script.startswith(root)
