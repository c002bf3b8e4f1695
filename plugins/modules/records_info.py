#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: evidence that no record of an agent was touched."""

from __future__ import annotations

DOCUMENTATION = r"""
module: records_info
short_description: Tell whether any record in a WMAgent's databases was touched
version_added: 0.1.0
description:
  - Takes a reading of the agent's database and its CouchDB while the agent is stopped. Two readings that are the same
    prove that no row of any table and no document of any database was inserted, updated or deleted in between. What
    cannot be told, such as after a restart of the database server, counts as a change.
  - On MariaDB no rows are read for it, except that small tables are checksummed, so it takes milliseconds on a large
    database. On Oracle every table is read once. Of CouchDB only what each database says about itself is read.
  - CouchDB databases that a replication keeps filling by itself, the agent stopped or not, are left out and named.
notes:
  - The tables are locked against all other sessions for the moment of the reading, which waits up to five seconds for
    open transactions. Take readings only while the agent is stopped.
  - Up to about a second goes by where a large table was written just before.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.database
  - dmwm.wmagent.agent.info
options:
  before:
    description: The C(records) of an earlier reading, to compare with.
    type: dict
"""

EXAMPLES = r"""
- name: Before
  dmwm.wmagent.records_info:
    secrets: /data/admin/wmagent/WMAgent.secrets
  register: first

- name: After
  dmwm.wmagent.records_info:
    secrets: /data/admin/wmagent/WMAgent.secrets
    before: "{{ first.records }}"
  register: second
  failed_when: second.changed_records | length > 0
"""

RETURN = r"""
records:
  description: The reading, with C(database) and C(couchdb); keep it for the comparison.
  returned: success
  type: dict
digest:
  description: The same for two readings of the agent's database with no change in between.
  returned: success
  type: str
summary:
  description: How much was looked at, in one line.
  returned: success
  type: str
changed_records:
  description: One line for each table or CouchDB database that was changed since O(before); empty where nothing was.
  returned: where O(before) is given
  type: list
  elements: str
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import server as couchdb
from ansible_collections.dmwm.wmagent.plugins.module_utils._database import evidence
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect, settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def run(params: Mapping[str, Any]) -> dict[str, Any]:
    """The reading and the comparison as plain data. Raises WMAgentError."""
    secrets = read_secrets(Path(params["secrets"]))
    couch = couchdb.settings_from_secrets(secrets)
    with connect(settings_from_secrets(secrets, params["database_name"]), params["timeout"]) as connection:
        database = evidence.read_records(connection)
    databases = couchdb.read_databases(couch, params["timeout"])
    result: dict[str, Any] = {
        "records": {"database": database, "couchdb": databases},
        "digest": evidence.digest(database),
        "summary": f"{len(database['tables'])} tables, {couchdb.describe(databases)}",
    }
    before = params["before"]
    if before is not None:
        result["changed_records"] = [
            *evidence.compare_records(before.get("database", {}), database),
            *couchdb.compare_databases(before.get("couchdb", {}), databases),
        ]
    return result


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "secrets": {"type": "path", "required": True, "no_log": False},
            "database_name": {"type": "str", "default": "wmagent"},
            "timeout": {"type": "float", "default": 30},
            "before": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **run(module.params))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
