# SPDX-License-Identifier: GPL-3.0-or-later
"""One rollout at a time on an agent: a lock file that says whose it is and when it expires."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


@dataclass(frozen=True)
class Lock:
    """What stands in the lock file.

    owner:   ``user@controller``
    rollout: id of the rollout that holds it
    taken:   UNIX time, seconds
    expires: UNIX time, seconds; from then on another rollout may take it
    """

    owner: str
    rollout: str
    taken: float
    expires: float

    def describe(self, now: float) -> str:
        """For a message to a person."""
        left = self.expires - now
        when = f"expires in {left / 60:.0f} min" if left > 0 else f"expired {-left / 60:.0f} min ago"
        return f"rollout {self.rollout} of {self.owner} ({when})"


def read_lock(path: Path) -> Lock | None:
    """The lock that is held, or None. Raises WMAgentError where the file does not parse: nobody may guess then."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Lock(str(data["owner"]), str(data["rollout"]), float(data["taken"]), float(data["expires"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise WMAgentError(
            f"lock file {path} cannot be read; make sure that no rollout runs on this agent, then remove it"
        ) from None


def refusal(held: Lock | None, rollout: str, break_lock: str, now: float) -> str | None:
    """Why ``rollout`` may not take the lock, or None where it may.

    It may when nobody holds it, it holds it itself, it has expired, or ``break_lock`` names the holder's id.
    """
    if held is None or held.rollout == rollout or held.expires <= now or (break_lock and held.rollout == break_lock):
        return None
    return (
        f"lock held by {held.describe(now)}; wait for it, or run again with -e wmagent_break_lock={held.rollout} "
        "once you know that it is dead"
    )


def take_lock(
    path: Path, *, owner: str, rollout: str, ttl: float, break_lock: str = "", clock: Callable[[], float] = time.time
) -> tuple[Lock, Lock | None]:
    """Take or renew the lock for ``ttl`` seconds. Returns it and the other rollout's lock that it replaced, if any.

    Raises WMAgentError where another rollout holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    guard = os.open(path.parent, os.O_RDONLY)
    try:
        _flock(guard)  # two controllers that take an expired lock at the same moment
        now = clock()
        held = read_lock(path)
        if reason := refusal(held, rollout, break_lock, now):
            raise WMAgentError(reason)
        renewed = held is not None and held.rollout == rollout
        mine = Lock(owner, rollout, held.taken if held and renewed else now, now + ttl)
        temporary = path.with_name(f".lock.{os.getpid()}")
        temporary.write_text(json.dumps(asdict(mine)), encoding="utf-8")
        temporary.replace(path)
        return mine, None if renewed else held
    finally:
        os.close(guard)


def release_lock(path: Path, rollout: str) -> bool:
    """Remove the lock if ``rollout`` holds it; True where something was removed. Another's lock is left alone."""
    if not path.parent.is_dir():
        return False
    guard = os.open(path.parent, os.O_RDONLY)
    try:
        _flock(guard)
        held = read_lock(path)
        if held is None or held.rollout != rollout:
            return False
        path.unlink()
        return True
    finally:
        os.close(guard)


def _flock(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)
