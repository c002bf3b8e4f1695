#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: note how far a redeployment of an agent has come"""

from __future__ import annotations

DOCUMENTATION = r"""
module: redeploy
short_description: Note on a WMAgent how far its redeployment has come
version_added: 0.1.0
description:
  - Begins a redeployment, notes a step that is over, or ends it. The modules that save, wipe and make databases note
    their own steps, and refuse to work out of turn.
  - Begun again after an interruption, a redeployment that has wiped something goes on where it was; another one begins
    anew.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
options:
  state:
    description: V(begun) begins or goes on, V(at) notes O(step), V(absent) ends it.
    type: str
    choices: [begun, at, absent]
    required: true
  step:
    description: The step that is over.
    type: str
    choices: [stopped, started, recorded]
  id:
    description: Id of the run; needed with V(begun).
    type: str
  owner:
    description: Who runs it, C(user@controller); needed with V(begun).
    type: str
  agent:
    description: The name that a wipe has to be confirmed with; needed with V(begun).
    type: str
  target:
    description: Folder name of the release to go to, which has to be staged; needed with V(begun).
    type: str
  saves:
    description: Folder on the agent below which databases are saved; needed with V(begun).
    type: path
"""

EXAMPLES = r"""
- name: Begin
  dmwm.wmagent.redeploy:
    wmagent_root: /data/srv/wmagent
    state: begun
    id: 20261123T063300-2.4.5.9-p1
    owner: operator@controller
    agent: agent1
    target: 2.4.5.9-p1-6f7e8d9c0b1a
    saves: /data/srv/wmagent/.deploy/saved
"""

RETURN = r"""
redeployment:
  description: The redeployment, with C(step), C(origin), C(target), C(folder) and whether it C(destroys) already.
  returned: success
  type: dict
details:
  description: Figures of the steps that are over, for the ledger.
  returned: success
  type: dict
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import exclusive
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.switch import find_release
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import journal
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.journal import Redeployment


def begun(layout: AgentLayout, params: Mapping[str, Any], found: Redeployment | None) -> Redeployment:
    """The redeployment that this run goes on with. Raises WMAgentError."""
    now = time.time()
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    return journal.begin(
        found,
        Redeployment(
            id=params["id"],
            owner=params["owner"],
            agent=params["agent"],
            origin=layout.current_release().name,
            target=find_release(layout, params["target"]).name,
            folder=str(Path(params["saves"]) / name),
            step="begun",
            begun=now,
        ),
    )


def run(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Begin, note or end. Raises WMAgentError."""
    layout = AgentLayout(Path(params["wmagent_root"]))
    found = journal.read(layout)
    if check:
        return {"changed": found is not None or params["state"] == "begun", **told(found)}
    with exclusive(layout):
        found = journal.read(layout)
        if params["state"] == "absent":
            return {"changed": journal.clear(layout), **told(found)}
        if params["state"] == "begun":
            after = begun(layout, params, found)
        else:
            if found is None:
                raise WMAgentError("no redeployment is under way on this agent; use the playbook dmwm.wmagent.redeploy")
            after = found.at(params["step"]) if not found.reached(params["step"]) else found
        if after != found:
            journal.write(layout, after)
    return {"changed": after != found, **told(after)}


def told(found: Redeployment | None) -> dict[str, Any]:
    """Plain data for the result."""
    return {"redeployment": dict(journal.summary(found)), "details": found.details if found else {}}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "wmagent_root": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["begun", "at", "absent"], "required": True},
            "step": {"type": "str", "choices": ["stopped", "started", "recorded"]},
            "id": {"type": "str"},
            "owner": {"type": "str"},
            "agent": {"type": "str"},
            "target": {"type": "str"},
            "saves": {"type": "path"},
        },
        required_if=[("state", "begun", ["id", "owner", "agent", "target", "saves"]), ("state", "at", ["step"])],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
