#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: which agents take work, by ReqMgr2."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain_team_info
short_description: Tell which WMAgents take work
version_added: 0.1.0
description:
  - Reads the drain flags of several agents in ReqMgr2, with the certificates of the host it runs on.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent.info
  - dmwm.wmagent.drain
options:
  agents:
    description: Full host names.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Who takes work
  dmwm.wmagent.drain_team_info:
    secrets: /data/admin/wmagent/WMAgent.secrets
    agents: [agent1.example.org, agent2.example.org]
"""

RETURN = r"""
active:
  description: For each agent whether it takes work; null where that could not be read.
  returned: success
  type: dict
problems:
  description: For each of those why.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import options
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.agent_config import read_document
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.central import CentralClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def takes_work(client: CentralClient, agent: str) -> bool:
    """Whether an agent is in neither drain mode. Raises WMAgentError."""
    document = read_document(client, options.agent_name({"agent": agent}))
    return not (document["UserDrainMode"] or document["AgentDrainMode"])


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **options.CENTRAL_OPTIONS,
            "agents": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    active: dict[str, bool | None] = {}
    problems: dict[str, str] = {}
    try:
        client = options.reqmgr(module.params, options.checked_secrets(module.params))
        for agent in module.params["agents"]:
            try:
                active[agent] = takes_work(client, agent)
            except WMAgentError as error:
                active[agent], problems[agent] = None, str(error)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, active=active, problems=problems)


if __name__ == "__main__":
    main()
