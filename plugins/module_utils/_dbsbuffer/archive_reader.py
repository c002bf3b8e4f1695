# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what :mod:`archive` wrote: complete steps only, in memory a few thousand rows at a time."""

from __future__ import annotations

import base64
import json
import os
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.archive import FORMAT
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_CHUNK = 64 * 1024
_GZIP = 31
_MEMBER_BEGINS = b"\x1f\x8b\x08\0\0\0\0\0"
_ROWS = re.compile(rb'\["(\w+)",(\d+),\[')


@dataclass(frozen=True)
class Step:
    """One step of a cleanup. start: byte of the file. rows: table -> how many."""

    start: int
    rows: dict[str, int]


@dataclass(frozen=True)
class Contents:
    """What an archive holds.

    time:     UNIX time of its beginning, seconds
    columns:  table -> names of the values of a row
    steps:    complete ones, in the order in which they were written
    complete: nothing is missing
    notice:   what is missing, in words
    """

    file: Path
    database: str
    dialect: str
    time: int
    columns: dict[str, list[str]]
    about: Step
    steps: tuple[Step, ...]
    complete: bool
    notice: str

    @property
    def rows(self) -> dict[str, int]:
        """Table -> rows of all steps."""
        return dict(sum((Counter(step.rows) for step in self.steps), Counter()))


def read_contents(file: Path) -> Contents:
    """Read an archive through and check it.

    Raises WMAgentError: not readable, no archive, of a newer release, or damaged before its end. A step that a crash
    left incomplete at the end is left out, with a notice.
    """
    try:
        with file.open("rb") as stream:
            return _read_all(file, stream)
    except OSError as error:
        raise WMAgentError(f"the archive {file} cannot be read ({error.strerror}); check its path and rights") from None


def describe(archive: Path | Contents) -> dict[str, Any]:
    """What an archive holds, as plain data; nothing is asked of a database. Raises WMAgentError."""
    contents = archive if isinstance(archive, Contents) else read_contents(archive)
    return {
        "database": contents.database,
        "dialect": contents.dialect,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(contents.time)),
        "rows": contents.rows,
        "steps": len(contents.steps),
        "complete": contents.complete,
        "notice": contents.notice,
    }


def read_rows(contents: Contents, step: Step, table: str) -> Iterator[list[list[Any]]]:
    """A table's rows in a step, some at a time, each with its values in the order of ``contents.columns``."""
    wanted = f'["{table}",'.encode("ascii")
    with contents.file.open("rb") as stream:
        stream.seek(step.start)
        for line in _lines(stream):
            if line.startswith(wanted):
                yield json.loads(line, object_hook=_value)[2]


def _read_all(file: Path, stream: BinaryIO) -> Contents:
    size = os.fstat(stream.fileno()).st_size
    about: dict[str, Any] = {}
    steps: list[Step] = []
    end: int | None = None
    start = 0
    while start < size and end is None:
        try:
            step, header, end = _read_member(stream, start, len(steps))
        except (EOFError, ValueError, KeyError, TypeError, zlib.error):
            break
        if not steps:
            about = header
        if end is None:
            steps.append(step)
        start = stream.tell()
    _check(file, stream, about, start)
    complete = end is not None and start == size
    return Contents(
        file,
        str(about["database"]),
        str(about["dialect"]),
        int(about["time"]),
        {str(table): [str(name) for name in names] for table, names in about["columns"].items()},
        steps[0],
        tuple(steps[1:]),
        complete,
        "" if complete else _notice(file, len(steps) - 1, size - start),
    )


def _read_member(stream: BinaryIO, start: int, number: int) -> tuple[Step, dict[str, Any], int | None]:
    """A complete member: its rows, its header, and the number of steps where it is the last. Raises ValueError etc."""
    stream.seek(start)
    rows: Counter[str] = Counter()
    others: list[dict[str, Any]] = []
    for line in _lines(stream):
        if found := _ROWS.match(line):
            rows[found[1].decode("ascii")] += int(found[2])
        else:
            others.append(json.loads(line))
    *header, mark = others
    if "end" in mark:
        if mark["end"] != number - 1:
            raise ValueError("another number of steps")
        return Step(start, {}), {}, number
    if mark["step"] != number or Counter(mark["rows"]) != rows or bool(header) != (number == 0):
        raise ValueError("another number of rows")
    return Step(start, dict(rows)), header[0] if header else {}, None


def _check(file: Path, stream: BinaryIO, about: dict[str, Any], start: int) -> None:
    if not about:
        raise WMAgentError(f"{file} is no archive of a cleanup, or was cut short before its first step")
    if about.get("format") != FORMAT:
        raise WMAgentError(
            f"the archive {file} has format {about.get('format')}, this release of the collection reads {FORMAT}; "
            "use the release that wrote it"
        )
    # Each step is on disk before the next begins, so what a crash left is the last one.
    if _another_begins(stream, start + 1):
        raise WMAgentError(
            f"the archive {file} is damaged at byte {start}, more steps follow there; fetch a copy of it that is not"
        )


def _another_begins(stream: BinaryIO, start: int) -> bool:
    stream.seek(start)
    before = b""
    while data := stream.read(_CHUNK):
        if _MEMBER_BEGINS in before + data:
            return True
        before = data[-len(_MEMBER_BEGINS) :]
    return False


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of the gzip member that begins here; the stream stands behind it afterwards."""
    unpack = zlib.decompressobj(_GZIP)
    rest = b""
    while not unpack.eof:
        data = stream.read(_CHUNK)
        if not data:
            raise EOFError
        *lines, rest = (rest + unpack.decompress(data)).split(b"\n")
        yield from lines
    stream.seek(-len(unpack.unused_data), os.SEEK_CUR)
    if rest:
        raise ValueError("a line without an end")


def _notice(file: Path, steps: int, left: int) -> str:
    tail = f"; {left} bytes behind them are no complete step and are left out" if left else ""
    return f"{file} was cut short: it has {steps} complete steps and no end{tail}"


def _value(tagged: dict[str, Any]) -> Any:
    if "decimal" in tagged:
        return Decimal(tagged["decimal"])
    return base64.b64decode(tagged["bytes"])
