# SPDX-License-Identifier: GPL-3.0-or-later
"""What was changed by hand in an agent that pip installed: its files against the RECORDs of its own packages."""

from __future__ import annotations

import base64
import binascii
import csv
import os
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Wheel
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.drift import (
    Difference,
    is_byte_code_of_a_source,
    read_and_compare,
    walk,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.files import InstalledFile

_DIST_INFO = re.compile(r"^(?P<name>.+?)-(?P<version>[^-]+)\.dist-info$")
# What pip, virtualenv and uv put beside packages without writing it into a RECORD.
_TOOLS_OWN = re.compile(r"^(_virtualenv\.(pth|py)|__editable__.*|.*\.virtualenv|[^/]+\.dist-info/uv_cache\.json)$")


def environment_drift(prefix: Path, image_wheels: Iterable[Wheel] = ()) -> list[Difference]:
    """Every file below ``prefix`` that differs from what its package's RECORD says; sorted by path.

    image_wheels: the wheels of an image of the same tag; packages whose version differs from it are told too, as
                  kind ``version`` (or ``missing``, ``extra``).

    Extra files are looked for among the packages only, since other things may live in the environment. Raises
    WMAgentError where ``prefix`` has no packages.
    """
    libraries = sorted(prefix.glob("lib/python3.*/site-packages"))
    if len(libraries) != 1:
        what = "no" if not libraries else f"{len(libraries)}"
        raise WMAgentError(f"{prefix} has {what} folders lib/python3.*/site-packages; is it the agent's environment?")
    library = libraries[0]
    recorded, below = _read_records(library), _below(library, prefix)
    there = {path: status for path, status in walk(library)}
    found = [
        Difference(path, "extra")
        for path in (f"{below}/{name}" for name in _unexplained(there))
        if path not in recorded and not is_byte_code_of_a_source(path, recorded)
    ]
    to_read = []
    for path, choices in recorded.items():
        status = _status(prefix, path)
        if status is None:
            if not path.endswith(".pyc"):
                found.append(Difference(path, "missing"))
        elif choices and not any(file.size in (-1, status.st_size) for file in choices):
            found.append(Difference(path, "modified", f"{choices[0].size} bytes expected, {status.st_size} there"))
        elif choices:
            to_read.append((path, choices))
    found += _compare(prefix, to_read)
    return sorted(found + distribution_drift(installed_distributions(library), image_wheels))


def distribution_drift(installed: dict[str, str], image_wheels: Iterable[Wheel]) -> list[Difference]:
    """Packages whose version is not the image's. Pure. ``installed``: normalised name → version."""
    expected = {wheel.name: wheel.version for wheel in image_wheels}
    if not expected:
        return []
    found = []
    for name in sorted(expected.keys() | installed.keys()):
        if name not in installed:
            found.append(Difference(name, "missing", f"package {expected[name]} expected"))
        elif name not in expected:
            found.append(Difference(name, "extra", f"package {installed[name]} is not in the image"))
        elif installed[name] != expected[name]:
            found.append(Difference(name, "version", f"package {expected[name]} expected, {installed[name]} there"))
    return found


def installed_distributions(library: Path) -> dict[str, str]:
    """Normalised project name → version, of everything installed in a ``site-packages``."""
    matches = (_DIST_INFO.match(entry.name) for entry in library.glob("*.dist-info"))
    return {re.sub(r"[-_.]+", "-", m["name"]).lower(): m["version"] for m in matches if m}


def _compare(prefix: Path, to_read: list[tuple[str, list[InstalledFile]]]) -> list[Difference]:
    """Two packages may own one path with different content, and the one installed last is right: accept either."""
    first = read_and_compare(prefix, [(path, choices[0]) for path, choices in to_read])
    more = {path: choices[1:] for path, choices in to_read if len(choices) > 1}
    return [
        difference
        for difference in first
        if not any(not read_and_compare(prefix, [(difference.path, file)]) for file in more.get(difference.path, []))
    ]


def _read_records(library: Path) -> dict[str, list[InstalledFile]]:
    """Path relative to the prefix → the contents it may have; an empty list where no RECORD tells a digest."""
    below = _below(library, library.parents[2])
    found: dict[str, list[InstalledFile]] = {}
    for record in sorted(library.glob("*.dist-info/RECORD")):
        try:
            with record.open(encoding="utf-8", newline="") as stream:
                rows = [row for row in csv.reader(stream) if row]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise WMAgentError(f"{record} cannot be read ({error}); check its owner and mode") from None
        for row in rows:
            path = posixpath.normpath(f"{below}/{row[0]}")
            if path.startswith(("/", "../")) or row[0].startswith("/"):
                continue  # a file outside the environment is none of its packages' code
            if path.endswith(".pyc") and "/__pycache__/" in path:
                continue  # Python makes it anew from its source, which is looked at
            choices = found.setdefault(path, [])
            if len(row) > 2 and (digest := _hex(row[1])):
                choices.append(InstalledFile(digest, int(row[2]) if row[2].isdigit() else -1))
    return found


def _hex(recorded: str) -> str:
    algorithm, _, encoded = recorded.partition("=")
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex() if algorithm == "sha256" else ""
    except binascii.Error:
        return ""


def _unexplained(there: dict[str, os.stat_result]) -> list[str]:
    return [path for path in there if not is_byte_code_of_a_source(path, there) and not _TOOLS_OWN.match(path)]


def _status(prefix: Path, path: str) -> os.stat_result | None:
    try:
        return os.stat(f"{prefix}/{path}")  # noqa: PTH116 - 10,000 of them
    except OSError:
        return None


def _below(folder: Path, prefix: Path) -> str:
    return str(folder.relative_to(prefix))
