#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: write an entry into an agent's ledger."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_ledger
short_description: Record in a WMAgent's ledger what was done to it
version_added: 0.1.0
description:
  - Appends one entry to C(.deploy/ledger.jsonl), on disk before the module returns.
  - Closes the journal of the switch that the entry is about; V(cleanup), V(drain) and V(undrain) are about none.
  - The ledger also holds entries of M(dmwm.wmagent.agent_adopt) (C(adopt)) and M(dmwm.wmagent.agent_lock)
    (C(lock_taken_over)).
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
attributes:
  check_mode:
    support: full
    description: Tells what it would append.
  diff_mode:
    support: full
    description: Shows the entry.
  idempotent:
    support: none
    description: Each call is one more thing that happened.
options:
  action:
    description: What was done.
    type: str
    required: true
    choices: [upgrade, rollback, redeploy, aborted, judged, cleanup, drain, undrain]
  rollout:
    description: Id of the rollout.
    type: str
    required: true
  owner:
    description: Who did it, C(user@controller).
    type: str
    required: true
  from_release:
    description: Folder name of the release that was current before.
    type: str
    required: true
  to_release:
    description: Folder name of the release that is current now.
    type: str
    required: true
  verdict:
    description: The verdict after it.
    type: str
    required: true
    choices: [healthy, unhealthy, inconclusive, none]
  details:
    description: Figures and evidence. No secrets.
    type: dict
    default: {}
  keep_journal:
    description: Leaves the switch open, since a person has to decide.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Record the upgrade
  dmwm.wmagent.agent_ledger:
    wmagent_root: /data/srv/wmagent
    action: upgrade
    rollout: 20261123T063300-2.4.5.9-p1
    owner: operator@controller
    from_release: adopted-2.4.5.8-0a1b2c3d4e5f
    to_release: 2.4.5.9-p1-6f7e8d9c0b1a
    verdict: healthy
    details: {downtime: 2.1}
"""

RETURN = r"""
entry:
  description: The entry as it stands in the ledger.
  returned: success
  type: dict
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import (
    clear_journal,
    exclusive,
    read_journal,
    write_journal,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_NO_SWITCH = ("cleanup", "drain", "undrain")


def run(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Append the entry, then close the journal: cut off between the two, the next run judges again."""
    layout = AgentLayout(Path(params["wmagent_root"]))
    details = {
        "by": params["owner"],
        "rollout": params["rollout"],
        "from": params["from_release"],
        "to": params["to_release"],
        "verdict": params["verdict"],
        **params["details"],
    }
    if check:
        return {"changed": True, "entry": {"action": params["action"], **details}}
    # An agent that was deployed by hand has no such folder before it is adopted.
    layout.ledger.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(layout):
        entry = ledger.append(layout.ledger, params["action"], **details)
        if params["action"] in _NO_SWITCH:
            return {"changed": True, "entry": entry}
        journal = read_journal(layout)
        if not params["keep_journal"]:
            clear_journal(layout)
        elif journal is not None:
            write_journal(layout, replace(journal, recorded=True))
    return {"changed": True, "entry": entry}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "wmagent_root": {"type": "path", "required": True},
            "action": {
                "type": "str",
                "required": True,
                "choices": ["upgrade", "rollback", "redeploy", "aborted", "judged", *_NO_SWITCH],
            },
            "rollout": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "from_release": {"type": "str", "required": True},
            "to_release": {"type": "str", "required": True},
            "verdict": {
                "type": "str",
                "required": True,
                "choices": ["healthy", "unhealthy", "inconclusive", "none"],
            },
            "details": {"type": "dict", "default": {}},
            "keep_journal": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    result["diff"] = {"before": {}, "after": result["entry"]}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
