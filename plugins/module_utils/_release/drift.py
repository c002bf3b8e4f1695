# SPDX-License-Identifier: GPL-3.0-or-later
"""Every file of a release that is not what its image says: how a hand-patched agent is found."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import RELEASE_FILE, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.config_file import (
    CONFIG_FILE,
    DIGEST_FILE,
    is_as_written,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.files import (
    FILES_FILE,
    FileList,
    InstalledFile,
    read_file_list,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.materialize import digest_of_handle
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.parallel import run_parallel, spread, worker_count

OWN_FILES = frozenset({FILES_FILE, "image.json", RELEASE_FILE, CONFIG_FILE, DIGEST_FILE})
"""What a release holds besides its image."""


@dataclass(frozen=True, order=True)
class Difference:
    """One file that differs.

    path:   relative to the prefix
    kind:   ``modified``, ``missing``, ``extra``, ``mode``, or ``version`` for a whole distribution
    detail: what was expected and what is there, '' where the kind says it all
    """

    path: str
    kind: str
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for module results."""
        return {"path": self.path, "kind": self.kind, "detail": self.detail}


def release_drift(release: Release) -> list[Difference]:
    """Every file of an installed release that is not as its image says, its config included; sorted by path.

    Where the release's own list was changed, that is the one difference that can be told.
    """
    try:
        expected = json.loads((release.path / RELEASE_FILE).read_bytes())["files"]
        listed = read_file_list(release.path, expected)
    except (OSError, ValueError, KeyError, TypeError, WMAgentError) as error:
        return [Difference(FILES_FILE, "modified", str(error))]
    found = tree_drift(release.path, listed)
    if is_as_written(release.path) is not True:
        found.append(Difference(CONFIG_FILE, "modified" if release.config.exists() else "missing"))
    elif (mode := stat.S_IMODE(release.config.stat().st_mode)) != 0o600:
        found.append(Difference(CONFIG_FILE, "mode", f"0600 expected, {mode:04o} there"))
    return sorted(found)


def tree_drift(prefix: Path, expected: FileList) -> list[Difference]:
    """Compare all that is under ``prefix`` with ``expected``; sorted by path.

    Byte code next to its source is left out: Python makes it anew. Without a source it is what runs, so it counts.
    Raises WMAgentError where the folder cannot be read.
    """
    there = {path: status for path, status in walk(prefix)}
    found = [Difference(path, "missing") for path in (expected.files.keys() | expected.links.keys()) - there.keys()]
    to_read: list[tuple[str, InstalledFile]] = []
    for path, status in there.items():
        if path in expected.links:
            found += _link_difference(prefix, path, status, expected.links[path])
        elif (file := expected.files.get(path)) is not None:
            found += _quick_difference(path, status, file)
            if stat.S_ISREG(status.st_mode) and status.st_size == file.size:
                to_read.append((path, file))
        elif path not in OWN_FILES and not _is_cache_of_one(path, there, expected.files):
            found.append(Difference(path, "extra"))
    return sorted(found + read_and_compare(prefix, to_read))


def read_and_compare(prefix: Path, files: list[tuple[str, InstalledFile]]) -> list[Difference]:
    """Those of ``files`` whose content has another digest; read over several processes."""

    def work(part: list[tuple[str, InstalledFile]]) -> list[Difference]:
        return [Difference(path, "modified") for path, file in part if _digest(prefix, path) != file.digest]

    parts = spread(files, lambda entry: entry[1].size + 20_000, worker_count())
    return [difference for answer in run_parallel(work, parts) for difference in answer]


def is_byte_code_of_a_source(path: str, there: Any) -> bool:
    """True for ``a/__pycache__/b.cpython-311.pyc`` where ``a/b.py`` is among ``there``."""
    folder, _, name = path.rpartition("/")
    if not name.endswith(".pyc") or folder.rpartition("/")[2] != "__pycache__":
        return False
    package = folder.rpartition("/")[0]
    source = name.partition(".")[0] + ".py"
    return (f"{package}/{source}" if package else source) in there


def walk(prefix: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file and link under ``prefix``, folders that are links not entered."""
    root = os.fspath(prefix)
    waiting = [root]
    try:
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        yield entry.path[len(root) + 1 :], entry.stat(follow_symlinks=False)
    except OSError as error:
        raise WMAgentError(f"{error.filename or prefix} cannot be read ({error.strerror}); check its owner") from None


def _is_cache_of_one(path: str, *sources: Any) -> bool:
    return any(is_byte_code_of_a_source(path, known) for known in sources)


def _link_difference(prefix: Path, path: str, status: os.stat_result, target: str) -> list[Difference]:
    if not stat.S_ISLNK(status.st_mode):
        return [Difference(path, "modified", f"a link to {target} expected")]
    seen = str((prefix / path).readlink())
    return [] if seen == target else [Difference(path, "modified", f"a link to {target} expected, it leads to {seen}")]


def _quick_difference(path: str, status: os.stat_result, file: InstalledFile) -> list[Difference]:
    if not stat.S_ISREG(status.st_mode):
        return [Difference(path, "modified", "a regular file expected")]
    if status.st_size != file.size:
        return [Difference(path, "modified", f"{file.size} bytes expected, {status.st_size} there")]
    mode = stat.S_IMODE(status.st_mode)
    return [] if mode == file.mode else [Difference(path, "mode", f"{file.mode:04o} expected, {mode:04o} there")]


def _digest(prefix: Path, path: str) -> str:
    try:
        handle = os.open(prefix / path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        return f"unreadable: {error.strerror}"
    try:
        return digest_of_handle(handle)
    finally:
        os.close(handle)
