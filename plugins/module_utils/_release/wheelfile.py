# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheel files: what their names and contents tell, and writing one so that equal content gives equal bytes."""

from __future__ import annotations

import base64
import hashlib
import re
import tarfile
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import RELEASE_PART, Wheel

EPOCH = 315532800
"""Seconds; 1980-01-01T00:00:00Z, the oldest time that a zip can hold."""

_EPOCH_FIELDS = (1980, 1, 1, 0, 0, 0)
_LEGACY_GLIBC = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_MANYLINUX = re.compile(r"manylinux_(\d+)_(\d+)_")
_SYMBOL_VERSION = re.compile(rb"GLIBC_(\d+)\.(\d+)")


@dataclass(frozen=True)
class WheelName:
    """The parts of a wheel's file name; ``tags`` are its platform tags."""

    name: str
    version: str
    tags: tuple[str, ...]


def normal_name(name: str) -> str:
    """A project's name as indexes compare it: ``Rucio_Clients`` is ``rucio-clients``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_wheel_name(filename: str) -> WheelName:
    """Take a wheel's file name apart; WMAgentError where it is none."""
    fields = filename.removesuffix(".whl").split("-")
    if not filename.endswith(".whl") or len(fields) not in (5, 6):
        raise WMAgentError(f"{filename} is not a wheel's file name; remove it and build again")
    return WheelName(normal_name(fields[0]), fields[1], tuple(fields[-1].split(".")))


def file_digest(path: Path) -> str:
    """``sha256:<64 hex>`` of a file."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def describe_wheel(path: Path, part: str = RELEASE_PART) -> Wheel:
    """The entry of an image description for one wheel file."""
    name = parse_wheel_name(path.name)
    return Wheel(path.name, file_digest(path), path.stat().st_size, name.name, name.version, part)


def unpacked_size(path: Path) -> int:
    """Bytes of a wheel's files once unpacked."""
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def newest_entry(path: Path) -> str:
    """The newest time stamp inside a wheel or an sdist as RFC 3339 text. Zips know no zone; theirs is taken as UTC."""
    if path.name.endswith((".whl", ".zip")):
        with zipfile.ZipFile(path) as archive:
            year, month, day, hour, minute, second = max(entry.date_time for entry in archive.infolist())
        return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{min(second, 59):02d}Z"
    with tarfile.open(path) as packed:
        newest = max(int(member.mtime) for member in packed)
    return datetime.fromtimestamp(newest, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def oldest_glibc(path: Path) -> tuple[int, int] | None:
    """The oldest glibc that a wheel runs with: by its manylinux tag, else by its symbols; None for pure Python."""
    tags = parse_wheel_name(path.name).tags
    if tags == ("any",):
        return None
    named = [found for tag in tags if (found := _tag_glibc(tag))]
    return min(named) if named else _symbols_glibc(path)


def glibc_of(paths: list[Path]) -> str:
    """The oldest glibc that all of ``paths`` run with, like ``2.28``; '' where none of them is compiled."""
    needed = [found for path in paths if (found := oldest_glibc(path))]
    return "{}.{}".format(*max(needed)) if needed else ""


def record_line(name: str, content: bytes) -> str:
    """One line of a RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode("ascii")
    quoted = '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name
    return f"{quoted},sha256={digest},{len(content)}"


def write_wheel(tree: Path, target: Path) -> None:
    """Pack an unpacked wheel: RECORD made anew, entries sorted, one time stamp, plain modes.

    tree:   folder with the wheel's content, one ``*.dist-info`` in it
    target: file to write; its name is not checked against the content
    """
    info = dist_info(tree)
    record = f"{info.name}/RECORD"
    names = [p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file()]
    names = [name for name in names if name not in (record, f"{record}.jws", f"{record}.p7s")]
    # Installers read the metadata from the end of the file.
    names.sort(key=lambda name: (name.startswith(info.name + "/"), name))
    lines = []
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            file = tree / name
            content = file.read_bytes()
            lines.append(record_line(name, content))
            _add(archive, name, content, executable=bool(file.stat().st_mode & 0o100))
        lines.append(f"{record},,")
        _add(archive, record, ("\n".join(lines) + "\n").encode(), executable=False)


def unpack_wheel(path: Path, folder: Path) -> None:
    """Unpack a wheel with its executable bits. WMAgentError where it is damaged or reaches outside ``folder``."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                parts = entry.filename.split("/")
                if entry.filename.startswith("/") or ".." in parts:
                    raise WMAgentError(
                        f"{path.name} holds the path {entry.filename}, outside of it; do not use this wheel"
                    )
                target = Path(archive.extract(entry, folder))
                if not entry.is_dir():
                    target.chmod(0o755 if (entry.external_attr >> 16) & 0o100 else 0o644)
    except zipfile.BadZipFile as error:
        raise WMAgentError(f"{path} is damaged ({error}); remove it and build again") from None


def dist_info(tree: Path) -> Path:
    """The one ``*.dist-info`` folder of an unpacked wheel."""
    found = list(tree.glob("*.dist-info"))
    if len(found) != 1:
        raise WMAgentError(f"the wheel in {tree} has {len(found)} dist-info folders instead of one; do not use it")
    return found[0]


def normalise_wheel(path: Path, target: Path, scratch: Path) -> None:
    """Rewrite a wheel built here so that only its content decides its bytes. ``scratch`` is an empty folder."""
    unpack_wheel(path, scratch)
    write_wheel(scratch, target)


def _add(archive: zipfile.ZipFile, name: str, content: bytes, *, executable: bool) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH_FIELDS)
    entry.create_system = 3
    entry.external_attr = (0o100755 if executable else 0o100644) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content, compresslevel=6)


def _tag_glibc(tag: str) -> tuple[int, int] | None:
    if match := _MANYLINUX.match(tag):
        return int(match[1]), int(match[2])
    return _LEGACY_GLIBC.get(tag.split("_")[0])


def _symbols_glibc(path: Path) -> tuple[int, int] | None:
    needed: set[tuple[int, int]] = set()
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if ".so" in entry.filename:
                for major, minor in _SYMBOL_VERSION.findall(archive.read(entry)):
                    needed.add((int(major), int(minor)))
    return max(needed, default=None)
