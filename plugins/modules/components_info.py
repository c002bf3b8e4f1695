#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: the verdict on the components of an agent, with its evidence."""

from __future__ import annotations

DOCUMENTATION = r"""
module: components_info
short_description: Tell whether the components of a WMAgent are healthy, by evidence
version_added: 0.1.0
description:
  - Judges each component by its process (not a zombie, one of this agent's, running the current release's interpreter),
    its living threads, its rows in C(wm_components) and C(wm_workers) and what C(ComponentLog) says since its start.
    What C(wmcoreD --status) says is not asked.
  - A worker is fresh while its C(last_updated) is no older than the minute in which a sleeping worker reports (or its
    C(poll_interval), where shorter), 30 seconds and twice its last C(cycle_time).
  - The verdict is V(healthy), V(unhealthy) or V(inconclusive). What can't be read is inconclusive.
  - With O(healthy_for), waits inside the module until the verdict is decided, and returns as early as it is.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.info
options:
  components:
    description: Names of components; all that the current release's C(config.py) names where empty.
    type: list
    elements: str
    default: []
  secrets:
    description: The agent's C(WMAgent.secrets).
    type: path
    required: true
  database_name:
    description: Name of the agent's database in MariaDB.
    type: str
    default: wmagent
  healthy_for:
    description:
      - Seconds for which all components must be healthy without interruption.
      - V(0) takes one look at an agent that has been running. Tracebacks in C(ComponentLog) that are new since the
        start are only noted then, unless they ended a worker; otherwise they make a component unhealthy.
    type: float
    default: 0
  healthy_within:
    description: Seconds within which that must be the case, at least O(healthy_for), which V(0) stands for.
    type: float
    default: 0
  known_tracebacks:
    description:
      - Regular expressions for tracebacks of WMAgent's own that do no harm, searched in the exception's type, the
        functions it came through and its message.
      - Such a traceback is noted and does not make a component unhealthy, unless it ended a worker.
    type: list
    elements: str
    default: []
  since:
    description: Seconds since the epoch. A component that was started earlier is unhealthy.
    type: float
"""

EXAMPLES = r"""
- name: Take one look
  dmwm.wmagent.components_info:
    wmagent_root: /data/srv/wmagent
    secrets: /data/admin/wmagent/WMAgent.secrets
  register: look

- name: Wait for the verdict on an agent just started
  dmwm.wmagent.components_info:
    wmagent_root: /data/srv/wmagent
    secrets: /data/admin/wmagent/WMAgent.secrets
    healthy_for: 60
    healthy_within: 300
  register: judged
  failed_when: judged.verdict != 'healthy'
"""

RETURN = r"""
verdict:
  description: V(healthy), V(unhealthy) or V(inconclusive); that of the worst component.
  returned: success
  type: str
reason:
  description: The main reasons in one line, empty where healthy.
  returned: success
  type: str
reasons:
  description: All reasons, each with its component.
  returned: success
  type: list
  elements: str
components:
  description: For each C(component) its C(verdict), C(reasons), C(notes) and C(evidence), which is all that was seen.
  returned: success
  type: list
  elements: dict
waited_seconds:
  description: Seconds until the verdict was decided.
  returned: success
  type: float
healthy_seconds:
  description: Seconds for which all components had been healthy at the end.
  returned: success
  type: float
looks:
  description: How often the evidence was collected.
  returned: success
  type: int
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.components import (
    collect_evidence,
    masked,
    wait_for_verdict,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets, secret_values
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def run(params: dict[str, Any]) -> dict[str, Any]:
    """The verdict as plain data. Raises WMAgentError."""
    layout = AgentLayout(Path(params["wmagent_root"]))
    release = layout.current_release()
    secrets = read_secrets(Path(params["secrets"]))
    settings = settings_from_secrets(secrets, params["database_name"])
    waited = wait_for_verdict(
        lambda: collect_evidence(layout, release, settings, params["components"]),
        healthy_for=params["healthy_for"],
        healthy_within=params["healthy_within"] or params["healthy_for"],
        since=params["since"],
        known_tracebacks=params["known_tracebacks"],
    )
    result: dict[str, Any] = masked(waited.as_dict(), secret_values(secrets))
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "wmagent_root": {"type": "path", "required": True},
            "components": {"type": "list", "elements": "str", "default": []},
            "secrets": {"type": "path", "required": True, "no_log": False},
            "database_name": {"type": "str", "default": "wmagent"},
            "healthy_for": {"type": "float", "default": 0},
            "healthy_within": {"type": "float", "default": 0},
            "known_tracebacks": {"type": "list", "elements": "str", "default": []},
            "since": {"type": "float"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **run(module.params))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
