# SPDX-License-Identifier: GPL-3.0-or-later
"""What was installed into a release: path, content digest, size and mode of every file. Written into the release."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

FILES_FILE = "files.json"
MTIME = 315532800
"""UNIX time that every installed file carries. One for all, so that releases can share a file and its byte code."""


@dataclass(frozen=True)
class InstalledFile:
    """One file: ``digest`` is its SHA-256 in hex, ``size`` in bytes, ``mode`` its permission bits."""

    digest: str
    size: int
    mode: int = 0o644


@dataclass(frozen=True)
class FileList:
    """files:     path relative to the prefix → file, for everything that the image holds or that is made from it
    links:     path → target of a symbolic link
    byte_code: path → file, for compiled code; it is made here and says nothing about the image
    """

    files: dict[str, InstalledFile] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    byte_code: dict[str, InstalledFile] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Equal lists give equal bytes."""
        body = {
            "files": {path: [f.digest, f.size, f.mode] for path, f in self.files.items()},
            "links": self.links,
            "byte_code": {path: [f.digest, f.size, f.mode] for path, f in self.byte_code.items()},
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def read_file_list(release: Path, expected: str | None = None) -> FileList:
    """The list in the release folder ``release``.

    expected: its digest as ``release.json`` tells it, None to take it as it is.

    Raises WMAgentError where it is missing, damaged or not the expected one.
    """
    file = release / FILES_FILE
    try:
        content = file.read_bytes()
        body = json.loads(content)
        found = FileList(
            files={path: InstalledFile(*entry) for path, entry in body["files"].items()},
            links=dict(body["links"]),
            byte_code={path: InstalledFile(*entry) for path, entry in body["byte_code"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WMAgentError(f"{file} cannot be read ({error}); stage this release again") from None
    if expected is not None and content_digest(content) != expected:
        raise WMAgentError(f"{file} was changed after the release was installed; stage this release again")
    return found


def content_digest(content: bytes) -> str:
    """``sha256:<64 hex>``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()
