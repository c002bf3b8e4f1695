#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: make the CouchDB databases of an agent that is redeployed"""

from __future__ import annotations

DOCUMENTATION = r"""
module: couchapps
short_description: Make the CouchDB databases of a WMAgent, with its release's couchapps
version_added: 0.1.0
description:
  - Runs the release's own C(wmagent-couchapp-init), kept to the agent's CouchDB. It installs no cron jobs, and
    touches no central database.
  - Sees that each database has its design documents afterwards.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.redeploy
"""

EXAMPLES = r"""
- name: Make the CouchDB databases
  dmwm.wmagent.couchapps:
    wmagent_root: /data/srv/wmagent
    secrets: /data/admin/wmagent/WMAgent.secrets
"""

RETURN = r"""
databases:
  description: Each database with its couchapps.
  returned: success
  type: dict

summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import exclusive
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.leaves import design_names
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import journal
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.agent import OPTIONS, Agent
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.release_tools import couchapps


def run(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Make them. Raises WMAgentError."""
    agent = Agent.of(params)
    with exclusive(agent.layout):
        found = journal.demand(journal.read(agent.layout), "created", "pushed")
        release = agent.release(found.target)
        wanted = couchapps(release, agent.secrets, agent.environment, min(agent.timeout, 600.0), only_list=check)
        if not check:
            client = agent.couchdb()
            for name, apps in wanted.items():
                there = design_names(client, name)
                if missing := [app for app in apps if f"_design/{app}" not in there]:
                    raise WMAgentError(f"{name} has no _design/{missing[0]} after wmagent-couchapp-init; run again")
            journal.write(agent.layout, found.at("pushed", details={"couchapps": wanted}))
    word = "would be made" if check else "made"
    return {
        "changed": True,
        "databases": wanted,
        "summary": f"{len(wanted)} CouchDB databases {word} by {release.name}",
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={**OPTIONS},
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
