# SPDX-License-Identifier: GPL-3.0-or-later
"""Compactions that take time: begun by a request, finished by the first request after their end. No threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .couch_errors import Document


@dataclass
class Task:
    """Work that ends at a time (seconds since 1970) with a call of ``finish``."""

    key: tuple[str, str]
    begin: float
    end: float
    description: Document
    finish: Callable[[], None]

    def row(self, now: float) -> Document:
        """Its row of ``/_active_tasks``."""
        total = int(self.description["total_changes"])
        share = min(1.0, (now - self.begin) / (self.end - self.begin)) if self.end > self.begin else 1.0
        times = {"started_on": int(self.begin), "updated_on": int(now)}
        return {**self.description, **times, "changes_done": int(total * share), "progress": int(100 * share)}


@dataclass
class Tasks:
    """What runs. ``extra``: rows of ``/_active_tasks`` that a test wants to see there."""

    running: dict[tuple[str, str], Task] = field(default_factory=dict)
    extra: list[Document] = field(default_factory=list)

    def settle(self, now: float) -> None:
        """Finish what is over."""
        for task in [task for task in self.running.values() if task.end <= now]:
            del self.running[task.key]
            task.finish()

    def start(self, task: Task) -> None:
        """Begin one; a second of the same key while the first runs does nothing, as in CouchDB."""
        self.running.setdefault(task.key, task)

    def cancel(self, database: str) -> None:
        """The database is gone."""
        for key in [key for key in self.running if key[0] == database]:
            del self.running[key]

    def rows(self, now: float) -> list[Document]:
        """``/_active_tasks``."""
        return [*(task.row(now) for task in self.running.values()), *self.extra]
