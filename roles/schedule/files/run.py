#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one job of the schedule: ``run.py [--wait SECONDS] job.json``. Standard library only.

A job that is still running makes this run step aside, which is no failure. All output goes to ``<name>.log``, which
is kept small. Where the job fails, the command that the job names for that gets the last lines. The exit code is the
job's, 124 where it took too long.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

LOG_BYTES = 5 * 1024 * 1024
LAST_LINES = 50
TOO_LONG, NOT_STARTED = 124, 127
TO_END = 120
"""Seconds for a playbook that was interrupted: it has to tell its agents."""
FOR_THE_COMMAND = 60
"""Seconds for the command that tells of a failure."""


class Log:
    """A log that keeps its last lines and never grows beyond twice ``LOG_BYTES``; a full disk does not end the job."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self.last: deque[str] = deque(maxlen=LAST_LINES)

    def line(self, text: str) -> None:
        """Note a line of this program's own."""
        self.write(f"{time.strftime('%Y-%m-%d %H:%M:%S%z')} {text}\n".encode())

    def write(self, data: bytes) -> None:
        """Append one line."""
        self.last.append(data.decode(errors="replace").rstrip("\n"))
        try:
            if self._file is None or self._file.tell() > LOG_BYTES:
                self._open()
            assert self._file is not None
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()
                self._file = None
            print(f"{self._path}: {error.strerror}", file=sys.stderr)

    def _open(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._path.exists() and self._path.stat().st_size > LOG_BYTES:
            self._path.replace(self._path.with_suffix(".log.1"))
        self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


@contextlib.contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether no other run of the job is under way; none begins meanwhile. The lock goes with this process."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def run(job: dict[str, Any], log: Log) -> int:
    """Run the job's command; its exit code."""
    environment = {**os.environ, **job["environment"]}
    # Where this program was started with SIGINT ignored (nohup, a shell's &), the command would be deaf to it as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            job["command"],
            cwd=job["folder"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        log.line(f"{job['command'][0]}: {error.strerror}")
        return NOT_STARTED
    too_long = threading.Event()

    def end() -> None:
        too_long.set()
        log.line(f"is interrupted after {job['max_runtime']} s")
        _signal(process, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TO_END)
        _signal(process, signal.SIGKILL)

    timer = threading.Timer(job["max_runtime"], end)
    timer.daemon = True
    timer.start()
    # systemd and an operator end the job with this program.
    signal.signal(signal.SIGTERM, lambda *_: _signal(process, signal.SIGINT))
    assert process.stdout is not None
    for line in process.stdout:
        log.write(line)
    code = process.wait()
    timer.cancel()
    return TOO_LONG if too_long.is_set() else code if code >= 0 else 128 - code


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def tell_of_failure(job: dict[str, Any], code: int, log: Log) -> None:
    """Have somebody hear of it; a failure to do so is noted."""
    last = list(log.last)
    host = os.uname().nodename
    text = "\n".join([f"dmwm.wmagent: {job['name']} failed on {host} with exit code {code}", "", *last, ""])
    environment = {**os.environ, **job["environment"], "WMAGENT_JOB": job["name"], "WMAGENT_EXIT_CODE": str(code)}
    command = shlex.split(job["on_failure"])
    try:
        done = subprocess.run(
            command,
            cwd=job["folder"],
            env=environment,
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=FOR_THE_COMMAND,
            check=False,
        )
    except subprocess.TimeoutExpired:
        log.line(f"nobody was told: {command[0]} took longer than {FOR_THE_COMMAND} s")
    except OSError as error:
        log.line(f"nobody was told: {command[0]}: {error.strerror}")
    else:
        if done.returncode:
            said = " ".join(done.stdout.decode(errors="replace").split())[-300:]
            log.line(f"nobody was told: {command[0]} ended with {done.returncode}: {said}")
        else:
            log.line(f"{command[0]} was told of it")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--wait", type=float, default=0, help="seconds before it begins")
    parser.add_argument("job", type=Path)
    options = parser.parse_args()
    job = json.loads(options.job.read_text(encoding="utf-8"))
    time.sleep(options.wait)
    log = Log(options.job.with_suffix(".log"))
    with alone(options.job.with_suffix(".lock")) as possible:
        if not possible:
            log.line("steps aside: the run before is still going")
            return 0
        log.line("begins")
        code = run(job, log)
        log.line(f"ends with exit code {code}")
        if code:
            if job["on_failure"]:
                tell_of_failure(job, code, log)
            # For cron's mail and for systemd's journal.
            print(f"{job['name']} failed with exit code {code}; see {options.job.with_suffix('.log')}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
