#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: delete the CouchDB databases of an agent that is redeployed"""

from __future__ import annotations

DOCUMENTATION = r"""
module: couchdb_wipe
short_description: Delete the CouchDB databases of a WMAgent that is drained, saved and stopped
version_added: 0.1.0
description:
  - Deletes the databases that M(dmwm.wmagent.couchdb_save) has saved, and no others.
  - Refuses where a component runs, where its work queue says that the agent is not drained and no waiver covers it,
    where any of them was written to since it was saved, where a saved file is not as it was written, and where a person
    has not confirmed this agent by name.
  - Comes after M(dmwm.wmagent.database_wipe). Cut off, it goes on with what is left.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.redeploy
  - dmwm.wmagent.redeploy.wipe
"""

EXAMPLES = r"""
- name: Delete the databases
  dmwm.wmagent.couchdb_wipe:
    wmagent_root: /data/srv/wmagent
    secrets: /data/admin/wmagent/WMAgent.secrets
    confirm: agent1
"""

RETURN = r"""
databases:
  description: The databases that were (check mode, would be) deleted.
  returned: success
  type: list
  elements: str

summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import exclusive
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_copy import remove
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import signals_workqueue
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import documents, journal
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.agent import (
    OPTIONS,
    WIPE_OPTIONS,
    Agent,
    update_seqs,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.refusals import (
    refuse_changed_file,
    refuse_undrained,
)


def run(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Delete them. Raises WMAgentError."""
    agent = Agent.of(params)
    with exclusive(agent.layout):
        # A check comes before the database is wiped: nothing is to be found wrong half way.
        found = journal.demand(journal.read(agent.layout), *(("saved", "wiping") if check else ("wiping",)))
        journal.confirmed(params["confirm"], found.agent)
        agent.refuse_running()
        client = agent.couchdb()
        saved = {name: documents.Saved.of(one) for name, one in (found.documents or {}).items()}
        names, _others = agent.couchdb_databases(client, agent.release(found.origin))
        refuse_changes(saved, update_seqs(client, names), found.destroys)
        for one in saved.values():
            refuse_changed_file(one.as_dict())
        if set(names) == saved.keys():
            refuse_undrained(signals_workqueue.read_local(agent.couchdb), params["waivers"], time.time())
        if not check:
            for name in names:
                remove(client, name)
            journal.write(agent.layout, found.at("wiped"))
    word = "would be deleted" if check else "deleted"
    return {"changed": True, "databases": names, "summary": f"{len(names)} CouchDB databases {word}"}


def refuse_changes(saved: Mapping[str, documents.Saved], live: Mapping[str, str], some_gone: bool) -> None:
    """Raise WMAgentError where a database is not as it was saved."""
    if lines := documents.changes_since_saved(saved, live, some_gone):
        raise WMAgentError(
            f"CouchDB changed since it was saved ({', '.join(lines[:5])}); find out by whom, and run again"
        )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={**OPTIONS, **WIPE_OPTIONS},
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
