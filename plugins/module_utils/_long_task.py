# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's end of a long module: it goes on by itself while the controller watches, and ends when nobody does.

A module calls ``run_long(main)``. Where its action plugin (``plugin_utils/long_task.py``) has asked for it, by an
environment variable, the work is done in a process of its own. One that is soon done answers as if nothing had been.
Otherwise the module's answer is a folder with

    alive     its time is when the controller last asked
    stop      there once the work has to end
    progress  what :mod:`_progress` says
    result, errors    the module's stdout and stderr, complete once the process is gone

and the controller asks there from then on. So a connection that is lost for a while ends nothing; one that is lost for
longer than ``LOST`` ends the work as ``stop_file`` would, between two steps.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils import _progress

ASKED_FOR = "WMAGENT_LONG_TASK"
"""Environment variable; its value is how many seconds the module may take before it hands over its folder."""
HANDED_OVER = "wmagent_long_task"
"""Key of the answer that is a folder and a process instead of a result."""

CONTROLLER = "controller"
"""Why a run ended: whoever started it asked for its end or was not heard of for ``LOST``."""
LOST = 600.0
"""Seconds for which the controller may not be heard of."""

_LOOKS = 0.02


class Watched:
    """Whether the controller still watches. folder: where it asks; clock: seconds, never set back."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._asked = -1
        self._heard = clock()

    def stop_reason(self) -> str:
        """``CONTROLLER`` where the work has to end, '' where it goes on."""
        try:
            asked = (self._folder / "alive").stat().st_mtime_ns
            stopped = (self._folder / "stop").exists()
        except OSError:
            return CONTROLLER  # nobody can ask in a folder that is gone
        now = self._clock()
        # That it was asked again counts, and not when: this host's clock may be set meanwhile.
        if asked != self._asked:
            self._asked, self._heard = asked, now
        return CONTROLLER if stopped or now - self._heard > LOST else ""


_watched: Watched | None = None


def run_long(main: Callable[[], None]) -> None:
    """Run a module's main function here, or in a process of its own where the controller watches it."""
    patience = os.environ.pop(ASKED_FOR, "")
    if not patience:
        main()
        return
    folder = Path(tempfile.mkdtemp(prefix="wmagent-task-"))
    (folder / "alive").touch()
    process = os.fork()
    if process:
        # Not the interpreter's own end: Ansible's files of this module are the other process's to remove.
        os._exit(_answer(folder, process, float(patience)))
    os.setsid()
    _redirect(folder)
    watch(folder)
    try:
        main()
    finally:
        if stop_reason():
            # Whoever would have read the result is gone, or reads it no more.
            shutil.rmtree(folder, ignore_errors=True)


def watch(folder: Path | None) -> None:
    """This process works for a controller that watches ``folder``; None: for nobody."""
    global _watched
    _watched = Watched(folder) if folder else None
    _progress.write_to(folder / "progress" if folder else None)


def stop_reason() -> str:
    """``CONTROLLER`` where this process's work has to end, '' where it goes on or nobody watches it."""
    return _watched.stop_reason() if _watched else ""


def _redirect(folder: Path) -> None:
    # The connection ends only once nobody holds its pipes any more.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, name in ((1, "result"), (2, "errors")):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.close(null)


def _answer(folder: Path, process: int, patience: float) -> int:
    """Write the work's own answer where it ends in time, else where it can be asked for; the exit code."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            for number, name in ((1, "result"), (2, "errors")):
                with contextlib.suppress(FileNotFoundError):
                    _write(number, (folder / name).read_bytes())
            shutil.rmtree(folder, ignore_errors=True)
            return os.waitstatus_to_exitcode(status) & 0xFF
        time.sleep(_LOOKS)
    _write(1, json.dumps({HANDED_OVER: {"folder": str(folder), "process": process}}).encode())
    return 0


def _write(number: int, data: bytes) -> None:
    while data:
        data = data[os.write(number, data) :]
