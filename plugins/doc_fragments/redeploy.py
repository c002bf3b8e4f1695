# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that redeploy an agent."""

from __future__ import annotations


class ModuleDocFragment:
    """C(dmwm.wmagent.redeploy): the agent's databases, and how long they may take."""

    DOCUMENTATION = r"""
options:
  secrets:
    description:
      - The agent's C(WMAgent.secrets) on the agent, which names its database, its CouchDB and the central services.
    type: path
    required: true
  database_name:
    description: Name of the agent's database in MariaDB.
    type: str
    default: wmagent
  environment:
    description: Environment of the components, for the release's own programs.
    type: dict
    default: {}
  timeout:
    description: Seconds for what reads or writes all of a database.
    type: float
    default: 3600
requirements:
  - PyMySQL, python-couchdb; the tools environment staged with an image has them
notes:
  - For MariaDB. An agent on Oracle is refused.
"""

    WIPE = r"""
options:
  confirm:
    description: Names of agents that a person allows to be wiped, between commas. This agent has to be among them.
    type: str
    default: ""
  waivers:
    description: Blockers that a person decided not to wait for, as in M(dmwm.wmagent.drain_info).
    type: list
    elements: dict
    default: []
    suboptions:
      blocker:
        description: The C(signal) of a blocker.
        type: str
        required: true
      reason:
        description: Why it need not be waited for.
        type: str
        required: true
      person:
        description: Who decided it.
        type: str
        required: true
      expires:
        description: Last day (UTC) on which it counts, or day and time, as in ISO 8601.
        type: str
        required: true
      at_most:
        description: How many it covers; any number where left out.
        type: int
"""
