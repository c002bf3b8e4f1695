#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what all tables of an agent's database take."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_info
short_description: Tell what the tables of a WMAgent's database take
version_added: 0.1.0
description:
  - Tells bytes and rows of every table of the agent, WMBS and DBSBuffer alike, as the server has them noted. No table
    is read, so it takes no longer on a large database.
notes:
  - It was run on MariaDB 10.11. Its statement for Oracle was never run on an Oracle server.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.database
  - dmwm.wmagent.agent.info
"""

EXAMPLES = r"""
- name: Which tables are the largest
  dmwm.wmagent.database_info:
    secrets: /data/admin/wmagent/WMAgent.secrets
  register: database
"""

RETURN = r"""
dialect:
  description: C(mariadb) or C(oracle).
  returned: success
  type: str
tables:
  description:
    - For each table C(bytes) of its data, its indexes and what is free in its file, and C(rows) as estimated by the
      server. Null where it does not tell.
  returned: success
  type: dict
bytes:
  description: Those of all tables together; null where the server does not tell those of one of them.
  returned: success
  type: int
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect, settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.sizes import read_table_sizes
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def run(params: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes as plain data. Raises WMAgentError."""
    settings = settings_from_secrets(read_secrets(Path(params["secrets"])), params["database_name"])
    with connect(settings, params["timeout"]) as connection:
        tables = read_table_sizes(connection)
    sizes = [table["bytes"] for table in tables.values()]
    known = [size for size in sizes if size is not None]
    return {
        "dialect": settings.dialect,
        "tables": tables,
        "bytes": sum(known) if len(known) == len(sizes) else None,
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "secrets": {"type": "path", "required": True, "no_log": False},
            "database_name": {"type": "str", "default": "wmagent"},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **run(module.params))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
