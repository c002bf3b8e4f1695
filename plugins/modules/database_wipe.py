#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: drop the tables of an agent that is redeployed"""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_wipe
short_description: Drop the tables of a WMAgent that is drained, saved and stopped
version_added: 0.1.0
description:
  - Drops the tables that M(dmwm.wmagent.database_save) has saved, and no others, in the agent's own database.
  - Refuses where a component runs, where the database says that the agent is not drained and no waiver covers it, where
    any table has another number of rows than was saved or is new, where the saved file is not as it was written, and
    where a person has not confirmed this agent by name.
  - Cut off, it goes on with what is left.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.redeploy
  - dmwm.wmagent.redeploy.wipe
"""

EXAMPLES = r"""
- name: Drop the tables
  dmwm.wmagent.database_wipe:
    wmagent_root: /data/srv/wmagent
    secrets: /data/admin/wmagent/WMAgent.secrets
    confirm: agent1
"""

RETURN = r"""
tables:
  description: The tables that were (check mode, would be) dropped, with their rows.
  returned: success
  type: dict

summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import exclusive
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import signals_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import journal, tables
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.agent import OPTIONS, WIPE_OPTIONS, Agent
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.refusals import (
    refuse_changed_file,
    refuse_undrained,
)


def run(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Drop them. Raises WMAgentError."""
    agent = Agent.of(params)
    with exclusive(agent.layout):
        found = journal.demand(journal.read(agent.layout), "saved", "wiping")
        journal.confirmed(params["confirm"], found.agent)
        agent.refuse_running()
        saved = found.tables or {}
        refuse_changed_file(found.details["database"])
        if not found.destroys:
            refuse_undrained(signals_database.read(agent.session)[0], params["waivers"], time.time())
        with agent.session(read_only=False) as connection:
            tables.demand_mariadb(connection, "wiping it")
            live = tables.count_rows(connection)
            tables.refuse_changes(saved, live, found.destroys)
            if live and not check:
                journal.write(agent.layout, found.at("wiping"))
                tables.drop_tables(connection, live)
    word = "would be dropped" if check else "dropped"
    told = f"{len(live)} tables with {sum(live.values())} rows {word} in {agent.settings.name}"
    return {"changed": bool(live), "tables": live, "summary": told}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={**OPTIONS, **WIPE_OPTIONS},
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
