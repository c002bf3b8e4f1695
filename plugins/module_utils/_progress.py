# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a long piece of work has come: what is told, and how it leaves the process that does the work.

Whoever works calls :func:`report` as often as it likes, wherever it stands::

    report("purges the tombstones of wmagent_jobdump", done=1200, total=4000, unit="tombstones")

A process that nobody watches tells nobody. One that is watched (``_long_task``) writes a small file, at most once a
second, and a file that cannot be written never fails the work. A piece of work on the controller, such as an action
plugin that waits, shows a :class:`Progress` itself by ``plugin_utils/live.py``.

Steps and units are the collection's own words and names of databases or tables; never put a value of an agent's
configuration into them.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_EVERY = 1.0
_LONGEST_TEXT = 80


@dataclass(frozen=True)
class Progress:
    """How far something has come.

    step:  what is done now, in a few words
    done:  how much of it, in ``unit``; total: of how much, None where unknown
    unit:  plural, such as ``files``
    rate:  of the unit per second; None where unknown
    eta:   seconds until the step ends; None where unknown
    """

    step: str
    done: float = 0
    total: float | None = None
    unit: str = ""
    rate: float | None = None
    eta: float | None = None


def parse(text: str | bytes) -> Progress | None:
    """Progress as an agent tells it; None for what is none. Pure.

    Nothing of an agent's can do anything to a terminal: texts are one short line of printable characters.
    """
    try:
        told = json.loads(text)
    except ValueError:
        return None
    if not isinstance(told, Mapping) or not isinstance(told.get("step"), str):
        return None
    return Progress(
        step=printable(told["step"]),
        done=_number(told.get("done")) or 0,
        total=_number(told.get("total")),
        unit=printable(told.get("unit")),
        rate=_number(told.get("rate")),
        eta=_number(told.get("eta")),
    )


def printable(text: Any) -> str:
    """A text without anything but printable characters, and not too long for a line; '' for what is no text. Pure."""
    shown = (
        "".join(character if character.isprintable() else "?" for character in text) if isinstance(text, str) else ""
    )
    return shown[:_LONGEST_TEXT]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value < 1e18 else None


class Writer:
    """Writes progress into a file, whole each time, at most once a second and whenever the step changes."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._step = ""
        self._began = (0.0, 0.0)
        self._written: float | None = None

    def write(self, step: str, done: float, total: float | None, unit: str, eta: float | None) -> None:
        """Note how far it is; where no ``eta`` is given, it is found by the rate since the step began."""
        now = self._clock()
        if step != self._step:
            self._step, self._began, self._written = step, (now, done), None
        if self._written is not None and now - self._written < _EVERY:
            return
        self._written = now
        seconds, more = now - self._began[0], done - self._began[1]
        rate = more / seconds if seconds > 0 and more > 0 else None
        if eta is None and rate and total is not None:
            eta = max(0.0, total - done) / rate
        new = self._file.with_suffix(".new")
        with contextlib.suppress(OSError):  # a full disk must not end the work that makes room on it
            new.write_text(json.dumps(asdict(Progress(step, done, total, unit, rate, eta))), encoding="utf-8")
            new.replace(self._file)


_writer: Writer | None = None


def write_to(file: Path | None) -> None:
    """From now on :func:`report` writes this process's progress into a file; None: nowhere."""
    global _writer
    _writer = Writer(file) if file else None


def report(step: str, done: float = 0, total: float | None = None, unit: str = "", *, eta: float | None = None) -> None:
    """Tell how far this process's work has come; see :class:`Progress`. Costs nothing where nobody watches."""
    if _writer is not None:
        _writer.write(step, done, total, unit, eta)
