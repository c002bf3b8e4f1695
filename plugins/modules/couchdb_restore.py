#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: bring a saved CouchDB database back"""

from __future__ import annotations

DOCUMENTATION = r"""
module: couchdb_restore
short_description: Bring back a CouchDB database that couchdb_save has saved
version_added: 0.1.0
description:
  - Makes the database, writes every revision into it, and compares it with the file.
  - A database of that name that is there already is never touched.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.couchdb
options:
  file:
    description: The file on the agent.
    type: path
    required: true
  database:
    description: Another name than the one that it had.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Look into a saved database under another name
  dmwm.wmagent.couchdb_restore:
    secrets: /data/admin/wmagent/WMAgent.secrets
    file: /data/srv/wmagent/.deploy/saved/20261123T063300Z/couchdb/workqueue.json.gz
    database: workqueue_saved
"""

RETURN = r"""
database:
  description: Its name.
  returned: success
  type: str
documents:
  description: How many documents it holds.
  returned: success
  type: int

summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import rotation_copy
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.options import SERVER_OPTIONS, client_from_options
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import documents


def run(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Bring it back, unless it is there with the same contents. Raises WMAgentError."""
    client, file = client_from_options(params), Path(params["file"])
    tally = documents.tally_of_file(file)
    name = params["database"] or str(next(documents.read_lines(file))["database"])
    there = rotation_copy.exists(client, name)
    if there and documents.is_as_saved(client, name, file):
        return told(False, name, tally.documents, "is there already, as it was saved")
    if check and not there:
        return told(True, name, tally.documents, "would be brought back")
    documents.restore(client, file, name)
    return told(True, name, tally.documents, "is back")


def told(changed: bool, name: str, count: int, what: str) -> dict[str, Any]:
    """The result."""
    return {"changed": changed, "database": name, "documents": count, "summary": f"{name} {what} ({count} documents)"}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **SERVER_OPTIONS,
            "file": {"type": "path", "required": True},
            "database": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
