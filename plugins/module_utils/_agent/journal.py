# SPDX-License-Identifier: GPL-3.0-or-later
"""What a switch in progress has done so far, so that the next run can finish it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

STEPS = ("stopping", "stopped", "linked", "started")
"""``stopping``: signals may be on their way. ``stopped``: none of ours runs, the records were read.
``linked``: ``current`` points to the target. ``started``: the records were compared; the verdict is due."""


@dataclass(frozen=True)
class Journal:
    """One switch.

    origin:  folder name of the release that was current before
    target:  folder name of the release to become current
    step:    one of STEPS, the last one that was begun
    before:  the records as they were read at ``stopped``
    details: figures of the steps that are over, for the ledger
    recorded: the ledger has an entry on this switch, whose verdict was left to a person
    back:    it is a way back: ``target`` is the release that was known to run, ``origin`` the one to get away from
    """

    rollout: str
    origin: str
    target: str
    step: str
    before: dict[str, Any] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    recorded: bool = False
    back: bool = False

    def at(self, step: str, **changes: Any) -> Journal:
        """The same switch at another step."""
        if step not in STEPS:
            raise ValueError(step)
        return replace(self, step=step, **changes)


def read_journal(layout: AgentLayout) -> Journal | None:
    """The switch that is under way, or None. Raises WMAgentError where the file does not parse."""
    try:
        data = json.loads(layout.journal.read_text(encoding="utf-8"))
        return Journal(**data)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise WMAgentError(
            f"{layout.journal} cannot be read ({error}); look at current and the running components, then remove it"
        ) from None


def write_journal(layout: AgentLayout, journal: Journal) -> None:
    """Replace the journal; on disk before this returns."""
    temporary = layout.journal.with_name(".journal.json.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(asdict(journal), stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(layout.journal)


def clear_journal(layout: AgentLayout) -> bool:
    """Remove it; True where there was one."""
    try:
        layout.journal.unlink()
    except FileNotFoundError:
        return False
    return True


@contextmanager
def exclusive(layout: AgentLayout, timeout: float = 60) -> Iterator[None]:
    """Only one process at a time changes an agent: also one whose controller has died but which still runs.

    timeout: seconds to wait for another. Raises WMAgentError after that.
    """
    descriptor = os.open(_guard(layout), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + timeout
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WMAgentError(
                        f"another process has been changing {layout.root} for {timeout:g} s; wait for it to end"
                    ) from None
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _guard(layout: AgentLayout) -> Path:
    return layout.deploy / "guard"
