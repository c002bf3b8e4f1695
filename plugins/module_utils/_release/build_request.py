# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is to be built from, and the digest of all of it. Pure but for reading the patch files' content."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import canonical_json, check_image_name
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.manifest import digest_of

BUILDER = 1
"""Raised whenever the same inputs would give another image."""

PROJECT = "wmagent"

_PATCH_FILE = re.compile(r"p([1-9][0-9]*)-.+\.patch")
_NAME = re.compile(r"(?P<tag>[0-9]+(?:\.[0-9]+)+(?:(?:a|b|rc)[0-9]+)?)(?:-p(?P<level>[1-9][0-9]*))?")


def parse_image_name(name: str) -> tuple[str, int]:
    """Tag and patch level of an image name: ``2.4.5.9-p1`` is 2.4.5.9 at level 1."""
    match = _NAME.fullmatch(name)
    if not match:
        raise WMAgentError(f"image name {name!r} is neither <tag> nor <tag>-p<patch level>, like 2.4.5.9 or 2.4.5.9-p1")
    return match["tag"], int(match["level"] or 0)


def patches_in(folder: Path, name: str) -> list[Path]:
    """The patch files ``p<level>-<what>.patch`` of ``folder`` up to the patch level of image ``name``, in order.

    Raises WMAgentError where there is none of that very level.
    """
    level = parse_image_name(name)[1]
    found = [(int(match[1]), file) for file in folder.glob("p*.patch") if (match := _PATCH_FILE.fullmatch(file.name))]
    wanted = sorted((at, file) for at, file in found if at <= level)
    if level and level not in {at for at, _file in wanted}:
        raise WMAgentError(f"{folder} has no patch p{level}-….patch for image {name}; add it or name another image")
    return [file for _at, file in wanted]


@dataclass(frozen=True)
class BuildRequest:
    """All inputs of one image.

    name:               ``<tag>`` or ``<tag>-p<level>``
    requirements:       further requirements (service clients), as pip writes them
    overrides:          requirements that replace what packages ask for
    build_requirements: what sdists are built with, as requirements
    patches:            patch files, in the order to apply
    lock:               content of a lock with hashes; '' to resolve now
    build_lock:         the same for ``build_requirements``
    tools_lock:         lock of the tools part; '' for an image without one
    schema:             describe the schema; False makes an image that no schema guard lets pass
    """

    name: str
    requirements: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    build_requirements: tuple[str, ...] = ("pip", "setuptools<81", "wheel")
    patches: tuple[Path, ...] = ()
    lock: str = field(default="", repr=False)
    build_lock: str = field(default="", repr=False)
    tools_lock: str = field(default="", repr=False)
    schema: bool = True

    def __post_init__(self) -> None:
        check_image_name(self.name)
        level = self.patch_level
        if level and not self.patches:
            raise WMAgentError(
                f"image {self.name} has patch level {level} but no patch; give its patch files or name the plain tag"
            )
        if self.patches and not level:
            raise WMAgentError(f"image {self.name} has patches but no patch level; name it {self.name}-p1")
        for patch in self.patches:
            if not patch.is_file():
                raise WMAgentError(f"patch {patch} does not exist; give the path of a patch file")
        for line in (*self.requirements, *self.overrides, *self.build_requirements):
            if line.lstrip().startswith("-") or "\n" in line:
                raise WMAgentError(
                    f"requirement {line!r} is an option, not a requirement; write it like 'name==version'"
                )

    @property
    def tag(self) -> str:
        """The WMAgent tag."""
        return parse_image_name(self.name)[0]

    @property
    def patch_level(self) -> int:
        """0 for none."""
        return parse_image_name(self.name)[1]

    def digest(self, python: str, platform: str) -> str:
        """Digest of all inputs. The order of requirements and overrides says nothing, that of patches does."""
        return digest_of(
            canonical_json(
                {
                    "builder": BUILDER,
                    "name": self.name,
                    "python": python,
                    "platform": platform,
                    "requirements": sorted(self.requirements),
                    "overrides": sorted(self.overrides),
                    "build_requirements": sorted(self.build_requirements),
                    "patches": [[patch.name, digest_of(patch.read_bytes())] for patch in self.patches],
                    "locks": [digest_of(lock.encode()) for lock in (self.lock, self.build_lock, self.tools_lock)],
                    "schema": self.schema,
                }
            )
        )
