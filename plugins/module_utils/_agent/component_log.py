# SPDX-License-Identifier: GPL-3.0-or-later
"""What a ComponentLog says since its component started, and which of its tracebacks were not there before."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 20
_LIMIT = 32 << 20
"""Bytes looked at from the end of a log, which may grow to 1 GB (WMCore.Agent.Harness)."""

_HISTORY = 4 << 20
"""Bytes before the start that are searched for tracebacks that are nothing new."""

INITIALIZED = ">>>Initialization finished!"
"""Logged by WMCore.Agent.Harness once all workers were created and released."""

_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}:\d+:[A-Z]+:")
_TOOK = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}):\d+:INFO:\w+:(\w+) took ([\d.]+) secs to execute", re.M)
_FATAL = re.compile(r"Error in event loop \(2\)|Error in worker algorithm \(1\)|PostMortem: choked")
_FRAME = re.compile(r'^\s*File "(?:[^"]*/)?([^"/]+)", line \d+, in (\S+)')
_KIND = re.compile(r"^([A-Za-z_][\w.]*)(?::|$)")
# What WMCore.WorkerThreads.BaseWorkerThread and WMCore.Agent.Harness say before the stack, which may follow on the same
# line; where the exception is a WMCore.WMException, its text is a block with the message somewhere in it.
_REASONS = (
    re.compile(r"PostMortem: choked when initializing with error: (.+)"),
    re.compile(r"Error in worker algorithm \(1\):\s*Backtrace:\s*(?:<[^>\n]*>)?\s*(\S.*?)(?=\s*File \"|\n|\Z)"),
    re.compile(r"Error in event loop \(2\):\s*(?:<[^>\n]*>)?\s*(\S.*)"),
)
_WM_EXCEPTION = re.compile(r"<@=+ WMException Start[\s\S]*?^Message: *(\S.*)", re.M)
_TRACE = "Traceback (most recent call last):"


@dataclass(frozen=True)
class Trace:
    """One traceback or fatal message.

    signature: exception type and the functions it came through, without line numbers: the same fault in two releases
    reason:    exception and message, in one line
    excerpt:   its last lines
    fatal:     a worker thread or the component has ended by it
    """

    signature: str
    reason: str
    excerpt: str
    fatal: bool = False


@dataclass(frozen=True)
class LogEvidence:
    """The part of a ComponentLog that was written since the component's start.

    offset:      where that part begins, bytes; -1 where the start was not found in what was looked at
    initialized: the component has said that its initialization is finished
    new:         tracebacks that the part before the start does not hold
    known:       how many tracebacks since the start are also found before it
    """

    path: str
    size: int = 0
    offset: int = -1
    initialized: bool = False
    new: tuple[Trace, ...] = ()
    known: int = 0
    error: str = ""


def read_log(path: Path, component: str, offset: int | None = None) -> LogEvidence:
    """Evidence from a ComponentLog.

    offset: size of the log when the component was started, where that is known; else its last start is searched for.
    """
    try:
        size = path.stat().st_size
        if offset is not None and offset > size:
            offset = 0  # rotated since
        start = offset if offset is not None else find_start(path, component)
        since = read_part(path, max(start, size - _LIMIT, 0), size)
        before = read_part(path, max(0, start - _HISTORY), start) if start > 0 else ""
    except OSError as error:
        return LogEvidence(str(path), error=f"{path} cannot be read ({error.strerror})")
    old = {trace.signature for trace in traces(before)}
    found = traces(since)
    fresh = {trace.signature: trace for trace in found if trace.fatal or trace.signature not in old}
    known = sum(not trace.fatal and trace.signature in old for trace in found)
    return LogEvidence(str(path), size, start, INITIALIZED in since, tuple(fresh.values()), known)


def read_part(path: Path, begin: int, end: int) -> str:
    """Bytes ``begin`` to ``end`` as text."""
    with path.open("rb") as stream:
        stream.seek(begin)
        return stream.read(max(0, end - begin)).decode("utf-8", "replace")


def find_start(path: Path, component: str, limit: int = _LIMIT) -> int:
    """Offset of the component's last start; -1 where it is not within the last ``limit`` bytes.

    WMCore.Agent.Harness logs ``>>>Starting: <component><<<`` as its first line.
    """
    marker = f">>>Starting: {component}<<<".encode()
    end = path.stat().st_size
    floor = max(0, end - limit)
    with path.open("rb") as stream:
        tail = b""
        while end > floor:
            begin = max(floor, end - _CHUNK)
            stream.seek(begin)
            block = stream.read(end - begin) + tail
            if (at := block.rfind(marker)) >= 0:
                return begin + block.rfind(b"\n", 0, at) + 1
            tail, end = block[: len(marker) + 64], begin
    return -1


def traces(text: str) -> list[Trace]:
    """All tracebacks and fatal messages in a piece of log, in order."""
    found: list[Trace] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        fatal = bool(_FATAL.search(lines[at]))
        if fatal or _TRACE in lines[at]:
            end = _end_of_record(lines, at)
            found.append(_trace(lines[at:end], fatal))
            at = end
        else:
            at += 1
    return found


def _end_of_record(lines: list[str], at: int) -> int:
    """Index after the last line of the record that ``at`` belongs to; a record goes on until the next dated line."""
    end = at + 1
    while end < len(lines) and not _PREFIX.match(lines[end]) and _TRACE not in lines[end]:
        end += 1
    return end


def _trace(lines: list[str], fatal: bool) -> Trace:
    frames = [match for line in lines if (match := _FRAME.match(line))]
    last_frame = max((at for at, line in enumerate(lines) if _FRAME.match(line)), default=0)
    # The message after the type may span lines and differ each time, so only the type counts.
    raised = next((line for line in lines[last_frame + 1 :] if _KIND.match(line)), "unknown")
    signature = " ".join(["fatal" if fatal else raised.partition(":")[0], *(f"{one[1]}:{one[2]}" for one in frames)])
    kept = [line for line in lines if line.strip()]
    reason = fatal_reason("\n".join(kept)) if fatal else raised
    return Trace(signature, reason[-500:], "\n".join(kept[-8:])[-2000:], fatal)


def fatal_reason(text: str) -> str:
    """Why a worker or a component has ended, in one line, out of what WMCore logs or writes into wm_workers then."""
    block = _WM_EXCEPTION.search(text)
    for pattern in _REASONS:
        if match := pattern.search(text):
            return block[1].strip() if block and match[1].startswith("<@") else match[1].strip()
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def last_cycles(text: str) -> dict[str, float]:
    """End of each worker's last finished cycle: worker -> seconds since the epoch.

    WMCore.WorkerThreads.BaseWorkerThread logs ``<worker> took <n> secs to execute`` right before it goes to sleep. Log
    times are local: in the hour that a clock change repeats, and where the component has another time zone, the result
    is wrong by whole hours, so it is believed only together with the worker's row.
    """
    found: dict[str, float] = {}
    for date, millis, worker, _ in _TOOK.findall(text):
        found[worker] = time.mktime(time.strptime(date, "%Y-%m-%d %H:%M:%S")) + int(millis) / 1000
    return found


def telling_line(text: str) -> str:
    """The one line of a dying component's last words that says why; empty for an empty text."""
    found = traces(text)
    if fatal := [trace for trace in found if trace.fatal]:
        return fatal[-1].reason
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return found[-1].reason if found else lines[-1][-500:] if lines else ""


def written_since(path: Path, offset: int) -> str:
    """The end of what was written after ``offset``; empty where the log cannot be read."""
    try:
        size = path.stat().st_size
        return read_part(path, max(offset if offset <= size else 0, size - 64 * 1024), size)
    except OSError:
        return ""


def last_lines(text: str, count: int = 15) -> str:
    """The last lines of a text, empty ones left out."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])
