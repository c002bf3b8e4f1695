#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: save the CouchDB databases of an agent"""

from __future__ import annotations

DOCUMENTATION = r"""
module: couchdb_save
short_description: Save the CouchDB databases of a WMAgent that is to be redeployed
version_added: 0.1.0
description:
  - Writes each database of the agent into a compressed file, which holds live documents with all their leaves, design
    documents, C(_local) documents, security and limits, and reads it back. Tombstones are not saved.
  - The agent's databases are those that its release's own C(wmagent-couchapp-init) makes. Others on the same server are
    left alone.
  - Works only with all components stopped. One that was written to meanwhile is an error.
  - M(dmwm.wmagent.couchdb_restore) brings one back.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.redeploy
"""

EXAMPLES = r"""
- name: Save the databases
  dmwm.wmagent.couchdb_save:
    wmagent_root: /data/srv/wmagent
    secrets: /data/admin/wmagent/WMAgent.secrets
"""

RETURN = r"""
databases:
  description:
    - Each database with C(file), C(size) in bytes, C(sha256), C(documents), C(leaves), C(tombstones) and C(update_seq).
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
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import documents, journal
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.agent import (
    OPTIONS,
    Agent,
    demand_room,
    update_seqs,
)


def run(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Save what is not saved as it is now. Raises WMAgentError."""
    agent = Agent.of(params)
    with exclusive(agent.layout):
        found = journal.demand(journal.read(agent.layout), "stopped", "saved", "wiping")
        if found.tables is None:
            raise WMAgentError("the database is not saved yet; use the playbook dmwm.wmagent.redeploy")
        agent.refuse_running()
        client = agent.couchdb()
        names, _others = agent.couchdb_databases(client, agent.release(found.origin))
        saved = {name: documents.Saved.of(one) for name, one in (found.documents or {}).items()}
        now = update_seqs(client, names)
        due = [name for name in names if name not in saved or not kept(saved[name], now[name])]
        if check:
            return {"changed": bool(due), "databases": {}, "summary": f"{len(due)} databases would be saved"}
        folder = Path(found.folder) / "couchdb"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        demand_room(folder, sum(read_database(client, name).sizes.active for name in due))
        for name in due:
            saved[name] = documents.save(client, name, folder)
        told = {name: one.as_dict() for name, one in sorted(saved.items())}
        step = found.step if found.destroys else "saved"
        journal.write(agent.layout, found.at(step, documents=told, details={"couchdb": told}))
    total = sum(one.documents for one in saved.values())
    return {
        "changed": bool(due),
        "databases": told,
        "summary": f"{len(saved)} CouchDB databases with {total} documents saved in {folder}",
    }


def kept(saved: documents.Saved, update_seq: str) -> bool:
    """Whether a file holds a database as it is now."""
    file = Path(saved.file)
    return saved.update_seq == update_seq and file.is_file() and file.stat().st_size == saved.size


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
