#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: take or give back an agent's lock."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_lock
short_description: Take or give back the lock of a WMAgent
version_added: 0.1.0
description:
  - Only one rollout at a time may change an agent. The lock says whose it is and when it expires.
  - A rollout that runs again takes its own lock again. Another one is refused until the lock expires, or until
    O(break_lock) names the rollout that holds it.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
options:
  rollout:
    description: Id of the rollout that wants the lock, or that gives it back.
    type: str
    required: true
  owner:
    description: Who runs the rollout, C(user@controller). Needed with O(state=present).
    type: str
  state:
    description:
      - V(present) takes or renews the lock.
      - V(absent) gives it back; a lock of another rollout is left alone.
    type: str
    choices: [present, absent]
    default: present
  ttl:
    description: Seconds after which another rollout may take the lock.
    type: int
    default: 7200
  break_lock:
    description: Id of a rollout whose lock may be taken over before it expires.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Take the lock
  dmwm.wmagent.agent_lock:
    wmagent_root: /data/srv/wmagent
    rollout: 20261123T063300-2.4.5.9-p1
    owner: operator@controller

- name: Give it back
  dmwm.wmagent.agent_lock:
    wmagent_root: /data/srv/wmagent
    rollout: 20261123T063300-2.4.5.9-p1
    state: absent
"""

RETURN = r"""
lock:
  description: The lock as it is now; V(null) where nobody holds it.
  returned: success
  type: dict
  sample: {owner: operator@controller, rollout: 20261123T063300-2.4.5.9-p1, taken: 1795415580.0, expires: 1795422780.0}
replaced:
  description: The lock of another rollout that was taken over, because it had expired or O(break_lock) named it.
  returned: success
  type: dict
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.lock import (
    Lock,
    read_lock,
    refusal,
    release_lock,
    take_lock,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def run(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Take or give back the lock. Raises WMAgentError where another rollout holds it."""
    layout = AgentLayout(Path(params["wmagent_root"]))
    held = read_lock(layout.lock)
    rollout = params["rollout"]
    if params["state"] == "absent":
        changed = held is not None and held.rollout == rollout
        if changed and not check:
            release_lock(layout.lock, rollout)
        return _result(changed, None if changed else held, None)
    if reason := refusal(held, rollout, params["break_lock"], time.time()):
        raise WMAgentError(reason)
    other = held if held and held.rollout != rollout else None
    changed = held is None or other is not None
    if check:
        return _result(changed, held, other)
    mine, other = take_lock(
        layout.lock, owner=params["owner"], rollout=rollout, ttl=params["ttl"], break_lock=params["break_lock"]
    )
    if other is not None:
        ledger.append(layout.ledger, "lock_taken_over", by=params["owner"], rollout=rollout, held_by=asdict(other))
    return _result(changed, mine, other)


def _result(changed: bool, lock: Lock | None, replaced: Lock | None) -> dict[str, Any]:
    return {
        "changed": changed,
        "lock": asdict(lock) if lock else None,
        "replaced": asdict(replaced) if replaced else None,
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "wmagent_root": {"type": "path", "required": True},
            "rollout": {"type": "str", "required": True},
            "owner": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "ttl": {"type": "int", "default": 7200},
            "break_lock": {"type": "str", "default": ""},
        },
        required_if=[("state", "present", ["owner"])],
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    result["diff"] = {"before": {"lock": None}, "after": {"lock": result["lock"]}} if result["changed"] else {}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
