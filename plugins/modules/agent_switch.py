#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: make another installed release the current one of an agent."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_switch
short_description: Stop a WMAgent, switch it to another installed release, start it
version_added: 0.1.0
description:
  - Makes the new release's interpreter ready, stops all components, reads from MariaDB or Oracle and CouchDB what tells
    whether any record changes, switches C(current) with one C(rename(2)), reads the same again, and starts all
    components.
  - Where a release's interpreter can't be made ready or the databases can't be read, nothing is stopped.
  - Where a record changed in between, nothing is started, and RV(problem) says which. The caller decides; the journal
    stays.
  - Each step is journaled before it begins. Cut off anywhere, the same call finishes the work.
  - The verdict over what was started is M(dmwm.wmagent.components_info)'s.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
options:
  release:
    description: The release to go to, by folder name, image name or digest.
    type: str
    required: true
  rollout:
    description: Id of the rollout, for the journal.
    type: str
    required: true
  secrets:
    description: The agent's C(WMAgent.secrets).
    type: path
    required: true
  database_name:
    description: Name of the agent's database in MariaDB.
    type: str
    default: wmagent
  environment:
    description: Environment of the components, such as C(X509_HOST_CERT).
    type: dict
    default: {}
  components:
    description: Components to stop and start; all that C(config.py) names where empty.
    type: list
    elements: str
    default: []
  stop_timeout:
    description: Seconds after SIGTERM before SIGKILL.
    type: float
    default: 30
  graceful_timeout:
    description: Seconds to wait for each component to be between two cycles before it is stopped; 0 does not wait.
    type: float
    default: 0
  start_timeout:
    description: Seconds that the new release's interpreter may take to get ready, and again to start all components.
    type: float
    default: 90
  settle:
    description:
      - Seconds within which a component that dies counts as not started.
      - Its threads are written down again at their end, since AgentWatchdog restarts a component that has others.
    type: float
    default: 3
  back:
    description: Whether this is a way back, to a release that is known to have run.
    type: bool
    default: false
  require_records:
    description:
      - Whether the databases must be readable before anything is stopped, and unchanged before anything is started.
      - V(false) is for the way back from a failure, when an agent that runs counts for more than the evidence.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Go to the staged release
  dmwm.wmagent.agent_switch:
    wmagent_root: /data/srv/wmagent
    release: 2.4.5.9-p1
    rollout: 20261123T063300-2.4.5.9-p1
    secrets: /data/admin/wmagent/WMAgent.secrets
"""

RETURN = r"""
origin:
  description: Folder name of the release that was current before the switch.
  returned: success
  type: str
target:
  description: Folder name of the release to become current.
  returned: success
  type: str
begun:
  description: Whether a switch to RV(target) was under way or finished but not yet judged when the module was called.
  returned: success
  type: bool
problem:
  description: What went wrong after the stop, empty where nothing did.
  returned: success
  type: str
downtime:
  description: Seconds from the first stop signal until the last component was up with live workers.
  returned: when components were stopped and started
  type: float
started_at:
  description: UNIX time at which the components were told to start, in seconds.
  returned: when they were
  type: float
phases:
  description: Seconds of each step.
  returned: success
  type: dict
stopped:
  description: Each process that was stopped, and how.
  returned: success
  type: list
  elements: dict
started:
  description: Each component that was started, with its process id and what went wrong with it.
  returned: success
  type: list
  elements: dict
records:
  description: The evidence that no record was touched. C(summary) in words, C(changes) a line for each that changed.
  returned: success
  type: dict
recorded:
  description: Whether the ledger has an entry on this switch already, so that only a verdict is due.
  returned: success
  type: bool
resumed_at:
  description: The step at which an interrupted switch was taken up again, empty otherwise.
  returned: success
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.components import masked
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.effects import Options, real_effects
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import exclusive, read_journal
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import mask, read_secrets, secret_values
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.switch import (
    find_release,
    needs_switch,
    switch_release,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def run(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Switch, or tell what would be done. Raises WMAgentError."""
    layout = AgentLayout(Path(params["wmagent_root"]))
    if check:
        return _plan(layout, params["release"])
    target = find_release(layout, params["release"])
    journal = read_journal(layout)
    begun = journal is not None and journal.target == target.name
    options = Options(
        secrets=read_secrets(Path(params["secrets"])),
        database_name=params["database_name"],
        components=tuple(params["components"]),
        environment={name: str(value) for name, value in params["environment"].items()},
        stop_timeout=params["stop_timeout"],
        graceful_timeout=params["graceful_timeout"],
        start_timeout=params["start_timeout"],
        settle=params["settle"],
        require_records=params["require_records"],
        back=params["back"],
    )
    # A module whose controller has died may still run, and ends within its own time limits.
    patience = options.stop_timeout + options.graceful_timeout + 2 * options.start_timeout + 60
    try:
        with exclusive(layout, timeout=patience):
            result = switch_release(layout, target, params["rollout"], real_effects(layout, options))
    except WMAgentError as error:
        raise WMAgentError(mask(str(error), secret_values(options.secrets))) from None
    answer: dict[str, Any] = masked(result.as_dict(), secret_values(options.secrets))
    return {**answer, "begun": begun}


def _plan(layout: AgentLayout, release: str) -> dict[str, Any]:
    """What a check run tells. It may come before adoption and staging, which a check run only tells of as well."""
    journal = read_journal(layout)
    plan: dict[str, Any] = {"problem": "", "phases": {}, "stopped": [], "started": [], "records": {}, "resumed_at": ""}
    plan |= {"recorded": False, "downtime": None, "started_at": None}
    if not layout.is_adopted():
        return {**plan, "changed": True, "origin": "deployed by hand", "target": release, "begun": False}
    current = layout.current_release()
    if release not in {name for one in layout.all_releases() for name in (one.name, one.image, one.digest)}:
        return {**plan, "changed": True, "origin": current.name, "target": release, "begun": False}
    target = find_release(layout, release)
    begun = journal is not None and journal.target == target.name
    return {
        **plan,
        "changed": needs_switch(layout, target),
        "origin": journal.origin if journal and begun else current.name,
        "target": target.name,
        "begun": begun,
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "wmagent_root": {"type": "path", "required": True},
            "release": {"type": "str", "required": True},
            "rollout": {"type": "str", "required": True},
            "secrets": {"type": "path", "required": True, "no_log": False},
            "database_name": {"type": "str", "default": "wmagent"},
            "environment": {"type": "dict", "default": {}},
            "components": {"type": "list", "elements": "str", "default": []},
            "stop_timeout": {"type": "float", "default": 30},
            "graceful_timeout": {"type": "float", "default": 0},
            "start_timeout": {"type": "float", "default": 90},
            "settle": {"type": "float", "default": 3},
            "back": {"type": "bool", "default": False},
            "require_records": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    if result["changed"]:
        result["diff"] = {"before": {"current": result["origin"]}, "after": {"current": result["target"]}}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
