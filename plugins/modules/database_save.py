#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: save the whole database of an agent"""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_save
short_description: Save the whole database of a WMAgent that is to be redeployed
version_added: 0.1.0
description:
  - Dumps the agent's MariaDB database with C(mariadb-dump) into a compressed file, and shows that the file is whole.
    Where a MariaDB server is installed on the agent, the dump is put back into a private one, and its tables, rows and
    contents are compared; elsewhere the rows of each table are counted in the file.
  - Works only with all components stopped.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.redeploy
requirements:
  - mariadb-client; mariadb-server-core for the trial
"""

EXAMPLES = r"""
- name: Save the database
  dmwm.wmagent.database_save:
    wmagent_root: /data/srv/wmagent
    secrets: /data/admin/wmagent/WMAgent.secrets
"""

RETURN = r"""
file:
  description: The dump.
  returned: where it was saved
  type: str
size:
  description: Its size in bytes.
  returned: where it was saved
  type: int
verified:
  description: V(restored) or V(counted).
  returned: where it was saved
  type: str
tables:
  description: Each table with its number of rows.
  returned: success
  type: dict

summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import exclusive
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import dump, journal, tables
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.agent import OPTIONS, Agent, demand_room

_PACKED = 2
"""A dump takes at most half of what the tables take: it has no indexes, and is compressed."""


def run(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Save it. Raises WMAgentError."""
    agent = Agent.of(params)
    with exclusive(agent.layout):
        found = journal.demand(journal.read(agent.layout), "stopped", "saved")
        agent.refuse_running()
        with agent.session() as connection:
            tables.demand_mariadb(connection, "saving it")
            rows = tables.count_rows(connection)
            size = tables.bytes_of(connection)
        tables.refuse_strangers(rows, agent.known_tables(found.origin, found.target))
        if check:
            return {"changed": True, "tables": rows, "summary": f"{len(rows)} tables would be saved"}
        file = prepared(Path(found.folder), size // _PACKED) / "database.sql.gz"
        size, digest = dump.save(agent.settings, file, agent.timeout)
        verified = dump.verify(agent.settings, file, rows, agent.timeout)
        saved = {"file": str(file), "size": size, "sha256": digest, "verified": verified}
        journal.write(agent.layout, found.at("stopped", tables=rows, documents=None, details={"database": saved}))
    told = f"{len(rows)} tables with {sum(rows.values())} rows saved in {file} ({verified})"
    return {"changed": True, "tables": rows, **saved, "summary": told}


def prepared(folder: Path, needed: int) -> Path:
    """The folder to save in, which nobody else may read. Raises WMAgentError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise WMAgentError(f"{folder} cannot be made ({error.strerror}); set wmagent_redeploy_saves") from None
    demand_room(folder, needed)
    return folder


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={**OPTIONS},
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
