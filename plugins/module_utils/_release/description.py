# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is: its wheels, its patches, where it runs, the schema it expects. Plain data, no I/O."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

RELEASE_PART = "release"
"""Wheels that make up the WMAgent release itself."""

TOOLS_PART = "tools"
"""Wheels that the modules of this collection import on an agent."""

FORMAT = 1
"""Version of the description; another one is refused."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_WHEEL_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+!-]*\.whl")


def check_image_name(name: str) -> str:
    """Return ``name`` where it can be an image name (and an OCI tag); WMAgentError otherwise."""
    if not _NAME.fullmatch(name):
        raise WMAgentError(f"image name {name!r} is not usable: use letters, digits, '.', '_' and '-', like 2.4.5.9-p1")
    return name


def check_digest(digest: str) -> str:
    """Return ``digest`` where it reads ``sha256:<64 hex>``; WMAgentError otherwise."""
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise WMAgentError(f"{digest!r} is not a digest: expected sha256: and 64 hexadecimal digits")
    return digest


def canonical_json(data: Any) -> bytes:
    """One and only one spelling of ``data``: sorted keys, no spaces, ASCII."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


@dataclass(frozen=True)
class Wheel:
    """One wheel of an image, which is one layer.

    filename: as it is installed, e.g. ``wmagent-2.4.5.9+p1-py3-none-any.whl``
    digest:   ``sha256:<64 hex>`` of the file
    size:     bytes of the file
    name:     normalised project name, e.g. ``rucio-clients``
    version:  e.g. ``35.7.0``
    part:     ``release`` or ``tools``
    """

    filename: str
    digest: str
    size: int
    name: str
    version: str
    part: str = RELEASE_PART

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as it stands in the description."""
        return {
            "filename": self.filename,
            "digest": self.digest,
            "size": self.size,
            "name": self.name,
            "version": self.version,
            "part": self.part,
        }


@dataclass(frozen=True)
class Patch:
    """One patch file that went into the WMAgent wheel; ``digest`` is of the file."""

    name: str
    digest: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as it stands in the description."""
        return {"name": self.name, "digest": self.digest}


@dataclass(frozen=True)
class ImageDescription:
    """Everything an agent has to know about an image before it takes it.

    name:               ``<tag>`` or ``<tag>-p<patch level>``
    tag:                the WMAgent tag, e.g. ``2.4.5.9``
    version:            version of the WMAgent wheel inside, e.g. ``2.4.5.9+p1``
    patch_level:        0 for none
    patches:            in the order they were applied
    python:             ``3.11``
    platform:           ``linux-x86_64``
    glibc:              the oldest C library its wheels run with, ``''`` where none is compiled
    created:            RFC 3339, from the content, never from the clock
    wheels:             sorted by part and file name
    lock:               ``<name>==<version> <digest>`` of each file it was made from (of the sdist where one was built)
    schema:             for ``mariadb`` and ``oracle`` the structure that its own code creates, None where unknown
    schema_fingerprint: per dialect the fingerprint of that structure, None where unknown
    schema_unknown:     per dialect the reason, where the structure is None
    installed_size:     bytes of the unpacked wheels of part ``release``, byte code not counted
    """

    name: str
    tag: str
    version: str
    python: str
    platform: str
    glibc: str
    created: str
    wheels: tuple[Wheel, ...]
    patch_level: int = 0
    patches: tuple[Patch, ...] = ()
    lock: tuple[str, ...] = ()
    schema: dict[str, Any] = field(default_factory=dict)
    schema_fingerprint: dict[str, str | None] = field(default_factory=dict)
    schema_unknown: dict[str, str] = field(default_factory=dict)
    installed_size: int = 0

    def __post_init__(self) -> None:
        check_image_name(self.name)
        for wheel in self.wheels:
            _check_wheel(wheel)
        object.__setattr__(self, "wheels", tuple(sorted(self.wheels, key=lambda w: (w.part, w.filename))))
        object.__setattr__(self, "lock", tuple(sorted(self.lock)))
        names = [(wheel.part, wheel.filename) for wheel in self.wheels]
        if len(set(names)) != len(names):
            raise WMAgentError(f"image {self.name} lists a wheel twice; build it again")

    def part(self, part: str) -> tuple[Wheel, ...]:
        """The wheels of ``release`` or of ``tools``."""
        return tuple(wheel for wheel in self.wheels if wheel.part == part)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for module results and for ``to_json``."""
        return {
            "format": FORMAT,
            "name": self.name,
            "tag": self.tag,
            "version": self.version,
            "patch_level": self.patch_level,
            "patches": [patch.as_dict() for patch in self.patches],
            "python": self.python,
            "platform": self.platform,
            "glibc": self.glibc,
            "created": self.created,
            "wheels": [wheel.as_dict() for wheel in self.wheels],
            "lock": list(self.lock),
            "schema": self.schema,
            "schema_fingerprint": self.schema_fingerprint,
            "schema_unknown": self.schema_unknown,
            "installed_size": self.installed_size,
        }

    def to_json(self) -> bytes:
        """Canonical bytes: equal descriptions give equal bytes."""
        return canonical_json(self.as_dict())

    @classmethod
    def from_json(cls, text: bytes | str) -> ImageDescription:
        """Read what ``to_json`` wrote; WMAgentError where it is no description of this format."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise WMAgentError(f"the image description is not JSON ({error}); build or copy the image again") from None
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Any) -> ImageDescription:
        """Read what ``as_dict`` gave; WMAgentError where it is no description of this format."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            seen = data.get("format") if isinstance(data, dict) else None
            raise WMAgentError(
                f"the image description has format {seen!r}, this collection reads {FORMAT}; build the image again"
            )
        try:
            return cls(
                name=_text(data, "name"),
                tag=_text(data, "tag"),
                version=_text(data, "version"),
                patch_level=_whole(data, "patch_level"),
                patches=tuple(Patch(_text(p, "name"), check_digest(p["digest"])) for p in data["patches"]),
                python=_text(data, "python"),
                platform=_text(data, "platform"),
                glibc=_text(data, "glibc"),
                created=_text(data, "created"),
                wheels=tuple(_wheel(entry) for entry in data["wheels"]),
                lock=tuple(data["lock"]),
                schema=dict(data["schema"]),
                schema_fingerprint=dict(data["schema_fingerprint"]),
                schema_unknown=dict(data["schema_unknown"]),
                installed_size=_whole(data, "installed_size"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WMAgentError(f"the image description lacks or misspells {error}; build the image again") from None


@dataclass(frozen=True)
class Image:
    """An image in a repository. ``digest`` is of the manifest and stands for all of it."""

    name: str
    digest: str
    manifest: dict[str, Any]
    description: ImageDescription

    @property
    def inputs(self) -> str:
        """Digest of what it was built from, '' where it does not say."""
        return str(self.manifest.get("annotations", {}).get(INPUTS_ANNOTATION, ""))

    @property
    def size(self) -> int:
        """Bytes of all its wheels."""
        return sum(wheel.size for wheel in self.description.wheels)


PART_ANNOTATION = "io.github.dmwm.wmagent.part"
INPUTS_ANNOTATION = "io.github.dmwm.wmagent.inputs"


def _check_wheel(wheel: Wheel) -> None:
    """A wheel's file name becomes a path on agents, so it is checked here, once, for everybody."""
    if not isinstance(wheel.filename, str) or not _WHEEL_FILE.fullmatch(wheel.filename):
        raise WMAgentError(f"{wheel.filename!r} is not a wheel's file name; build the image again")
    check_digest(wheel.digest)
    if wheel.part not in (RELEASE_PART, TOOLS_PART):
        raise WMAgentError(f"wheel {wheel.filename} belongs to unknown part {wheel.part!r}; build the image again")
    if not isinstance(wheel.size, int) or isinstance(wheel.size, bool) or wheel.size < 0:
        raise WMAgentError(f"wheel {wheel.filename} has no usable size; build the image again")


def _wheel(entry: Any) -> Wheel:
    return Wheel(
        filename=_text(entry, "filename"),
        digest=check_digest(entry["digest"]),
        size=_whole(entry, "size"),
        name=_text(entry, "name"),
        version=_text(entry, "version"),
        part=_text(entry, "part"),
    )


def _text(data: dict[str, Any], key: str) -> str:
    value = data[key]
    if not isinstance(value, str):
        raise TypeError(key)
    return value


def _whole(data: dict[str, Any], key: str) -> int:
    value = data[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(key)
    return value
