# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller remembers of a drain under way, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.watching import kept
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


@dataclass
class Memory:
    """One agent's drain.

    began:    UNIX time at which it was put into drain mode, or was found in it; 0.0 before
    readings: results of drain_info, the newest last
    events:   what was done on the way, each ``{"time", "what"}``
    told:     what the last run that ended has told it came to
    """

    file: Path
    began: float = 0.0
    readings: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    told: str = ""

    @classmethod
    def of(cls, state_dir: Path, fleet: str, agent: str) -> Memory:
        """What is remembered; a new one where there is nothing. Raises WMAgentError where the file is damaged."""
        key = hashlib.sha256(fleet.encode()).hexdigest()[:16]
        file = state_dir / f"drain-{key}-{agent.replace('/', '_')}.json"
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            return cls(file, float(found["began"]), list(found["readings"]), list(found["events"]), str(found["told"]))
        except FileNotFoundError:
            return cls(file)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WMAgentError(f"{file} cannot be read ({error}); remove it: only rates and times are lost") from None

    def save(self) -> None:
        """Raises WMAgentError where the folder cannot be written."""
        self.readings = kept(self.readings)
        told = {"began": self.began, "readings": self.readings, "events": self.events, "told": self.told}
        partial = self.file.with_suffix(".new")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(told), encoding="utf-8")
            partial.replace(self.file)
        except OSError as error:
            raise WMAgentError(
                f"{self.file.parent} cannot be written ({error.strerror}); set wmagent_state_dir to a folder that can"
            ) from None

    def forget(self) -> None:
        """The drain is over: the agent takes work again."""
        self.file.unlink(missing_ok=True)


@contextmanager
def one_at_a_time(state_dir: Path) -> Iterator[None]:
    """While one agent asks whether it may begin and begins, no other does. Raises WMAgentError."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state_dir / "drain-guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise WMAgentError(
            f"{state_dir} cannot be written ({error.strerror}); set wmagent_state_dir to a folder that can"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
