#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: take over an agent deployed by hand."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_adopt
short_description: Take over a WMAgent that was deployed by hand
version_added: 0.1.0
description:
  - Writes down what the agent runs as a release that can be gone back to, and makes C(current) a link to it.
  - Nothing of the deployment is moved, stopped or started. The work area stays where it is, since rows in the database
    hold paths below it.
  - An agent that was adopted before is left alone.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
options:
  prefix:
    description: C(sys.prefix) of the agent's Python environment, where it is not found by itself.
    type: path
  config:
    description: The agent's C(config.py), where it is not C(config/config.py) of the deployment.
    type: path
  rollout:
    description: Id of the rollout, for the ledger.
    type: str
    default: ''
  owner:
    description: Who adopts it, C(user@controller), for the ledger.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Adopt the agent
  dmwm.wmagent.agent_adopt:
    wmagent_root: /data/srv/wmagent
"""

RETURN = r"""
release:
  description: The agent's current release after adoption.
  returned: success
  type: dict
  sample: {name: adopted-2.4.5.8-0a1b2c3d4e5f, image: adopted-2.4.5.8, tag: 2.4.5.8, adopted: true}
work_dir:
  description: The agent's C(General.workDir), which all its releases use.
  returned: success
  type: str
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.adopt import adopt, find_deployment
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import exclusive
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def run(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Adopt where that is due. Raises WMAgentError where there is nothing that could be adopted."""
    layout = AgentLayout(Path(params["wmagent_root"]))
    if layout.is_adopted():
        return {
            "changed": False,
            "release": layout.current_release().as_dict(),
            "work_dir": os.path.realpath(layout.work_dir),
        }
    deployment = find_deployment(layout.root, _path(params["prefix"]), _path(params["config"]))
    if check:
        release = deployment.release(layout)
    else:
        layout.deploy.mkdir(mode=0o700, exist_ok=True)
        with exclusive(layout):
            release = adopt(layout, deployment, by=params["owner"], rollout=params["rollout"])
    return {"changed": True, "release": release.as_dict(), "work_dir": str(deployment.work_dir)}


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "wmagent_root": {"type": "path", "required": True},
            "prefix": {"type": "path"},
            "config": {"type": "path"},
            "rollout": {"type": "str", "default": ""},
            "owner": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    if result["changed"]:
        result["diff"] = {"before": {"current": "deployed by hand"}, "after": {"current": result["release"]["name"]}}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
