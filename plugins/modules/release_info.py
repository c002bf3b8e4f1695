#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: which releases an agent has, which one is current, and what was changed in it by hand."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_info
short_description: Tell which release an agent runs, which others it has, and what was changed by hand
version_added: 0.1.0
description:
  - Tells the current release with its image and digest, all other releases, and C(drift), every file that differs from
    its image.
  - For an adopted agent, its files are compared with the RECORDs of its own packages.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.info
options:
  drift:
    description: Look for drift in the current release, in all releases, or not at all.
    type: str
    choices: [current, all, none]
    default: current
  compare_versions:
    description:
      - For an adopted agent, tell packages too whose version is not that of the image of the same tag, where a release
        of that is installed. There are such packages wherever the agent was deployed at another time, patched or not.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Which agent runs what
  dmwm.wmagent.release_info:
    wmagent_root: /data/srv/wmagent
  register: info

- name: No agent was patched by hand
  ansible.builtin.assert:
    that: info.drift | length == 0
"""

RETURN = r"""
current:
  description: The current release; none where the agent was never adopted.
  returned: success
  type: dict
  sample: {name: 2.4.5.9-p1-0a1b2c3d4e5f, image: 2.4.5.9-p1, tag: 2.4.5.9, adopted: false}
problem:
  description: Why there is no current release, empty where there is one.
  returned: success
  type: str
releases:
  description: All releases, sorted by name; each with C(patches) of its image and, where it was looked for, C(drift).
  returned: success
  type: list
  elements: dict
drift:
  description: Files of the current release that differ from its image.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Path below the release's prefix, or the name of a package.
      type: str
    kind:
      description: One of C(modified), C(missing), C(extra), C(mode) and C(version).
      type: str
    detail:
      description: What was expected and what is there.
      type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.inventory import describe_releases


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "wmagent_root": {"type": "path", "required": True},
            "drift": {"type": "str", "choices": ["current", "all", "none"], "default": "current"},
            "compare_versions": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result: dict[str, Any] = describe_releases(
            AgentLayout(Path(module.params["wmagent_root"])),
            module.params["drift"],
            compare_versions=module.params["compare_versions"],
        )
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
