#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: build an image into a repository."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Build an image of a WMAgent release
version_added: 0.1.0
description:
  - Locks a WMAgent tag and all it depends on, downloads or builds every wheel, applies patches to the WMAgent wheel,
    describes the schema that it creates, and writes all of it to a repository as an OCI artifact.
  - The same inputs give the same digest. Where the repository holds the image and it was built from the same inputs,
    nothing is done.
  - Runs on the controller, which must be of the platform that the image is for.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.repository
attributes:
  check_mode:
    support: full
    description: Resolves, tries the patches and tells what would be built. Writes to O(cache) only.
  diff_mode:
    support: full
    description: Shows the packages that change against the image that is replaced.
  idempotent:
    support: full
    description: Does nothing where the image was built from the same inputs.
options:
  image:
    description: C(<tag>) or C(<tag>-p<patch level>), such as V(2.4.5.9-p1).
    type: str
    required: true
  python:
    description: The interpreter to build for. Agents need the same minor version.
    type: path
    default: /usr/bin/python3.11
  requirements:
    description: Further requirements, such as service clients.
    type: list
    elements: str
    default: []
  overrides:
    description: Requirements that replace what packages ask for, where that can't be had.
    type: list
    elements: str
    default: []
  build_requirements:
    description: What source packages are built with. They build without isolation, so every backend must be named.
    type: list
    elements: str
    default: [pip, setuptools<81, wheel]
  patch_folder:
    description:
      - Folder with patch files C(p<level>-<what>.patch). Those up to the image's patch level are applied, by level,
        then by name, before O(patches).
    type: path
  patches:
    description:
      - Patch files, in the order to apply. Unified diffs as C(git diff) writes them.
      - Paths may stand with or without C(a/) and C(b/), and name the source tree (C(src/python/WMCore/…), C(bin/…)) or
        the installed packages (C(WMCore/…)). Parts under C(test) and C(doc) are left out, since no wheel holds them.
      - A patch that does not apply wholly and without fuzz fails the build.
    type: list
    elements: path
    default: []
  lock:
    description:
      - A lock with hashes to build from. Resolved now where left out.
      - A lock that builds the same image again is returned as RV(lock).
    type: path
  build_lock:
    description: A lock with hashes for O(build_requirements). Resolved now where left out.
    type: path
  tools_lock:
    description:
      - A lock with hashes of what this collection's modules import on an agent. It goes into the image as a part of
        its own.
    type: path
  describe_schema:
    description: Whether to describe the schema. An image without it is refused by the schema guard.
    type: bool
    default: true
  replace:
    description: Whether an image of this name that was built from other inputs may be replaced.
    type: bool
    default: false
  cache:
    description: Folder of downloads and built wheels, shared by all builds.
    type: path
    default: ~/.cache/dmwm.wmagent
  step_timeout:
    description: Seconds for one step, such as downloading everything or one compilation.
    type: int
    default: 1800
  progress:
    description: File to append a line to for each step.
    type: path
"""

EXAMPLES = r"""
- name: Build a patched release
  dmwm.wmagent.image_build:
    repository: /srv/wmagent/images
    image: 2.4.5.9-p1
    patches: [files/patches/p1-oracle-client-only-for-oracle.patch]
    lock: files/locks/2.4.5.9.txt
  delegate_to: localhost
"""

RETURN = r"""
name:
  description: Name of the image.
  returned: success
  type: str
  sample: 2.4.5.9-p1
digest:
  description: Digest of its manifest.
  returned: when it is in the repository
  type: str
version:
  description: Version of the WMAgent wheel inside.
  returned: when it is in the repository
  type: str
  sample: 2.4.5.9+p1
size:
  description: Size of its wheels, in bytes.
  returned: when it is in the repository
  type: int
inputs:
  description: Digest of all inputs.
  returned: success
  type: str
packages:
  description: Every package of the image.
  returned: when it is to be built
  type: list
  elements: str
  sample: [wmagent==2.4.5.9]
download:
  description: Those that are not in the cache yet.
  returned: in check mode, when it is to be built
  type: list
  elements: str
patched:
  description: Paths that the patches change.
  returned: in check mode, when it is to be built
  type: list
  elements: str
  sample: [src/python/WMCore/Database/DBFactory.py]
lock:
  description: File with the lock that builds the same image again.
  returned: when it was built
  type: str
steps:
  description: What was done, a line for each step.
  returned: success
  type: list
  elements: str
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build import build_image, lock_file, plan_build
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_request import BuildRequest, patches_in
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_tools import BuildTools
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Image
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import Repository, open_repository


class Steps:
    """Collects a line for each step, with the seconds since the start, and appends it to a file for who is watching."""

    def __init__(self, name: str, file: str | None) -> None:
        self.lines: list[str] = []
        self._name = name
        self._file = Path(file) if file else None
        self._start = time.monotonic()

    def __call__(self, line: str) -> None:
        """Take one line."""
        self.lines.append(f"{time.monotonic() - self._start:.1f} s: {line}")
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(f"{self._name} {self.lines[-1]}\n")


def run(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Build, or tell what would be built. Raises WMAgentError."""
    request = _request(params)
    steps = Steps(request.name, params["progress"])
    tools = BuildTools(Path(params["python"]), Path(params["cache"]), params["step_timeout"], steps)
    if check:
        result = _plan(request, params, tools)
    else:
        repository = _open(params, create=True)
        before = repository.find(request.name)
        image, built = build_image(request, repository, tools, replace=params["replace"])
        result = {"changed": built, **_facts(image)}
        if built:
            packages = _packages(image)
            result |= {"packages": packages, "lock": str(lock_file(request.name, tools))}
            result["diff"] = _diff(_packages(before) if before else [], packages)
    return {"name": request.name, **result, "steps": steps.lines}


def _plan(request: BuildRequest, params: dict[str, Any], tools: BuildTools) -> dict[str, Any]:
    repository = None if _is_to_be_made(params["repository"]) else _open(params, create=False)
    plan = plan_build(request, repository, tools, replace=params["replace"])
    before = _packages(plan.existing) if plan.existing else []
    result: dict[str, Any] = {"changed": plan.needed, "inputs": plan.inputs}
    if not plan.needed and plan.existing:
        return result | _facts(plan.existing)
    return result | plan.as_dict() | {"diff": _diff(before, plan.packages)}


def _is_to_be_made(location: str) -> bool:
    """True for a folder that is no repository yet; check mode must not make it one."""
    return "://" not in location and not (Path(location).expanduser() / "oci-layout").exists()


def _open(params: dict[str, Any], *, create: bool) -> Repository:
    return open_repository(
        params["repository"], timeout=params["network_timeout"], create=create, ca_file=params["ca_file"]
    )


def _request(params: dict[str, Any]) -> BuildRequest:
    patches = patches_in(Path(params["patch_folder"]), params["image"]) if params["patch_folder"] else []
    return BuildRequest(
        name=params["image"],
        requirements=tuple(params["requirements"]),
        overrides=tuple(params["overrides"]),
        build_requirements=tuple(params["build_requirements"]),
        patches=(*patches, *(Path(patch) for patch in params["patches"])),
        lock=_text(params["lock"]),
        build_lock=_text(params["build_lock"]),
        tools_lock=_text(params["tools_lock"]),
        schema=params["describe_schema"],
    )


def _text(path: str | None) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise WMAgentError(f"lock {path} cannot be read ({error}); give a readable file or leave it out") from None


def _facts(image: Image) -> dict[str, Any]:
    return {
        "digest": image.digest,
        "version": image.description.version,
        "size": image.size,
        "inputs": image.inputs,
    }


def _packages(image: Image) -> list[str]:
    return [f"{wheel.name}=={wheel.version}" for wheel in image.description.wheels]


def _diff(before: list[str], after: list[str]) -> dict[str, str]:
    return {"before": "".join(f"{line}\n" for line in before), "after": "".join(f"{line}\n" for line in after)}


def main() -> None:
    """Entry point."""
    texts: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "repository": {"type": "str", "required": True},
            "ca_file": {"type": "path"},
            "network_timeout": {"type": "float", "default": 60},
            "image": {"type": "str", "required": True},
            "python": {"type": "path", "default": "/usr/bin/python3.11"},
            "requirements": texts,
            "overrides": texts,
            "build_requirements": {"type": "list", "elements": "str", "default": ["pip", "setuptools<81", "wheel"]},
            "patch_folder": {"type": "path"},
            "patches": {"type": "list", "elements": "path", "default": []},
            "lock": {"type": "path"},
            "build_lock": {"type": "path"},
            "tools_lock": {"type": "path"},
            "describe_schema": {"type": "bool", "default": True},
            "replace": {"type": "bool", "default": False},
            "cache": {"type": "path", "default": "~/.cache/dmwm.wmagent"},
            "step_timeout": {"type": "int", "default": 1800},
            "progress": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
