#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what an agent's DBSBuffer holds, what of it may go, and why the rest stays."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dbsbuffer_info
short_description: Tell what a WMAgent's DBSBuffer holds and what of it may be deleted
version_added: 0.1.0
description:
  - Measures the DBSBuffer tables and decides for every workflow whether its files may be deleted, by the same plan that
    M(dmwm.wmagent.dbsbuffer_cleanup) follows. For each workflow that stays it tells why.
  - Reads one consistent picture of the database without a lock.
  - With O(before), tells how fast the tables grow.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.database.login
  - dmwm.wmagent.dbsbuffer
  - dmwm.wmagent.agent.info
options:
  before:
    description: An earlier result of this module, with C(time) and C(tables), to tell the growth since.
    type: dict
"""

EXAMPLES = r"""
- name: What could be cleaned
  dmwm.wmagent.dbsbuffer_info:
    secrets: /data/admin/wmagent/WMAgent.secrets
    retention: 14d
  register: dbsbuffer

- name: Why workflows stay
  ansible.builtin.debug:
    var: dbsbuffer.held_back.reasons
"""

RETURN = r"""
tables:
  description:
    - For each table C(rows), C(bytes) and C(free_bytes). Bytes are null where the server does not tell them, and
      C(unknown) says why.
  returned: success
  type: dict
eligible:
  description: How many C(workflows), C(files), C(blocks) and C(placeholders) may go, and the time of the C(oldest).
  returned: success
  type: dict
held_back:
  description:
    - How many C(workflows) and C(files) stay; by C(reasons), how many workflows each keeps; C(blocks) that stay for
      reasons of their own.
    - C(by_workflow) has for each workflow its reasons with counts, such as C(file NOTUPLOADED) 3, for the first 500.
      A row without a name is called C(#) and its id, and a name that begins with C(#) gets one more.
  returned: success
  type: dict
reclaimable_bytes:
  description: Bytes that a cleanup would give back, by the share of files that may go; null where unknown.
  returned: success
  type: int
leftovers:
  description: Whether an interrupted rebuild left tables; M(dmwm.wmagent.dbsbuffer_cleanup) sees to them.
  returned: success
  type: bool
dialect:
  description: C(mariadb) or C(oracle).
  returned: success
  type: str
growth:
  description: Rows and bytes per day of each table since O(before), and the C(days) in between.
  returned: where O(before) is given
  type: dict
time:
  description: When this was read, UNIX time in seconds.
  returned: success
  type: float
"""

import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.login import (
    LOGIN_OPTIONS,
    LOGIN_RULES,
    settings_from_options,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import telling
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.cleanup import Cleanup, Request
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.options import RULE_OPTIONS, rules_from_options
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def run(params: Mapping[str, Any]) -> dict[str, Any]:
    """The reading as plain data. Raises WMAgentError."""
    now = time.time()
    request = Request(rules_from_options(params, now), optimize=False)
    cleanup = Cleanup(settings_from_options(params), request, note=lambda text: None, timeout=params["timeout"])
    cleanup.look()
    tables = telling.sizes_as_dict(cleanup.before)
    result = {
        "time": now,
        "dialect": cleanup.settings.dialect,
        "tables": tables,
        "reclaimable_bytes": telling.reclaimable(cleanup.before, cleanup.plan),
        "leftovers": cleanup.leftovers,
        **telling.plan_as_dict(cleanup.plan),
    }
    if params["before"] is not None:
        if not {"time", "tables"} <= params["before"].keys():
            raise WMAgentError("before is no earlier result of dbsbuffer_info: it lacks time or tables")
        result["growth"] = telling.growth(params["before"], tables, now)
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={**LOGIN_OPTIONS, **RULE_OPTIONS, "before": {"type": "dict"}},
        supports_check_mode=True,
        **LOGIN_RULES,
    )
    try:
        module.exit_json(changed=False, **run(module.params))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
