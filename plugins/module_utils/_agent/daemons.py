# SPDX-License-Identifier: GPL-3.0-or-later
"""Daemon.xml and threads.json of components, and whether a process is one of this agent's components.

A pid in a file proves nothing: it may have been reused. A process counts as a component only when its command line,
its current directory and the interpreter it runs agree, and when it is not younger than the Daemon.xml that names it.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import processes
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.processes import Process

DAEMON_FILE = "Daemon.xml"
THREADS_FILE = "threads.json"
LOG_FILE = "ComponentLog"
WATCHDOG = "AgentWatchdog"
"""The component that restarts the others (WMComponent.AgentWatchdog.AgentWatchdogScanner)."""

_YOUNGER_BY = 5.0
"""Seconds a process may seem younger than its own Daemon.xml: boot time is known to about a second only."""

_VALUE = re.compile(r"<(\w+)\s+Value=\"(\d+)\"\s*/>")
_RESTART = re.compile(r"\bwmcoreDTools import (?:restart|startup)\b")


@dataclass(frozen=True)
class Daemon:
    """What one Daemon.xml says; ``written`` is its modification time."""

    pid: int
    pgid: int
    uid: int
    written: float


@dataclass(frozen=True)
class Owner:
    """What makes a process this agent's: the work area its components run in and the prefixes of its releases.

    work_dir: ``General.workDir``, links resolved
    prefixes: ``sys.prefix`` of every release of the agent, links resolved
    """

    work_dir: Path
    prefixes: frozenset[Path] = field(default_factory=frozenset)

    @classmethod
    def of(cls, work_dir: Path, prefixes: Iterable[Path]) -> Owner:
        """With all links resolved."""
        return cls(Path(os.path.realpath(work_dir)), frozenset(Path(os.path.realpath(one)) for one in prefixes))


def read_daemon(component_dir: Path) -> Daemon | None:
    """Daemon.xml of a component; None where it is missing, half-written or makes no sense."""
    file = component_dir / DAEMON_FILE
    try:
        values = dict(_VALUE.findall(file.read_text(encoding="utf-8", errors="replace")))
        return Daemon(
            pid=int(values["ProcessID"]),
            pgid=int(values["ProcessGroupID"]),
            uid=int(values.get("UserID", -1)),
            written=file.stat().st_mtime,
        )
    except (OSError, KeyError, ValueError):
        return None


def move_daemon_file_aside(component_dir: Path) -> Path | None:
    """Rename Daemon.xml to ``Daemon.xml.BAK.<date>`` for a post mortem, as WMCore's own shutdown does.

    Returns the new path; None where there was no file.
    """
    backup = component_dir / f"{DAEMON_FILE}.BAK.{time.strftime('%d-%m-%Y')}"
    try:
        (component_dir / DAEMON_FILE).rename(backup)
    except FileNotFoundError:
        return None
    return backup


def remove_threads_file(component_dir: Path) -> bool:
    """Remove threads.json; False where there was none."""
    try:
        (component_dir / THREADS_FILE).unlink()
    except FileNotFoundError:
        return False
    return True


def remove_timers(component_dir: Path) -> None:
    """Remove the timers that AgentWatchdog left for a component.

    A component signals the thread ids in them (Utils.wmcoreDTools.resetWatchdogTimer), and once AgentWatchdog has
    ended, those may be anyone's.
    """
    for timer in component_dir.glob("Timer-*"):
        timer.unlink(missing_ok=True)


def read_threads(component_dir: Path) -> frozenset[int] | None:
    """Thread ids that threads.json expects beside the main one; None where it is missing or does not parse."""
    try:
        entries = json.loads((component_dir / THREADS_FILE).read_text(encoding="utf-8"))
        return frozenset(int(entry["pid"]) for entry in entries if entry.get("type") == "thread")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def starts_components(cmdline: tuple[str, ...]) -> bool:
    """True for a command line that components run under.

    ``python <prefix>/bin/wmcoreD --start …`` (or ``--restart``), and ``python -c "from Utils.wmcoreDTools import
    restart; …"``, which is what AgentWatchdog runs.
    """
    if not cmdline or not Path(cmdline[0]).name.startswith("python"):
        return False
    if any(argument in ("--start", "--restart") for argument in cmdline):
        return any(Path(argument).name == "wmcoreD" for argument in cmdline[1:6])
    return len(cmdline) > 2 and cmdline[1] == "-c" and bool(_RESTART.search(cmdline[2]))


def running_prefix(process: Process, prefixes: Iterable[Path]) -> Path | None:
    """Which of these prefixes the interpreter of a process belongs to; None for none of them.

    The libraries it has loaded tell it for good, whatever links were switched since; the command line is believed only
    where the process has loaded none from a ``site-packages`` folder.
    """
    candidates = sorted(prefixes, key=lambda one: len(str(one)), reverse=True)
    libraries = [path for path in processes.mapped_files(process.pid) if "/site-packages/" in path]
    found = [one for one in candidates for path in libraries if path.startswith(f"{one}/lib")]
    if found or libraries:
        return found[0] if found else None
    for argument in process.cmdline[:6]:
        if argument.startswith("/") and Path(argument).name in ("wmcoreD", "python"):
            # The interpreter is a link out of the prefix, so only its folder may be resolved.
            prefix = Path(os.path.realpath(Path(argument).parent.parent))
            return prefix if prefix in candidates else None
    return None


def doubts(process: Process, component_dir: Path, owner: Owner, daemon: Daemon | None = None) -> list[str]:
    """Why a process is not (provably) the component that works in ``component_dir``. Empty: it is.

    daemon: the Daemon.xml that names it, where one does.
    """
    if process.dead:
        return ["it is a zombie"]
    found = []
    if not starts_components(process.cmdline):
        found.append("its command line is not a component's")
    directory = processes.working_directory(process.pid)
    if directory is None:
        found.append("its current directory cannot be read")
    elif directory != os.path.realpath(component_dir):
        found.append("its current directory is not the component's")
    if running_prefix(process, owner.prefixes) is None:
        found.append("its interpreter belongs to no release of this agent")
    if daemon and process.started > daemon.written + _YOUNGER_BY:
        found.append("it is younger than the Daemon.xml that names it")
    return found


def component_processes(owner: Owner) -> dict[str, list[Process]]:
    """Processes that look like components and work below the work area, Daemon.xml or not: component -> processes.

    Children that a component forked look the same; whoever has a parent among the found is left out. The interpreter is
    not looked at: ask :func:`doubts` before a signal.
    """
    found: dict[str, list[Process]] = {}
    for process in processes.all_processes():
        if process.dead or not starts_components(process.cmdline):
            continue
        directory = processes.working_directory(process.pid)
        if directory is not None and Path(directory).parent == owner.work_dir:
            found.setdefault(Path(directory).name, []).append(process)
    for component, group in found.items():
        pids = {process.pid for process in group}
        found[component] = [process for process in group if process.ppid not in pids]
    return found


def components_on_disk(work_dir: Path) -> list[str]:
    """Components that have a Daemon.xml, sorted."""
    try:
        return sorted(entry.name for entry in work_dir.iterdir() if (entry / DAEMON_FILE).exists())
    except OSError:
        return []
