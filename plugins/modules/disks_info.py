#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: how many bytes of which disks of an agent's host are in use."""

from __future__ import annotations

DOCUMENTATION = r"""
module: disks_info
short_description: Tell how full the disks of a WMAgent's host are
version_added: 0.1.0
description:
  - Measures local file systems as WMAgent's AgentStatusWatcher does, by C(df -klP). Of these it tells those that lie on
    a block device and those that hold one of O(paths); what is in memory or an image of a package is left out, and a
    device that is mounted twice is told of once.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent.info
options:
  paths:
    description: Files or folders whose file systems are told of in any case.
    type: list
    elements: path
    default: []
  timeout:
    description: Seconds that C(df) may take.
    type: float
    default: 30
"""

EXAMPLES = r"""
- name: How full are the disks, and which of them holds the agent
  dmwm.wmagent.disks_info:
    paths: [/data/srv/wmagent]
  register: disks
"""

RETURN = r"""
disks:
  description:
    - Each file system with C(name) (where it is mounted), C(device), C(used) and C(total) bytes. C(total) is without
      what is reserved for root, so that C(used / total) is the percentage that C(df) tells.
  returned: success
  type: list
  elements: dict
holds:
  description: For each of O(paths) the C(name) of its disk; empty where that is none of this machine's own.
  returned: success
  type: dict
time:
  description: When this was read, UNIX time in seconds.
  returned: success
  type: float
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.disks import holding, of_interest, read_disks
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def run(paths: list[str], timeout: float) -> dict[str, Any]:
    """The disks as plain data. Raises WMAgentError."""
    now = time.time()
    found = read_disks(timeout)
    holds = {path: holding(Path(path), found) for path in paths}
    disks = of_interest(found, set(holds.values()))
    return {
        "time": now,
        "disks": [{"name": d.mounted, "device": d.device, "used": d.used, "total": d.total} for d in disks],
        "holds": holds,
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **run(module.params["paths"], module.params["timeout"]))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
