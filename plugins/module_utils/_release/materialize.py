# SPDX-License-Identifier: GPL-3.0-or-later
"""Put planned files in place: as another name of the same file in an installed release, or else from the wheel."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.files import MTIME, FileList, InstalledFile
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.parallel import run_parallel, spread, worker_count
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.wheel_plan import PlannedFile

_BUFFER = 1024 * 1024
_COST_OF_A_FILE = 20_000  # bytes that could be copied in the time it takes to make one


@dataclass(frozen=True)
class Placed:
    """linked:    number of files that an installed release shares
    written:   number of files taken from wheels
    byte_code: byte code that was linked along with its source
    """

    linked: int
    written: int
    byte_code: dict[str, InstalledFile]


class LinkSources:
    """Files of installed releases that a new release may share.

    What a release's own list says is only where to look: a file is shared after its content was read and found right.
    """

    def __init__(self, releases: Iterable[tuple[Path, FileList]]) -> None:
        self._releases = list(releases)
        self._by_digest: dict[tuple[str, int], list[Path]] = {}
        for folder, known in self._releases:
            for path, file in known.files.items():
                self._by_digest.setdefault((file.digest, file.mode), []).append(folder / path)

    def candidates(self, path: str, file: InstalledFile) -> list[Path]:
        """Files that should have this content, the one of the same path first; at most three are worth a look."""
        same_path = [
            folder / path
            for folder, known in self._releases
            if (other := known.files.get(path)) and (other.digest, other.mode) == (file.digest, file.mode)
        ]
        return (same_path + [p for p in self._by_digest.get((file.digest, file.mode), []) if p not in same_path])[:3]

    def byte_code(self, origin: Path, path: str, compiled: str) -> tuple[Path, InstalledFile] | None:
        """Byte code ``compiled`` of the release whose ``path`` is ``origin``, None where there is none."""
        for folder, known in self._releases:
            if folder / path == origin:
                recorded = known.byte_code.get(compiled)
                return (folder / compiled, recorded) if recorded else None
        return None


def byte_code_path(path: str, cache_tag: str) -> str:
    """``a/b.py`` → ``a/__pycache__/b.<cache tag>.pyc``."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{cache_tag}.pyc".lstrip("/")


def place_files(planned: Sequence[PlannedFile], prefix: Path, sources: LinkSources, cache_tag: str) -> Placed:
    """Put ``planned`` under ``prefix``, over several processes.

    cache_tag: of the interpreter, as in the names of byte code.

    Raises WMAgentError where a wheel's content is not what its RECORD says.
    """
    for folder in sorted({os.path.dirname(file.path) for file in planned}):  # noqa: PTH120 - 9,000 of them
        (prefix / folder).mkdir(parents=True, exist_ok=True)

    def work(part: list[PlannedFile]) -> Placed:
        return _place_part(part, prefix, sources, cache_tag)

    parts = run_parallel(work, spread(planned, lambda file: file.file.size + _COST_OF_A_FILE, worker_count()))
    return Placed(
        linked=sum(part.linked for part in parts),
        written=sum(part.written for part in parts),
        byte_code={path: file for part in parts for path, file in part.byte_code.items()},
    )


def _place_part(part: list[PlannedFile], prefix: Path, sources: LinkSources, cache_tag: str) -> Placed:
    linked = 0
    byte_code: dict[str, InstalledFile] = {}
    archives: dict[Path, zipfile.ZipFile] = {}
    for file in part:
        target = prefix / file.path
        origin = _link_first(sources.candidates(file.path, file.file), target, file.file)
        if origin is None:
            _write(target, _content(file, archives), file.file)
            continue
        linked += 1
        compiled = byte_code_path(file.path, cache_tag) if file.path.endswith(".py") else ""
        if compiled and (known := sources.byte_code(origin, file.path, compiled)):
            (prefix / compiled).parent.mkdir(exist_ok=True)
            if _link(known[0], prefix / compiled, known[1]):
                byte_code[compiled] = known[1]
    for archive in archives.values():
        archive.close()
    return Placed(linked, len(part) - linked, byte_code)


def _link_first(candidates: Iterable[Path], target: Path, file: InstalledFile) -> Path | None:
    return next((path for path in candidates if _link(path, target, file)), None)


def _link(origin: Path, target: Path, file: InstalledFile) -> bool:
    """Make ``target`` another name of ``origin``, then read it: what is checked is what stays."""
    try:
        os.link(origin, target, follow_symlinks=False)
    except OSError:  # another file system, too many names, not ours, gone: write it from the wheel
        return False
    if matches(target, file, mtime=None if target.suffix == ".pyc" else MTIME):
        return True
    target.unlink()
    return False


def matches(path: Path, file: InstalledFile, mtime: int | None = None) -> bool:
    """True where ``path`` is a regular file of ours with this content and mode (and modification time, if given)."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        status = os.fstat(handle)
        if (
            not stat.S_ISREG(status.st_mode)
            or stat.S_IMODE(status.st_mode) != file.mode
            or status.st_size != file.size
            or status.st_uid != os.geteuid()
            or (mtime is not None and status.st_mtime != mtime)
        ):
            return False
        return digest_of_handle(handle) == file.digest
    finally:
        os.close(handle)


def digest_of_handle(handle: int) -> str:
    """SHA-256 in hex of an open file, from its start."""
    seen = hashlib.sha256()
    while chunk := os.read(handle, _BUFFER):
        seen.update(chunk)
    return seen.hexdigest()


def _content(file: PlannedFile, archives: dict[Path, zipfile.ZipFile]) -> bytes:
    if file.blob is None:
        return file.content
    if file.blob not in archives:
        archives[file.blob] = zipfile.ZipFile(file.blob)
    try:
        content = archives[file.blob].read(file.member)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise WMAgentError(f"{file.wheel} cannot be unpacked at {file.member} ({error}); stage it again") from None
    if hashlib.sha256(content).hexdigest() != file.file.digest:
        raise WMAgentError(f"{file.wheel}: {file.member} is not what the wheel's RECORD says; build the image again")
    return content


def _write(target: Path, content: bytes, file: InstalledFile) -> None:
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
        os.fchmod(handle, file.mode)
        os.utime(handle, (MTIME, MTIME))
    finally:
        os.close(handle)


def place_links(links: Mapping[str, str], prefix: Path) -> None:
    """Make symbolic links: path relative to ``prefix`` → target."""
    for path, target in links.items():
        (prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (prefix / path).symlink_to(target)
