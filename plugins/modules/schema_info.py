#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: may an agent go to another image by code alone?"""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_info
short_description: Tell whether a WMAgent's database has the structure that an image needs
version_added: 0.1.0
description:
  - Compares three structures, the one in the agent's database, the one that the running release's image describes and
    the one that the target image describes. Where all are the same, the agent may go there by code alone, also to
    another X.Y.Z. Where they are not, it has to be drained and redeployed.
  - Only structure counts, which is tables, columns with type, nullability and default, primary and unique keys, indexes
    and foreign keys. Names of indexes and foreign keys, order and AUTO_INCREMENT values say nothing and are left out.
  - Reads the database's dictionary and no record, with the agent's own account.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.database
  - dmwm.wmagent.agent.info
options:
  target:
    description:
      - The structure that the target image describes, or its whole C(schema) with a structure for V(mariadb) and
        V(oracle). Without it, the module only tells what is there.
    type: dict
  running:
    description: The same of the running release's image. Leave it out where there is none, as for an adopted agent.
    type: dict
seealso:
  - module: dmwm.wmagent.image_info
"""

EXAMPLES = r"""
- name: Look at the schema of an agent
  dmwm.wmagent.schema_info:
    secrets: /data/admin/wmagent/WMAgent.secrets
  register: live

- name: May it go to this image?
  dmwm.wmagent.schema_info:
    secrets: /data/admin/wmagent/WMAgent.secrets
    running: "{{ running_image.schema }}"
    target: "{{ target_image.schema }}"
  register: guard
  failed_when: not guard.allowed
"""

RETURN = r"""
allowed:
  description: Whether code alone is enough.
  returned: where O(target) is given
  type: bool
message:
  description: The answer in one line; says C(redeploy) where it is no.
  returned: where O(target) is given
  type: str
differences:
  description:
    - One line for each difference, under C(running_target), C(live_running) and C(live_target). The first two are null
      where O(running) is not given.
  returned: where O(target) is given
  type: dict
fingerprints:
  description: SHA-256 of each structure, under C(live), C(running) and C(target).
  returned: success
  type: dict
dialect:
  description: V(mariadb) or V(oracle).
  returned: success
  type: str
structure:
  description: The structure in the database.
  returned: success
  type: dict
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect, settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.guard import judge, structure_for
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import fingerprint
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema_reader import read_structure
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def run(params: Mapping[str, Any]) -> dict[str, Any]:
    """The guard's answer as plain data. Raises WMAgentError."""
    settings = settings_from_secrets(read_secrets(Path(params["secrets"])), params["database_name"])
    with connect(settings, params["timeout"]) as connection:
        live = read_structure(connection)
    result: dict[str, Any] = {
        "dialect": settings.dialect,
        "structure": live,
        "fingerprints": {"live": fingerprint(live)},
    }
    if params["target"] is None:
        return result
    running = params["running"]
    return result | judge(
        target=structure_for(params["target"], settings.dialect, "target image"),
        live=live,
        running=None if running is None else structure_for(running, settings.dialect, "running image"),
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "secrets": {"type": "path", "required": True, "no_log": False},
            "database_name": {"type": "str", "default": "wmagent"},
            "timeout": {"type": "float", "default": 30},
            "target": {"type": "dict"},
            "running": {"type": "dict"},
        },
        required_by={"running": ["target"]},
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **run(module.params))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
