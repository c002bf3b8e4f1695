# SPDX-License-Identifier: GPL-3.0-or-later
"""What /proc tells about processes, and signals that can only reach the process that was looked at."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_TICKS = os.sysconf("SC_CLK_TCK")
_DELETED = " (deleted)"


@dataclass(frozen=True)
class Process:
    """One process at the moment it was read.

    state:       the letter of /proc/<pid>/stat: R S D T t Z X I
    start_ticks: clock ticks after boot; together with the pid it names a process for good
    sid:         session; only descendants of its leader can be in it
    cmdline:     arguments, trailing empty ones left out; empty for a zombie
    cpu_ticks:   user and system time of all threads, in clock ticks
    """

    pid: int
    ppid: int
    pgid: int
    sid: int
    state: str
    start_ticks: int
    uid: int
    comm: str
    cmdline: tuple[str, ...]
    cpu_ticks: int = 0

    @property
    def dead(self) -> bool:
        """True for a zombie or a process on its way out."""
        return self.state in ("Z", "X", "x")

    @property
    def started(self) -> float:
        """Start time, seconds since the epoch, as precise as the boot time in /proc/stat (about a second)."""
        return boot_time() + self.start_ticks / _TICKS


def boot_time() -> float:
    """Boot time of this host in seconds since the epoch."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def read_process(pid: int) -> Process | None:
    """The process with this pid, None where there is none."""
    folder = Path(f"/proc/{pid}")
    try:
        stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        uid = folder.stat().st_uid
        raw = (folder / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The command stands in parentheses and may hold spaces and parentheses itself.
    head, _, tail = stat.rpartition(")")
    fields = tail.split()
    return Process(
        pid=pid,
        ppid=int(fields[1]),
        pgid=int(fields[2]),
        sid=int(fields[3]),
        state=fields[0],
        start_ticks=int(fields[19]),
        uid=uid,
        comm=head.partition("(")[2],
        cmdline=_arguments(raw),
        cpu_ticks=int(fields[11]) + int(fields[12]),
    )


def _arguments(raw: bytes) -> tuple[str, ...]:
    text = raw.rstrip(b"\0").decode("utf-8", "replace")
    return tuple(text.split("\0")) if text else ()


def all_processes() -> Iterator[Process]:
    """Every process this user may read."""
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is needed, of thousands of entries
        if entry.isdigit() and (process := read_process(int(entry))):
            yield process


def session_members(sessions: Container[int]) -> Iterator[Process]:
    """Living processes in these sessions. Looks at one small file of each other process only."""
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if not entry.isdigit():
            continue
        try:
            stat = Path(f"/proc/{entry}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if int(stat.rpartition(b")")[2].split()[3]) in sessions:
            process = read_process(int(entry))
            if process and not process.dead and process.sid in sessions:
                yield process


def thread_ids(pid: int) -> dict[int, str]:
    """Live threads of a process, the main one included: thread id -> state letter. Empty where it is gone."""
    found: dict[int, str] = {}
    try:
        names = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
    except (FileNotFoundError, ProcessLookupError):
        return found
    for name in names:
        try:
            stat = Path(f"/proc/{pid}/task/{name}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state = stat.rpartition(")")[2].split()[0]
        if state not in ("Z", "X", "x"):
            found[int(name)] = state
    return found


def working_directory(pid: int) -> str | None:
    """Current directory of a process, None where it is gone or may not be read."""
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink()).removesuffix(_DELETED)
    except OSError:
        return None


def mapped_files(pid: int) -> set[str]:
    """Files a process has mapped into memory, links resolved by the kernel. Empty where they may not be read."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    paths = (line.split(maxsplit=5)[5] for line in lines if line.count("/") and len(line.split(maxsplit=5)) == 6)
    return {path.removesuffix(_DELETED) for path in paths if path.startswith("/")}


def open_files(pid: int) -> set[str]:
    """Paths of the files a process has open. Empty where they may not be read."""
    found: set[str] = set()
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208
    except OSError:
        return found
    for number in numbers:
        try:
            found.add(str(Path(f"/proc/{pid}/fd/{number}").readlink()).removesuffix(_DELETED))
        except OSError:
            continue
    return found


def environment(pid: int) -> dict[str, str]:
    """Environment a process was started with. It may hold secrets: never print it. Empty where it may not be read."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition("=") for item in raw.decode("utf-8", "replace").split("\0") if "=" in item)
    return {name: value for name, _, value in pairs}


class Handle:
    """A process that can be signalled and awaited without ever hitting another one that took over its pid.

    Where the kernel has no pidfd (before 5.3) the start time is compared right before each signal instead.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.fd: int | None = None
        try:
            self.fd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self.gone = True
            return
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EMFILE):
                raise
        # The pid may have changed hands between the look at it and pidfd_open.
        self.gone = not self._same()

    def _same(self) -> bool:
        now = read_process(self.process.pid)
        return now is not None and not now.dead and now.start_ticks == self.process.start_ticks

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False where the process is gone. Raises PermissionError for another user's process."""
        if self.gone:
            return False
        try:
            if self.fd is not None:
                signal.pidfd_send_signal(self.fd, number)
            elif self._same():
                os.kill(self.process.pid, number)
            else:
                self.gone = True
        except ProcessLookupError:
            self.gone = True
        return not self.gone

    def alive(self) -> bool:
        """False once the process ended, zombies included."""
        if not self.gone:
            if self.fd is not None:
                poller = select.poll()
                poller.register(self.fd, select.POLLIN)
                self.gone = bool(poller.poll(0))
            else:
                self.gone = not self._same()
        return not self.gone

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
            self.gone = True

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def wait_gone(handles: Iterable[Handle], timeout: float) -> list[Handle]:
    """Wait until one of these processes ended or ``timeout`` seconds passed; those that live on.

    One that ended before the call counts: it returns at once.
    """
    handles = list(handles)
    living = [handle for handle in handles if handle.alive()]
    if len(living) < len(handles) or not living or timeout <= 0:
        return living
    poller = select.poll()
    watched = [handle for handle in living if handle.fd is not None]
    for handle in watched:
        assert handle.fd is not None  # for the type checker: filtered above
        poller.register(handle.fd, select.POLLIN)
    # Without a pidfd there is nothing to be woken by: look again soon.
    limit = timeout if len(watched) == len(living) else min(timeout, 0.02)
    poller.poll(limit * 1000)
    return [handle for handle in living if handle.alive()]
