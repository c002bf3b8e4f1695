#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: bring an image into place as a release. Its action plugin sends the blobs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_stage
short_description: Bring an image into place as a release, without touching what runs
version_added: 0.1.0
description:
  - Sends only the wheels that the agent lacks, installs the release aside, gives it its own C(config.py) and renames it
    into C(releases/). The agent goes on running its current release; switching is another step.
  - Files that an installed release has already are shared by hard links, after their content was checked.
  - May be killed at any moment and run again; verified wheels stay.
  - Needs the library C(installer) on the agent (M(dmwm.wmagent.tools)).
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
options:
  image:
    description: Name of the image.
    type: str
    required: true
  repository:
    description: The image repository, a folder or an C(http(s)) URL, as the O(source) reaches it.
    type: str
    required: true
  digest:
    description: Digest of the image's manifest; another one is refused. Empty for any.
    type: str
    default: ''
  source:
    description:
      - Who reads the repository. With V(controller), what is missing is sent to the agent as one bundle, by Ansible's
        own connection. With V(agent), the agent fetches it itself.
    type: str
    choices: [controller, agent]
    default: controller
  secrets:
    description: Path of C(WMAgent.secrets) on the agent.
    type: path
    required: true
  database_name:
    description: Name of the agent's MariaDB database.
    type: str
    default: wmagent
  config:
    description: Overrides for C(config.py), dotted names to values.
    type: dict
    default: {}
  environment:
    description: Environment of the components.
    type: dict
    default: {}
  components:
    description: The only components that C(config.py) lists; all of the template's where empty.
    type: list
    elements: str
    default: []
  python:
    description: Interpreter on the agent that the release is made for.
    type: path
    default: /usr/bin/python3.11
  work_dir:
    description: The agent's C(General.workDir); needed only for an agent that is still to be adopted.
    type: path
  compare_config:
    description: The C(config.py) that runs now, for the diff; that of the current release where left out.
    type: path
  replace_drifted:
    description:
      - Install a release again that is there but differs from its image. Without it, that is an error.
      - The current release is never replaced; its differences are only returned.
    type: bool
    default: false
  timeout:
    description: Seconds that one network operation of the repository may stay silent.
    type: float
    default: 60
  image_documents:
    description: Manifest and config of the image, as text. Set by the action plugin.
    type: dict
  bundle:
    description: File on the agent with the blobs that were missing. Set by the action plugin.
    type: path
"""

EXAMPLES = r"""
- name: Stage the image
  dmwm.wmagent.release_stage:
    wmagent_root: /data/srv/wmagent
    image: 2.4.5.9-p1
    repository: /srv/wmagent-images
    secrets: /data/admin/wmagent/WMAgent.secrets
    config:
      JobSubmitter.maxJobsPerPoll: 500
"""

RETURN = r"""
name:
  description: Folder name of the release under C(releases/).
  returned: success
  type: str
  sample: 2.4.5.9-p1-0a1b2c3d4e5f
release:
  description: The release; none in check mode where it is not there yet.
  returned: success
  type: dict
bytes_sent:
  description: Bytes that went to the agent (in check mode, that would go).
  returned: success
  type: int
blobs_sent:
  description: Number of wheels that went to the agent (in check mode, that would go).
  returned: success
  type: int
missing:
  description: In check mode, the wheels that would be sent, each with digest, size and filename.
  returned: success
  type: list
  elements: dict
files_linked:
  description: Files shared with an installed release.
  returned: success
  type: int
files_written:
  description: Files unpacked from wheels.
  returned: success
  type: int
bytes_on_disk:
  description: Bytes on disk that the release adds; shared files and wheels are not counted.
  returned: success
  type: int
seconds:
  description: How long it took, sending included.
  returned: success
  type: float
config_changed:
  description: Whether the C(config.py) of a release that was there was made anew.
  returned: success
  type: bool
config_differs:
  description: Whether the current release runs with a C(config.py) that would be made differently now.
  returned: success
  type: bool
drift:
  description: Files of a release that was there that differ from its image, each with path, kind and detail.
  returned: success
  type: list
  elements: dict
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.bundle import unpack_bundle
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Image, Wheel
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import Repository, open_repository
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.stage import (
    ConfigInputs,
    Fetch,
    checked_image,
    image_of,
    stage,
)


def run(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Stage; where blobs are missing that only the controller has, tell it which."""
    started = time.monotonic()
    image, repository = _image(params)
    fetched: list[Wheel] = []
    result = stage(
        AgentLayout(Path(params["wmagent_root"]), Path(params["work_dir"]) if params["work_dir"] else None),
        image,
        Path(params["python"]),
        ConfigInputs(
            secrets=Path(params["secrets"]),
            database=params["database_name"],
            overrides=params["config"],
            environment={key: str(value) for key, value in params["environment"].items()},
            components=params["components"],
            running=Path(params["compare_config"]) if params["compare_config"] else None,
        ),
        fetch=_fetch(params, repository, fetched),
        replace_drifted=params["replace_drifted"],
        check=check,
    )
    planned = result["missing"] if repository is not None else []
    result["bytes_sent"] = sum(wheel.size for wheel in fetched) + sum(wheel["size"] for wheel in planned)
    result["blobs_sent"] = len(fetched) + len(planned)
    result["seconds"] = round(time.monotonic() - started, 3)
    return result


def _image(params: dict[str, Any]) -> tuple[Image, Repository | None]:
    if params["source"] == "agent":
        repository = open_repository(params["repository"], timeout=params["timeout"])
        return image_of(repository, params["image"], params["digest"])[0], repository
    documents = params["image_documents"]
    if not documents:
        raise WMAgentError("source=controller works through the action plugin; call release_stage from a playbook")
    manifest, config = documents["manifest"].encode(), documents["config"].encode()
    return checked_image(params["image"], documents["digest"], manifest, config), None


def _fetch(params: dict[str, Any], repository: Repository | None, fetched: list[Wheel]) -> Fetch | None:
    def from_repository(store: BlobStore, missing: list[Wheel]) -> None:
        assert repository is not None
        for wheel in missing:
            with repository.open_blob(wheel.digest, wheel.size) as stream:
                store.add(wheel.digest, stream, wheel.size)
            fetched.append(wheel)

    def from_bundle(store: BlobStore, missing: list[Wheel]) -> None:
        unpack_bundle(Path(params["bundle"]), store, missing)

    if repository is not None:
        return from_repository
    return from_bundle if params["bundle"] else None


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "wmagent_root": {"type": "path", "required": True},
            "image": {"type": "str", "required": True},
            "repository": {"type": "str", "required": True},
            "digest": {"type": "str", "default": ""},
            "source": {"type": "str", "choices": ["controller", "agent"], "default": "controller"},
            "secrets": {"type": "path", "required": True, "no_log": False},
            "database_name": {"type": "str", "default": "wmagent"},
            "config": {"type": "dict", "default": {}},
            "environment": {"type": "dict", "default": {}},
            "components": {"type": "list", "elements": "str", "default": []},
            "python": {"type": "path", "default": "/usr/bin/python3.11"},
            "work_dir": {"type": "path"},
            "compare_config": {"type": "path"},
            "replace_drifted": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 60},
            "image_documents": {"type": "dict"},
            "bundle": {"type": "path"},
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
