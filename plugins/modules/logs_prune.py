#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: remove rotated logs of an agent's components."""

from __future__ import annotations

DOCUMENTATION = r"""
module: logs_prune
short_description: Remove old rotated logs of a WMAgent's components
version_added: 0.1.0
description:
  - Removes C(ComponentLog.<n>) and C(Daemon.xml.BAK.<date>) from the components' folders once nothing was written to
    them for O(older_than). The log that a component writes to is never touched, and no link is followed.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
options:
  older_than:
    description: How old they have to be, a number with C(s), C(m), C(h), C(d) or C(w).
    type: str
    default: 14d
"""

EXAMPLES = r"""
- name: Remove rotated logs of more than two weeks
  dmwm.wmagent.logs_prune:
    wmagent_root: /data/srv/wmagent
    older_than: 14d
"""

RETURN = r"""
files:
  description: Files that were removed, or would be.
  returned: success
  type: list
  elements: str
bytes_freed:
  description: Bytes given back (check mode, that would be).
  returned: success
  type: int
kept:
  description: Rotated logs that are not old enough.
  returned: success
  type: int
summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.logs import (
    find_rotated,
    older_than,
    remove,
    work_dir_of,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def run(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Remove, or tell what would be. Raises WMAgentError."""
    age = seconds_of(params["older_than"], "older_than")
    found = find_rotated(work_dir_of(Path(params["wmagent_root"])))
    old = older_than(found, time.time(), age)
    freed = sum(file.size for file in old) if check else remove(old)
    names = [str(file.path) for file in old]
    return {
        "changed": bool(old),
        "files": names,
        "bytes_freed": freed,
        "kept": len(found) - len(old),
        "summary": f"{len(old)} of {len(found)} rotated logs {'would go' if check else 'removed'}, {freed} bytes",
        "diff": {"before": "".join(f"{name}\n" for name in names), "after": ""},
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "wmagent_root": {"type": "path", "required": True},
            "older_than": {"type": "str", "default": "14d"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
