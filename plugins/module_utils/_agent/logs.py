# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotated logs of an agent's components.

A component writes ``<workDir>/<Component>/ComponentLog`` and keeps up to three older ones of 1 GB each beside it
(WMCore.Agent.Harness: RotatingFileHandler); ``wmcoreD`` keeps each old ``Daemon.xml`` as ``Daemon.xml.BAK.<date>``.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.adopt import find_deployment
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_ROTATED = re.compile(r"ComponentLog\.\d[\w.-]*|Daemon\.xml\.BAK\.[\w.-]+")


@dataclass(frozen=True)
class LogFile:
    """One regular file in a component's folder. modified: UNIX time; size: bytes it takes on disk."""

    path: Path
    modified: float
    size: int


def work_dir_of(root: Path) -> Path:
    """The agent's work area, adopted or not. Raises WMAgentError."""
    layout = AgentLayout(root)
    return layout.work_dir if layout.is_adopted() else find_deployment(root).work_dir


def find_rotated(work_dir: Path) -> list[LogFile]:
    """Rotated logs of all components, by path. Links are neither followed nor found.

    Raises WMAgentError where the work area cannot be read.
    """
    try:
        folders = [entry for entry in sorted(work_dir.iterdir()) if entry.is_dir() and not entry.is_symlink()]
        return [found for folder in folders for file in sorted(folder.iterdir()) if (found := _rotated(file))]
    except OSError as error:
        raise WMAgentError(f"{work_dir} cannot be read ({error.strerror}); is it the agent's work area?") from None


def _rotated(file: Path) -> LogFile | None:
    if not _ROTATED.fullmatch(file.name):
        return None
    try:
        told = file.lstat()
    except FileNotFoundError:  # rotated away meanwhile
        return None
    return LogFile(file, told.st_mtime, told.st_blocks * 512) if stat.S_ISREG(told.st_mode) else None


def older_than(files: Iterable[LogFile], now: float, seconds: float) -> list[LogFile]:
    """Those that were last written to longer ago. One from the future was written by a clock gone wrong, and stays."""
    return [file for file in files if now - file.modified > seconds]


def remove(files: Iterable[LogFile]) -> int:
    """Remove what is still the file that was found; bytes given back. Raises WMAgentError."""
    freed = 0
    for file in files:
        try:
            # A component may have rotated meanwhile: the name then leads to a newer file.
            if file.path.lstat().st_mtime == file.modified:
                file.path.unlink()
                freed += file.size
        except FileNotFoundError:
            continue
        except OSError as error:
            raise WMAgentError(f"{file.path} cannot be removed ({error.strerror}); check its folder's owner") from None
    return freed
