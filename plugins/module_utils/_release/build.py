# SPDX-License-Identifier: GPL-3.0-or-later
"""Build an image: lock, wheels, patches, schema, OCI documents, repository."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release import build_lock, build_wheels, patching, wheelfile
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_request import PROJECT, BuildRequest
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_tools import BuildTools, this_platform
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_wheels import Fetched
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.describe import (
    SchemaDescription,
    describe_schema,
    no_schema,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import (
    RELEASE_PART,
    TOOLS_PART,
    Image,
    ImageDescription,
    Patch,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.manifest import make_config, make_manifest
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import Repository


@dataclass(frozen=True)
class BuildPlan:
    """What a build would do.

    inputs:   digest of all inputs
    existing: the image that the repository has under this name, None for none
    needed:   False where ``existing`` was built from the same inputs
    packages: ``name==version`` of every wheel; empty where nothing is needed
    download: those that are not in the cache yet
    patched:  paths that the patches change
    """

    inputs: str
    existing: Image | None
    needed: bool
    packages: list[str] = field(default_factory=list)
    download: list[str] = field(default_factory=list)
    patched: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for module results."""
        return {"inputs": self.inputs, "packages": self.packages, "download": self.download, "patched": self.patched}


@dataclass(frozen=True)
class _Pins:
    release: list[build_lock.Pin]
    tools: list[build_lock.Pin]
    builder: list[build_lock.Pin]

    @property
    def all(self) -> list[build_lock.Pin]:
        return [*self.release, *self.tools]


def plan_build(
    request: BuildRequest, repository: Repository | None, tools: BuildTools, *, replace: bool = False
) -> BuildPlan:
    """What building ``request`` would do; writes to the cache at most, never to the repository.

    repository: None where it does not exist yet

    Raises WMAgentError where the repository holds another image of this name (unless ``replace``), where nothing
    resolves, or a patch does not apply.
    """
    python = tools.python_version()
    inputs = request.digest(python, this_platform())
    existing = _existing(request, repository, inputs, replace)
    if existing is not None and existing.inputs == inputs:
        return BuildPlan(inputs, existing, needed=False)
    pins = _all_pins(request, tools)
    missing = build_wheels.missing_pins(pins.all, tools, python)
    return BuildPlan(
        inputs,
        existing,
        needed=True,
        packages=[f"{pin.name}=={pin.version}" for pin in pins.all],
        download=[f"{pin.name}=={pin.version}" for pin in missing],
        patched=_try_patches(request, pins, tools, python),
    )


def build_image(
    request: BuildRequest, repository: Repository, tools: BuildTools, *, replace: bool = False
) -> tuple[Image, bool]:
    """Make sure that ``repository`` holds the image; returns it and whether it was built now.

    Raises WMAgentError as ``plan_build``, and where a package does not download or build, or the schema cannot be
    described.
    """
    python = tools.python_version()
    inputs = request.digest(python, this_platform())
    existing = _existing(request, repository, inputs, replace)
    if existing is not None and existing.inputs == inputs:
        repository.verify(existing, content=False)
        return existing, False
    pins = _all_pins(request, tools)
    fetched = build_wheels.fetch_wheels(pins.release, pins.builder, tools, python)
    for_tools = build_wheels.fetch_wheels(pins.tools, pins.builder, tools, python) if pins.tools else []
    with tempfile.TemporaryDirectory(prefix="wmagent-image-") as name:
        wheels = _release_wheels(request, fetched, Path(name), tools)
        schema = describe_schema(wheels, tools) if request.schema else no_schema()
        description = _describe(request, python, wheels, fetched, for_tools, schema)
        tools.log(f"writing {request.name} to {repository.location}")
        _store(description, inputs, [*wheels, *(item.wheel for item in for_tools)], repository)
    _keep_lock(request, fetched, tools)
    return repository.image(request.name), True


def lock_file(name: str, tools: BuildTools) -> Path:
    """Where ``build_image`` leaves the lock that makes the same image again."""
    return tools.cache / "locks" / f"{name}.txt"


def _existing(request: BuildRequest, repository: Repository | None, inputs: str, replace: bool) -> Image | None:
    image = repository.find(request.name) if repository is not None else None
    if image is None or repository is None or image.inputs == inputs or replace:
        return image
    raise WMAgentError(
        f"image {request.name} in {repository.location} was built from other inputs, and an image never changes; "
        "raise the patch level, or say to replace it"
    )


def _all_pins(request: BuildRequest, tools: BuildTools) -> _Pins:
    return _Pins(
        release=build_lock.release_pins(request, tools),
        tools=build_lock.parse_lock(request.tools_lock, "the lock of the tools") if request.tools_lock else [],
        builder=build_lock.build_pins(request, tools),
    )


def _try_patches(request: BuildRequest, pins: _Pins, tools: BuildTools, python: str) -> list[str]:
    if not request.patches:
        return []
    agent = [pin for pin in pins.release if pin.name == PROJECT]
    wheel = build_wheels.wheel_for(build_wheels.fetch_wheels(agent, pins.builder, tools, python), PROJECT).wheel
    with tempfile.TemporaryDirectory(prefix="wmagent-patch-") as name:
        return patching.check_patches(wheel, list(request.patches), Path(name))


def _release_wheels(request: BuildRequest, fetched: Sequence[Fetched], folder: Path, tools: BuildTools) -> list[Path]:
    """Wheel files of the release, the WMAgent one patched."""
    agent = build_wheels.wheel_for(fetched, PROJECT)
    others = [item.wheel for item in fetched if item is not agent]
    if not request.patches:
        return [agent.wheel, *others]
    tools.log(f"patching {agent.wheel.name} with {', '.join(patch.name for patch in request.patches)}")
    scratch = folder / "tree"
    scratch.mkdir()
    return [patching.patch_wheel(agent.wheel, list(request.patches), request.patch_level, scratch, folder), *others]


def _describe(
    request: BuildRequest,
    python: str,
    wheels: Sequence[Path],
    fetched: Sequence[Fetched],
    for_tools: Sequence[Fetched],
    schema: SchemaDescription,
) -> ImageDescription:
    agent = wheelfile.describe_wheel(wheels[0])
    published = build_wheels.wheel_for(fetched, PROJECT).published
    return ImageDescription(
        name=request.name,
        tag=request.tag,
        version=agent.version,
        patch_level=request.patch_level,
        patches=tuple(Patch(patch.name, wheelfile.file_digest(patch)) for patch in request.patches),
        python=python,
        platform=this_platform(),
        glibc=wheelfile.glibc_of([*wheels, *(item.wheel for item in for_tools)]),
        created=wheelfile.newest_entry(published),
        wheels=(
            *(wheelfile.describe_wheel(wheel, RELEASE_PART) for wheel in wheels),
            *(wheelfile.describe_wheel(item.wheel, TOOLS_PART) for item in for_tools),
        ),
        lock=build_wheels.locked_lines([*fetched, *for_tools]),
        schema=schema.structures,
        schema_fingerprint=schema.fingerprints,
        schema_unknown=schema.unknown,
        installed_size=sum(wheelfile.unpacked_size(wheel) for wheel in wheels),
    )


def _store(description: ImageDescription, inputs: str, files: Sequence[Path], repository: Repository) -> None:
    by_digest = {wheelfile.file_digest(file): file for file in files}
    config = make_config(description)
    manifest = make_manifest(description, config, inputs)
    repository.put(description.name, manifest, config, by_digest)


def _keep_lock(request: BuildRequest, fetched: Sequence[Fetched], tools: BuildTools) -> None:
    file = lock_file(request.name, tools)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(build_wheels.compact_lock(fetched), encoding="utf-8")
