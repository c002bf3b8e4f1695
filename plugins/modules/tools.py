#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: the tools environment on an agent. Its action plugin sends the wheels."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tools
short_description: Have the libraries that the modules need on an agent, without touching the agent's own Python
version_added: 0.1.0
description:
  - Makes a small Python environment from the tools wheels of an image, and returns its interpreter, fit to be
    C(ansible_python_interpreter) of all other modules of this collection.
  - The controller sends the wheels, as one bundle, only where the environment is not there yet.
  - Nothing under the agent's root is touched, so it may be made (C(check_mode) false) before a dry run of an upgrade,
    which then can query databases.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent.changes
options:
  image:
    description:
      - Name of the image whose tools are wanted.
      - Where left out, the newest tools that are there are taken, as a rollback does.
    type: str
    default: ''
  repository:
    description: The image repository as the controller reaches it, a folder or an C(http(s)) URL. Needed with O(image).
    type: str
    default: ''
  digest:
    description: Digest of the image's manifest; another one is refused. Empty for any.
    type: str
    default: ''
  tools_dir:
    description: Folder on the agent for tools environments.
    type: path
    default: ~/.ansible/dmwm.wmagent
  python:
    description: Interpreter on the agent that the environment is made for.
    type: path
    default: /usr/bin/python3.11
  wheels:
    description: The tools wheels of the image. Set by the action plugin.
    type: list
    elements: dict
    default: []
  bundle:
    description: File on the agent with the wheels that were missing. Set by the action plugin.
    type: path
"""

EXAMPLES = r"""
- name: Have the tools of the image
  dmwm.wmagent.tools:
    image: 2.4.5.9-p1
    repository: /srv/wmagent-images
  check_mode: false
  register: tools

- name: Use them from here on
  ansible.builtin.set_fact:
    ansible_python_interpreter: "{{ tools.python }}"
"""

RETURN = r"""
python:
  description: Interpreter with the tools.
  returned: success
  type: str
  sample: /home/cmst1/.ansible/dmwm.wmagent/tools-0a1b2c3d4e5f/bin/python
bytes_sent:
  description: Size of the bundle that was sent (in check mode, that would be sent), in bytes.
  returned: success
  type: int
blobs_sent:
  description: Number of wheels in it.
  returned: success
  type: int
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import TOOLS_PART, Wheel
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.tools import (
    install_tools,
    missing_tools,
    newest_tools,
    tools_folder,
    tools_ready,
)


def run(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Make the environment where it is missing; tell what is missing where no bundle came."""
    if not params["image"]:
        environment = newest_tools(Path(params["tools_dir"]))
        return {"changed": False, "python": str(environment / "bin" / "python"), "missing": []}
    wheels = [Wheel(**{**wheel, "size": int(wheel["size"]), "part": TOOLS_PART}) for wheel in params["wheels"]]
    folder, python = Path(params["tools_dir"]), Path(params["python"])
    environment = tools_folder(folder, wheels, python)
    result: dict[str, Any] = {"changed": False, "python": str(environment / "bin" / "python"), "missing": []}
    if tools_ready(environment):
        return result
    missing = missing_tools(folder, wheels)
    if check or (missing and not params["bundle"]):
        return {**result, "changed": True, "missing": [wheel.digest for wheel in missing]}
    bundle = Path(params["bundle"]) if params["bundle"] else None
    return {**result, "changed": install_tools(folder, wheels, python, bundle)}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "default": ""},
            "repository": {"type": "str", "default": ""},
            "digest": {"type": "str", "default": ""},
            "tools_dir": {"type": "path", "default": "~/.ansible/dmwm.wmagent"},
            "python": {"type": "path", "default": "/usr/bin/python3.11"},
            "wheels": {"type": "list", "elements": "dict", "default": []},
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
