# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's memory of a rollout under way: the same command after an interruption is the same rollout."""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


@dataclass(frozen=True)
class Rollout:
    """A rollout that was opened and not yet closed.

    id:      ``<UTC time>-<what>``
    owner:   ``user@controller``
    subject: what it brings about: an image digest, or a release to go back to
    pid, pid_start: the ansible-playbook that runs it
    """

    id: str
    owner: str
    subject: str
    pid: int
    pid_start: str


def owner_name() -> str:
    """``user@controller`` of this process."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def process_start(pid: int) -> str:
    """Start time of a process in clock ticks since boot, '' where it does not run."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def open_rollout(
    folder: Path, fleet: str, subject: str, label: str, pid: int, wanted: str = ""
) -> tuple[Rollout, bool]:
    """Open a rollout, or take up the one that was interrupted. Returns it and whether it was taken up.

    fleet:  identity of the inventory; two inventories never share a rollout
    label:  the readable end of a new id
    pid:    the ansible-playbook process
    wanted: id to go on with, where another controller began it

    Raises WMAgentError where the same rollout runs right now in another process of this controller.
    """
    file = _file(folder, fleet, subject)
    with _guarded(folder):
        found = _read(file)
        if found and found.pid != pid and found.pid_start and process_start(found.pid) == found.pid_start:
            raise WMAgentError(
                f"rollout {found.id} is being run by process {found.pid} on this controller; wait for it to end"
            )
        name = wanted or (found.id if found else f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{label}")
        rollout = Rollout(name, owner_name(), subject, pid, process_start(pid))
        temporary = file.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(rollout)), encoding="utf-8")
        temporary.replace(file)
        return rollout, found is not None or bool(wanted)


def rollout_under_way(folder: Path, fleet: str, subject: str) -> str:
    """Id of the rollout that was opened and not closed, '' where there is none. Changes nothing."""
    found = _read(_file(folder, fleet, subject))
    return found.id if found else ""


def close_rollout(folder: Path, fleet: str, subject: str, rollout: str) -> bool:
    """Forget a rollout that ended in an orderly way; True where it was open."""
    file = _file(folder, fleet, subject)
    with _guarded(folder):
        found = _read(file)
        if found is None or found.id != rollout:
            return False
        file.unlink()
        return True


def _file(folder: Path, fleet: str, subject: str) -> Path:
    key = hashlib.sha256("\n".join((fleet, subject)).encode()).hexdigest()[:16]
    return folder / f"rollout-{key}.json"


def _read(file: Path) -> Rollout | None:
    try:
        return Rollout(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise WMAgentError(f"{file} cannot be read ({error}); see that no rollout runs, then remove it") from None


@contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise WMAgentError(
            f"{folder} cannot be written ({error.strerror}); set wmagent_state_dir to a folder that can"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
