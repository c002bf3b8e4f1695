#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: tell a redeployed agent which sites there are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: resource_control
short_description: Fill the resource control of a WMAgent whose tables were made anew
version_added: 0.1.0
description:
  - Runs the release's own C(wmagent-resource-control), once for each of O(commands), before the components start. New
    tables know no sites, and an agent without sites takes no work.
  - Cut off, the next run begins with the first command again, the sites that were there by then removed.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.redeploy
options:
  commands:
    description: Arguments of each call, as in a shell.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Fill resource control
  dmwm.wmagent.resource_control:
    wmagent_root: /data/srv/wmagent
    secrets: /data/admin/wmagent/WMAgent.secrets
    commands:
      - --add-T1s --plugin=SimpleCondorPlugin --pending-slots=50 --running-slots=50
"""

RETURN = r"""
sites:
  description: How many sites the agent knows now; null in check mode.
  returned: success
  type: int
summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

import shlex
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import exclusive
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import journal
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.agent import OPTIONS, Agent
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.making import count_sites, forget_sites
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.release_tools import resource_control


def run(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Fill it. Raises WMAgentError."""
    agent = Agent.of(params)
    commands = [_words(text) for text in params["commands"]]
    sites = None
    with exclusive(agent.layout):
        found = journal.demand(journal.read(agent.layout), "pushed", "filling")
        release = agent.release(found.target)
        if not check:
            agent.refuse_running()
            journal.write(agent.layout, found.at("filling"))
            with agent.session(read_only=False) as connection:
                forget_sites(connection)
            for words in commands:
                resource_control(release, agent.secrets, agent.environment, min(agent.timeout, 600.0), words)
            with agent.session() as connection:
                sites = count_sites(connection)
            journal.write(agent.layout, found.at("filled", details={"sites": sites}))
    told = f"{len(commands)} commands would be run" if check else f"{sites} sites"
    return {"changed": True, "sites": sites, "summary": f"resource control: {told} by {release.name}"}


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise WMAgentError(f"commands has {text!r}, which no shell would take ({error}); mend its quotes") from None


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={**OPTIONS, "commands": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
