#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: remove releases that an agent does not need any more."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_prune
short_description: Remove old releases of an agent, and the blobs that no release needs
version_added: 0.1.0
description:
  - Keeps the releases that were current last, as the agent's ledger tells. Releases that never were current go first.
  - Never removes the current release, nor the one before it.
  - Of an adopted release only the folder under C(releases/) goes, never the files that were deployed by hand.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
options:
  keep:
    description: Number of releases to have afterwards, the current one counted. At least 1.
    type: int
    default: 3
"""

EXAMPLES = r"""
- name: Keep the last three releases
  dmwm.wmagent.release_prune:
    wmagent_root: /data/srv/wmagent
    keep: 3
"""

RETURN = r"""
releases:
  description: Folder names of the releases that were removed (in check mode, that would be).
  returned: success
  type: list
  elements: str
blobs:
  description: Digests of the blobs that were removed (in check mode, that would be).
  returned: success
  type: list
  elements: str
bytes_freed:
  description: Bytes on disk given back; 0 in check mode.
  returned: success
  type: int
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.install import staging
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import plan_by_ledger, prune


def run(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Prune, or tell what would be."""
    layout = AgentLayout(Path(params["wmagent_root"]))
    plan = plan_by_ledger(layout, params["keep"])
    freed = 0
    if not check and (plan.releases or plan.blobs):
        with staging(layout):
            plan = plan_by_ledger(layout, params["keep"])  # a staging may have ended in between
            freed = prune(layout, plan)
    return {
        "changed": bool(plan.releases or plan.blobs),
        "releases": list(plan.releases),
        "blobs": list(plan.blobs),
        "bytes_freed": freed,
        "diff": {
            "before": "".join(f"{name}\n" for name in (*plan.releases, *plan.blobs)),
            "after": "",
        },
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "wmagent_root": {"type": "path", "required": True},
            "keep": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
