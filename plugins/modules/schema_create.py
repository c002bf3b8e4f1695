#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: make the tables of an agent that is redeployed"""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_create
short_description: Make the tables of a WMAgent anew, as its release wants them
version_added: 0.1.0
description:
  - Runs the release's own C(wmcore-db-init) in the agent's empty database. An error of any statement is one here, also
    where the release itself passes over it.
  - Compares the result with the schema that the release's image describes, and notes in C(wma_init), where there is
    such a table, which build the database belongs to, as upstream's deployment does.
  - Cut off, it drops what it had made and makes it anew. A table with more than what a release fills in by itself is
    never dropped.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.redeploy
options:
  hostname:
    description: The agent's full host name, for C(wma_init).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Make the tables
  dmwm.wmagent.schema_create:
    wmagent_root: /data/srv/wmagent
    secrets: /data/admin/wmagent/WMAgent.secrets
    hostname: agent.example.org
"""

RETURN = r"""
tables:
  description: How many tables there are.
  returned: success
  type: int
fingerprint:
  description: SHA-256 of the structure, the one of the image.
  returned: where they were made
  type: str

summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import exclusive
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import journal, tables
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.agent import OPTIONS, Agent
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.making import (
    checked_schema,
    note_build,
    refuse_used,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.release_tools import create_schema
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import read_image_description


def run(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Make them. Raises WMAgentError."""
    agent = Agent.of(params)
    with exclusive(agent.layout):
        found = journal.demand(journal.read(agent.layout), "wiped", "creating")
        release = agent.release(found.target)
        image = read_image_description(release)
        wanted = image.schema.get(agent.settings.dialect) if image else None
        if not wanted:
            raise WMAgentError(
                f"the image of {release.name} describes no {agent.settings.dialect} schema; build it again"
            )
        agent.refuse_running()
        with agent.session(read_only=False) as connection:
            tables.demand_mariadb(connection, "making its tables")
            rows = tables.count_rows(connection)
            if rows and found.step == "wiped":
                raise WMAgentError(f"{agent.settings.where} is not empty after the wipe ({', '.join(rows)[:200]})")
            refuse_used(connection, rows)
            if check:
                return {"changed": True, "tables": len(wanted), "summary": f"{len(wanted)} tables would be made"}
            found = found.at("creating")
            journal.write(agent.layout, found)
            tables.drop_tables(connection, rows)
        create_schema(release, agent.secrets, agent.environment, min(agent.timeout, 600.0))
        with agent.session(read_only=False) as connection:
            digest = checked_schema(connection, wanted, release.name)
            note_build(connection, release.tag, params["hostname"], "wma_init" in wanted)
        made = {"tables": len(wanted), "fingerprint": digest}
        journal.write(agent.layout, found.at("created", details={"schema": made}))
    return {"changed": True, **made, "summary": f"{len(wanted)} tables made by {release.name}, as its image describes"}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={**OPTIONS, "hostname": {"type": "str", "required": True}},
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
