# SPDX-License-Identifier: GPL-3.0-or-later
"""Live lines below what a playbook prints: the step that runs now, and how far each agent's long task is.

On a terminal the lines are drawn in place, wiped before anything else is printed, and drawn again below it. Elsewhere a
plain line is printed when a task's step changes and every ``PLAIN_EVERY`` seconds.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.watching import span
from ansible_collections.dmwm.wmagent.plugins.module_utils._progress import Progress, printable
from ansible_collections.dmwm.wmagent.plugins.plugin_utils import live

PLAIN_EVERY = 30.0
_MOST_LINES = 12
_BAR = 20
_REDRAWN = 0.5
_SHORT = 1.0
"""Seconds: a step that takes less needs no line."""
_WIPE_LINE_AND_BELOW = "\r\x1b[J"


class LiveView:
    """What is shown live. All of it is called by Ansible's main process only.

    display:  Ansible's, through which everything else is printed
    heading:  called before a plain line, so that what it belongs to is printed first
    terminal: whether lines can be drawn anew; found out where None
    clock:    seconds, never set back
    """

    def __init__(
        self,
        display: Any,
        heading: Callable[[], None] = lambda: None,
        terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._display = display
        self._print = display.display
        self._heading = heading
        self._terminal = _is_terminal() if terminal is None else terminal
        self._clock = clock
        self._process = os.getpid()
        self._tasks: dict[str, Progress] = {}
        self._plain: dict[str, tuple[str, float]] = {}
        self._step: tuple[str, float] | None = None
        self._at_work: set[str] = set()
        self._ready = 0
        self._drawn: list[str] = []
        self.quiet = False

    def start(self) -> None:
        """Show from now on what action plugins tell by ``live``."""
        if self._terminal:
            self._display.display = self._print_above
            atexit.register(self._wipe)
        channel = live.open_channel()
        threading.Thread(target=self._listen, args=(channel,), daemon=True, name="live view").start()

    def step(self, name: str) -> None:
        """A step begins; '' where nothing does any more."""
        with self._display._lock:
            self._step = (printable(name), self._clock()) if name else None
            self._at_work.clear()
            self._ready = 0
            self._tasks.clear()
            self._plain.clear()
            self._draw()

    def begun(self, agent: str) -> None:
        """The step begins on an agent."""
        with self._display._lock:
            self._at_work.add(agent)

    def done(self, agent: str) -> None:
        """The step has a result on an agent."""
        with self._display._lock:
            self._ready += agent in self._at_work
            self._at_work.discard(agent)
            self._tasks.pop(agent, None)
            self._plain.pop(agent, None)
            self._draw()

    def tell(self, agent: str, progress: Progress | None) -> None:
        """An agent's task has come so far; None: it is over."""
        with self._display._lock:
            if progress is None:
                self._tasks.pop(agent, None)
            else:
                self._tasks[agent] = progress
                self._plainly(agent, progress)
            self._draw()

    def lines(self) -> list[str]:
        """What is shown live now."""
        if not self._step or not self._at_work or self.quiet:
            return []
        name, since = self._step
        if self._clock() - since < _SHORT:
            return []
        agents = self._ready + len(self._at_work)
        head = f"         {name}: {self._ready} of {agents} agents, {span(self._clock() - since)}"
        width = max((len(agent) for agent in self._tasks), default=0)
        tasks = [f"         {agent:<{width}}  {in_words(progress)}" for agent, progress in sorted(self._tasks.items())]
        more = len(tasks) - _MOST_LINES
        return [head, *tasks[:_MOST_LINES], *([f"         and {more} more"] if more > 0 else [])]

    def _plainly(self, agent: str, progress: Progress) -> None:
        if self._terminal or self.quiet:
            return
        step, at = self._plain.get(agent, ("", 0.0))
        now = self._clock()
        if step != progress.step or now - at >= PLAIN_EVERY:
            self._plain[agent] = (progress.step, now)
            self._heading()
            self._print(f"{time.strftime('%H:%M:%S')} {agent}  {in_words(progress)}")

    def _listen(self, channel: Any) -> None:
        while True:
            if told := live.receive(channel, _REDRAWN):
                self.tell(*told)
            else:
                with self._display._lock:
                    self._draw()

    def _print_above(self, *arguments: Any, **options: Any) -> None:
        # A worker inherits this; it sends what it prints to the main process.
        if os.getpid() != self._process:
            self._print(*arguments, **options)
            return
        with self._display._lock:
            self._wipe()
            self._print(*arguments, **options)
            self._draw()

    def _draw(self) -> None:
        if not self._terminal:
            return
        width = shutil.get_terminal_size().columns - 1
        lines = [line[:width] for line in self.lines()]
        if lines != self._drawn:
            self._write(self._to_top() + "\n".join(lines))
            self._drawn = lines

    def _wipe(self) -> None:
        if self._drawn and os.getpid() == self._process:
            self._write(self._to_top())
            self._drawn = []

    def _to_top(self) -> str:
        up = len(self._drawn) - 1
        return (f"\x1b[{up}A" if up > 0 else "") + _WIPE_LINE_AND_BELOW

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def in_words(progress: Progress) -> str:
    """``purges jobs  [#####...............]  26 %  57 s left  1040 of 4000 tombstones  52/s``. Pure.

    What matters least comes last, since a line may be cut off.
    """
    parts = [progress.step]
    if progress.total:
        share = min(1.0, progress.done / progress.total)
        parts.append(f"[{'#' * int(share * _BAR):.<{_BAR}}] {100 * share:3.0f} %")
    if progress.eta is not None:
        parts.append(f"{span(progress.eta)} left")
    if progress.unit not in ("", "%"):
        of = f" of {progress.total:.0f}" if progress.total else ""
        parts.append(f"{progress.done:.0f}{of} {progress.unit}")
        if progress.rate:
            parts.append(f"{progress.rate:.3g}/s" if progress.rate < 100 else f"{progress.rate:.0f}/s")
    return "  ".join(parts)


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
