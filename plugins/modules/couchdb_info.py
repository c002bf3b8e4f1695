#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what an agent's CouchDB databases and their views take, and what compacting them would give back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: couchdb_info
short_description: Tell what a WMAgent's CouchDB databases and views take on disk
version_added: 0.1.0
description:
  - Measures every database and the index of every design document, which are found, not listed by hand. For each it
    tells the bytes of the file, those in use and those of the documents themselves, live documents and tombstones,
    fragmentation, what each remedy would give back, the limits on revisions and purges, and what runs now.
  - With O(before), tells how fast each is written to.
  - Reads only what CouchDB says of itself, no document.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent.info
  - dmwm.wmagent.couchdb
  - dmwm.wmagent.couchdb.databases
options:
  before:
    description: An earlier result of this module, with C(time) and C(databases), to tell the rate of updates since.
    type: dict
"""

EXAMPLES = r"""
- name: Look at CouchDB
  dmwm.wmagent.couchdb_info:
    secrets: /data/admin/wmagent/WMAgent.secrets
  register: couchdb

- name: What a compaction of everything would give back
  ansible.builtin.debug:
    var: couchdb.reclaimable_bytes
"""

RETURN = r"""
version:
  description: CouchDB's version.
  returned: success
  type: str
databases:
  description:
    - For each database C(file), C(active) and C(external) bytes, C(fragmentation) (0 to 1), C(documents),
      C(tombstones), C(tombstone_share), C(revs_limit), C(purged_infos_limit), C(update_seq) and C(compacting).
    - C(views) has C(file), C(active), C(external), C(fragmentation), C(compacting), C(updating) and C(purges_behind) of
      each design document that has an index.
    - C(updates_per_second) with O(before), where the database is the same as then.
    - C(remedies) tells for C(compact), C(purge) (with the compaction that follows) and C(rotate) the bytes that each
      would give back (C(gives_back)) and the C(seconds) it takes, both estimated; M(dmwm.wmagent.couchdb_strategy)
      measures the seconds on this server.
    - C(cheapest_remedy) is the quickest of those that give nearly all back, empty where there is nothing to give.
  returned: success
  type: dict
reclaimable_bytes:
  description: Bytes of all files that nothing uses, which compactions would give back.
  returned: success
  type: int
tasks:
  description: What CouchDB does now, as its C(_active_tasks) tells it, with C(type), C(database) and C(progress).
  returned: success
  type: list
  elements: dict
time:
  description: When this was read, UNIX time in seconds.
  returned: success
  type: float
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import databases as couch
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.options import (
    DATABASES_OPTION,
    SERVER_OPTIONS,
    client_from_options,
    names_from_options,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.remedies import cheapest, remedies_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def sizes_as_dict(sizes: couch.Sizes) -> dict[str, Any]:
    """Bytes and fragmentation."""
    return {
        "file": sizes.file,
        "active": sizes.active,
        "external": sizes.external,
        "fragmentation": round(sizes.fragmentation, 4),
    }


def database_as_dict(database: couch.Database) -> dict[str, Any]:
    """One database as plain data."""
    purged = couch.sequence(database.purge_seq)
    remedies = remedies_of(database)
    return {
        **sizes_as_dict(database.sizes),
        "documents": database.documents,
        "tombstones": database.tombstones,
        "tombstone_share": round(database.tombstone_share, 4),
        "update_seq": couch.sequence(database.update_seq),
        "compacting": database.compacting,
        "revs_limit": database.revs_limit,
        "purged_infos_limit": database.purged_infos_limit,
        "views": {
            view.name: {
                **sizes_as_dict(view.sizes),
                "compacting": view.compacting,
                "updating": view.updating,
                "purges_behind": max(0, purged - view.purge_seq),
            }
            for view in database.views
        },
        "remedies": {name: asdict(remedy) for name, remedy in remedies.items()},
        "cheapest_remedy": cheapest(remedies),
    }


def add_rates(found: dict[str, dict[str, Any]], before: Mapping[str, Any], now: float) -> None:
    """Note updates per second since an earlier result. Raises WMAgentError where that is none."""
    if not {"time", "databases"} <= before.keys():
        raise WMAgentError("before is no earlier result of couchdb_info: it lacks time or databases")
    seconds = now - float(before["time"])
    for name, one in found.items():
        earlier = before["databases"].get(name, {}).get("update_seq")
        # A database made anew counts from the beginning again.
        if earlier is not None and seconds > 0 and one["update_seq"] >= earlier:
            one["updates_per_second"] = round((one["update_seq"] - earlier) / seconds, 3)


def run(params: Mapping[str, Any]) -> dict[str, Any]:
    """The reading as plain data. Raises WMAgentError."""
    client = client_from_options(params)
    now = time.time()
    names = names_from_options(client, params)
    databases = [couch.read_database(client, name) for name in names]
    found = {database.name: database_as_dict(database) for database in databases}
    if params["before"] is not None:
        add_rates(found, params["before"], now)
    sizes = [part for database in databases for part in (database.sizes, *(view.sizes for view in database.views))]
    return {
        "version": couch.version(client),
        "time": now,
        "databases": found,
        "reclaimable_bytes": sum(one.reclaimable for one in sizes),
        "tasks": couch.running_tasks(client),
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **SERVER_OPTIONS,
            **DATABASES_OPTION,
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
