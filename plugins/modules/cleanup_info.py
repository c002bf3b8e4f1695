#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: which parts of an agent there is something to clean in."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cleanup_info
short_description: Tell what of a WMAgent there is to clean
version_added: 0.1.0
description:
  - Asks each part of a cleanup by its own rules, and no further than to the first thing that may go, so that a cleanup
    of an agent with nothing to do is over soon.
  - A part that cannot be read counts as due; the module that cleans it tells what is wrong there.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.info
  - dmwm.wmagent.database
  - dmwm.wmagent.dbsbuffer
options:
  parts:
    description: Which parts to look at.
    type: list
    elements: str
    choices: [files, couchdb, dbsbuffer]
    default: [files, couchdb, dbsbuffer]
  keep_releases:
    description: As O(dmwm.wmagent.release_prune#module:keep).
    type: int
    default: 3
  log_retention:
    description: As O(dmwm.wmagent.logs_prune#module:older_than).
    type: str
    default: 14d
  min_age:
    description: As O(dmwm.wmagent.couchdb_purge#module:min_age).
    type: str
    default: '0'
  archived_workflows:
    description: As O(dmwm.wmagent.couchdb_purge#module:archived_workflows); with any, C(couchdb) is due.
    type: list
    elements: str
    default: []
  keep_copy_for:
    description: As O(dmwm.wmagent.couchdb_rotate#module:keep_copy_for).
    type: str
    default: 7d
  data_directory:
    description: As O(dmwm.wmagent.couchdb_compact#module:data_directory).
    type: path
"""

EXAMPLES = r"""
- name: Is there anything to clean
  dmwm.wmagent.cleanup_info:
    wmagent_root: /data/srv/wmagent
    secrets: /data/admin/wmagent/WMAgent.secrets
  register: dirt
"""

RETURN = r"""
due:
  description: The parts of O(parts) that have something to clean.
  returned: success
  type: list
  elements: str
reasons:
  description: For each part that is due the first reason found.
  returned: success
  type: dict
summary:
  description: What was found, in one line.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._cleanup.due import LOOKS, look
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.options import RULE_OPTIONS


def run(params: dict[str, Any]) -> dict[str, Any]:
    """What is due, as plain data."""
    reasons = {part: why for part in LOOKS if part in params["parts"] and (why := look(part, params))}
    told = "; ".join(f"{part}: {why}" for part, why in reasons.items())
    return {"changed": False, "due": list(reasons), "reasons": reasons, "summary": told or "nothing to clean"}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **RULE_OPTIONS,
            "wmagent_root": {"type": "path", "required": True},
            "secrets": {"type": "path", "required": True, "no_log": False},
            "database_name": {"type": "str", "default": "wmagent"},
            "timeout": {"type": "float", "default": 30},
            "parts": {"type": "list", "elements": "str", "choices": list(LOOKS), "default": list(LOOKS)},
            "keep_releases": {"type": "int", "default": 3},
            "log_retention": {"type": "str", "default": "14d"},
            "min_age": {"type": "str", "default": "0"},
            "archived_workflows": {"type": "list", "elements": "str", "default": []},
            "keep_copy_for": {"type": "str", "default": "7d"},
            "data_directory": {"type": "path"},
        },
        supports_check_mode=True,
    )
    module.exit_json(**run(module.params))


if __name__ == "__main__":
    main()
