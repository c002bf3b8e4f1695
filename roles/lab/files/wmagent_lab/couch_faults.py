# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests have go wrong in the CouchDB stand-in. Not reachable over HTTP."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import Any

from .couch_errors import Answer, ConnectionLostError, StoreError


class DiskFullError(StoreError):
    """What CouchDB 3.5.0 says to a write where the disk is full."""

    def __init__(self) -> None:
        super().__init__(500, "error", "internal_server_error")


@dataclass
class Rule:
    """What happens to the requests that fit.

    times:  to how many of them, -1 for all
    delay:  seconds before anything else
    answer: this instead of the real answer, nothing being done
    lose:   ``before`` it is done or ``after`` it the connection ends without an answer
    """

    pattern: re.Pattern[str]
    times: int = 1
    delay: float = 0
    answer: Answer | None = None
    lose: str = ""


class Faults:
    """Rules for requests, a full disk, a server that dies in the middle of its work, compactions that take time.

    disk_full:          every write is refused; a compaction is still accepted (202), ends at once and has done nothing
    compaction_seconds: how long a compaction of a database or of views takes
    dead:               no request is answered until this is False again
    """

    def __init__(self) -> None:
        self.disk_full = False
        self.compaction_seconds = 0.0
        self.dead = False
        self.seen: list[str] = []
        self._rules: list[Rule] = []
        self._writes_left: int | None = None
        self._lock = threading.Lock()

    def on(self, pattern: str, **more: Any) -> Rule:
        """Have something happen to requests whose ``METHOD /path?query`` the pattern finds; see ``Rule``."""
        rule = Rule(re.compile(pattern), **more)
        self._rules.append(rule)
        return rule

    def die_after(self, writes: int) -> None:
        """After so many documents written or purged (bulk requests too) the server dies and stays dead."""
        self._writes_left = writes

    def revive(self) -> None:
        """Answer again, as after a restart."""
        self.dead, self._writes_left = False, None

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self.revive()
        self.disk_full, self.compaction_seconds = False, 0.0
        self._rules.clear()

    def before(self, request: str) -> tuple[Answer | None, bool]:
        """Called before each request: an answer that replaces it, and whether the connection ends after it."""
        if self.dead:
            raise ConnectionLostError
        rule = self._take(request)
        if rule is None:
            return None, False
        if rule.delay:
            time.sleep(rule.delay)
        if rule.lose == "before":
            raise ConnectionLostError
        return rule.answer, rule.lose == "after"

    def _take(self, request: str) -> Rule | None:
        with self._lock:
            self.seen.append(request)
            del self.seen[:-10000]
            for rule in self._rules:
                if rule.times and rule.pattern.search(request):
                    rule.times -= 1 if rule.times > 0 else 0
                    return rule
        return None

    def write(self) -> None:
        """Called before each document is written or purged."""
        if self.disk_full:
            raise DiskFullError
        if self._writes_left is not None:
            if self._writes_left == 0:
                self.dead = True
                raise ConnectionLostError
            self._writes_left -= 1
