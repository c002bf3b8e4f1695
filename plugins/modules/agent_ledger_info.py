#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what an agent's ledger holds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_ledger_info
short_description: Tell what was done to a WMAgent, by its ledger
version_added: 0.1.0
description:
  - Reads C(.deploy/ledger.jsonl), which M(dmwm.wmagent.agent_ledger), M(dmwm.wmagent.agent_adopt) and
    M(dmwm.wmagent.agent_lock) write.
  - A line that a crash cut short is left out. An agent without a ledger was never adopted and has no entries.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.info
"""

EXAMPLES = r"""
- name: What was done to the agent
  dmwm.wmagent.agent_ledger_info:
    wmagent_root: /data/srv/wmagent
  register: ledger
"""

RETURN = r"""
entries:
  description: The entries, oldest first, each with C(time), C(action), and what that action notes.
  returned: success
  type: list
  elements: dict
  sample:
    - {time: "2026-11-23T06:33:00Z", action: adopt, by: operator@controller, from: null, to: 2.4.4-adopted-0a1b2c3d4e5f}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def run(root: Path) -> dict[str, Any]:
    """The entries as plain data. Raises WMAgentError."""
    if not root.is_dir():
        raise WMAgentError(f"{root} does not exist; check wmagent_root")
    return {"entries": ledger.read(AgentLayout(root).ledger)}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={"wmagent_root": {"type": "path", "required": True}},
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **run(Path(module.params["wmagent_root"])))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
