#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: how far a redeployment has come, and what it would wipe"""

from __future__ import annotations

DOCUMENTATION = r"""
module: redeploy_info
short_description: Tell what a redeployment of a WMAgent would wipe, and what speaks against it
version_added: 0.1.0
description:
  - Counts the rows of every table of the agent's database, and the documents of the databases in its CouchDB that its
    release makes. These and no others are what a redeployment wipes.
  - Asks ReqMgr2 for every workflow that the database knows, WMBS and DBSBuffer alike. An agent that is wiped before its
    workflows are archived leaves them orphaned.
  - Once a redeployment has begun to wipe, it tells how far that has come and reads no more.
  - Whether the agent is drained is told by M(dmwm.wmagent.drain_info).
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.info
  - dmwm.wmagent.redeploy
options:
  agent:
    description: The name that a wipe has to be confirmed with.
    type: str
    required: true
  confirm:
    description: Names of agents that a person allows to be wiped, between commas.
    type: str
    default: ""
  schema:
    description: C(schema) of the description of the image to go to, as M(dmwm.wmagent.image_info) returns it.
    type: dict
    required: true
  accept:
    description: Workflows that a person has decided to leave behind although ReqMgr2 has not archived them.
    type: list
    elements: dict
    default: []
    suboptions:
      workflow:
        description: Its name.
        type: str
        required: true
      reason:
        description: Why.
        type: str
        required: true
      person:
        description: Who decided it.
        type: str
        required: true
  adopt_prefix:
    description: C(sys.prefix) of an agent deployed by hand, where it is not found by itself.
    type: path
  adopt_config:
    description: C(config.py) of an agent deployed by hand, where it is not found by itself.
    type: path
  central_timeout:
    description: Seconds for all answers of ReqMgr2 together.
    type: float
    default: 60
  host_cert:
    description: File with the client certificate for central services. E(X509_HOST_CERT) where left out.
    type: path
  host_key:
    description: File with its key, without a password. E(X509_HOST_KEY) where left out.
    type: path
  ca_path:
    description: File or folder with the certificates to trust. E(X509_CERT_DIR) where left out, else the system's.
    type: path
"""

EXAMPLES = r"""
- name: What would be wiped
  dmwm.wmagent.redeploy_info:
    wmagent_root: /data/srv/wmagent
    secrets: /data/admin/wmagent/WMAgent.secrets
    agent: agent1
    schema: "{{ image.description.schema }}"
"""

RETURN = r"""
redeployment:
  description: The redeployment under way, with C(step) (empty for none) and whether it C(destroys) already.
  returned: success
  type: dict
tables:
  description: Each table of the agent's database with its number of rows.
  returned: until a wipe has begun
  type: dict
databases:
  description: Each CouchDB database of the agent with its C(documents), C(tombstones) and C(bytes).
  returned: until a wipe has begun
  type: dict
others:
  description: Databases of the same CouchDB that are left alone.
  returned: until a wipe has begun
  type: list
  elements: str
workflows:
  description: How many workflows the agent's database knows.
  returned: until a wipe has begun
  type: int
problems:
  description: What speaks against it, one line each.
  returned: success
  type: list
  elements: str

summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import options
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import archived, journal, tables
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.agent import OPTIONS, Agent


def plan(agent: Agent, params: Mapping[str, Any]) -> dict[str, Any]:
    """What would be wiped, and what speaks against it. Raises WMAgentError where that cannot be read."""
    accepted = archived.accepted_names(params["accept"])
    problems = []
    _layout, release = agent.current(params["adopt_prefix"], params["adopt_config"])
    with agent.session() as connection:
        tables.demand_mariadb(connection, "redeployment")
        counts = tables.count_rows(connection)
        names = archived.workflow_names(connection)
    known = set(params["schema"].get(agent.settings.dialect) or {})
    if not known:
        raise WMAgentError(f"the image to go to describes no {agent.settings.dialect} schema; build it again")
    central = {**params, "timeout": params["central_timeout"]}
    for check in (
        lambda: journal.confirmed(params["confirm"], params["agent"]),
        lambda: tables.refuse_strangers(counts, known),
    ):
        try:
            check()
        except WMAgentError as error:
            problems.append(str(error))
    problems += archived.problems(
        lambda: options.reqmgr(central, agent.secrets), names, accepted, params["central_timeout"]
    )
    client = agent.couchdb()
    own, others = agent.couchdb_databases(client, release)
    databases = {}
    for name in own:
        found = read_database(client, name)
        size = found.sizes.file + sum(view.sizes.file for view in found.views)
        databases[name] = {"documents": found.documents, "tombstones": found.tombstones, "bytes": size}
    told = (
        f"{len(counts)} tables with {sum(counts.values())} rows and {len(databases)} CouchDB databases with "
        f"{sum(one['documents'] for one in databases.values())} documents would be wiped"
    )
    return {
        "tables": counts,
        "databases": databases,
        "others": others,
        "workflows": len(names),
        "problems": problems,
        "summary": told + (f"; against it: {'; '.join(problems)}" if problems else ""),
    }


def run(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """The result as plain data. Raises WMAgentError."""
    agent = Agent.of(params)
    found = journal.read(agent.layout)
    result: dict[str, Any] = {"changed": False, "redeployment": dict(journal.summary(found)), "problems": []}
    if found is not None and found.destroys:
        return {**result, "summary": f"the redeployment to {found.target} is under way since step {found.step}"}
    return result | plan(agent, params)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **OPTIONS,
            "agent": {"type": "str", "required": True},
            "confirm": {"type": "str", "default": ""},
            "schema": {"type": "dict", "required": True},
            "accept": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {key: {"type": "str", "required": True} for key in ("workflow", "reason", "person")},
            },
            "adopt_prefix": {"type": "path"},
            "adopt_config": {"type": "path"},
            "central_timeout": {"type": "float", "default": 60},
            **{name: options.CENTRAL_OPTIONS[name] for name in ("host_cert", "host_key", "ca_path")},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
