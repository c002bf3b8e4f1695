#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: settings of an agent's CouchDB, and which of its settings have no effect."""

from __future__ import annotations

DOCUMENTATION = r"""
module: couchdb_settings
short_description: Set what a WMAgent's CouchDB keeps and when it compacts, and find settings without effect
version_added: 0.1.0
description:
  - Sets limits of databases and settings of the server. Only what differs is written, since CouchDB counts a limit that
    is written again as a change of the database. What was written is read back.
  - A setting that is not named stays as it is.
  - Every name and value is checked before the first is written. CouchDB takes any text, and its compaction daemon then
    ends with an error.
  - Tells which settings of the server are of CouchDB 1 or 2 and have no effect, and what they are called now.
  - CouchDB keeps what is set in the last of its own configuration files.
notes:
  - In CouchDB 3.2 the channels of O(smoosh) replace its own ones, so that V(upgrade_dbs) and V(upgrade_views) have to
    be named, too. In 3.3 and later they are added to its own ones.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.couchdb
  - dmwm.wmagent.couchdb.databases
options:
  revs_limit:
    description:
      - How many revisions of a document are remembered (without their content) in each of O(databases). CouchDB's own
        default is 1000.
    type: int
  purged_infos_limit:
    description: How many purges each of O(databases) remembers. Indexes have to follow before one is forgotten.
    type: int
  purge:
    description: What one purge request may hold; C(max_document_id_number), C(max_revisions_number) and
      C(index_lag_warn_seconds).
    type: dict
    default: {}
  smoosh:
    description:
      - CouchDB's compaction daemon. C(db_channels), C(view_channels), C(cleanup_channels) (lists of names),
        C(staleness), C(wait_secs), C(cleanup_index_files), C(persist), C(compaction_log_level).
      - Under the name of a channel its C(priority) (C(ratio) or C(slack)), C(min_priority), C(max_priority),
        C(min_size), C(max_size), C(min_changes), C(capacity), C(concurrency), C(from), C(to), C(strict_window). Times
        are in UTC and have to be quoted.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Remember fewer revisions, and compact at night what is two thirds empty
  dmwm.wmagent.couchdb_settings:
    secrets: /data/admin/wmagent/WMAgent.secrets
    revs_limit: 50
    smoosh:
      ratio_dbs:
        min_priority: 3.0
        from: "20:00"
        to: "05:00"

- name: Find settings without effect
  dmwm.wmagent.couchdb_settings:
    secrets: /data/admin/wmagent/WMAgent.secrets
  register: couchdb
"""

RETURN = r"""
changes:
  description:
    - What differed, each with C(database) (empty for a setting of the server), C(section), C(key), C(before) (null
      where it was not set) and C(after). Where writing failed, what was written until then.
  returned: always
  type: list
  elements: dict
dead_sections:
  description:
    - Settings of CouchDB 1 and 2, each with C(section), C(key), C(value) (not shown where it may be a secret), C(state)
      and C(translation), its place in CouchDB 3.
    - C(state) is C(dead) where CouchDB does not read it, and C(read where the new one is missing).
  returned: success
  type: list
  elements: dict
summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.obsolete_settings import DEAD, obsolete_settings
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.options import (
    DATABASES_OPTION,
    SERVER_OPTIONS,
    client_from_options,
    names_from_options,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.settings import (
    Change,
    differences,
    read_config,
    read_limits,
    wanted_settings,
    write_change,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def changes_as_dicts(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """What differs as plain data."""
    return [
        {"database": one.database, "section": one.section, "key": one.key, "before": one.before, "after": one.after}
        for one in changes
    ]


def diff_of(changes: Sequence[Change]) -> dict[str, str]:
    """The settings that differ, before and after."""
    return {
        "before_header": "settings of CouchDB",
        "after_header": "settings of CouchDB",
        "before": "".join(f"{one}: {'not set' if one.before is None else one.before}\n" for one in changes),
        "after": "".join(f"{one}: {one.after}\n" for one in changes),
    }


def run(module: AnsibleModule) -> None:
    """Set what differs, or tell it. Raises WMAgentError before anything was changed."""
    params = module.params
    wanted = wanted_settings(params)
    client = client_from_options(params)
    config = read_config(client)
    names = names_from_options(client, params)
    limits = read_limits(client, names if wanted.limits else [], list(wanted.limits))
    changes = differences(wanted, config, limits)
    written: list[Change] = []
    if not module.check_mode:
        try:
            for change in changes:
                write_change(client, change)
                written.append(change)
        except WMAgentError as error:
            told = f"{error}; {len(written)} of {len(changes)} settings were written, run the same task again"
            module.fail_json(msg=told, changed=bool(written), changes=changes_as_dicts(written))
    found = obsolete_settings(config)
    dead = sum(one.state == DEAD for one in found)
    result: dict[str, Any] = {
        "changed": bool(changes),
        "changes": changes_as_dicts(changes),
        "dead_sections": [vars(one) for one in found],
        "summary": f"{len(changes)} settings differ{'' if module.check_mode or not changes else 'ed'}, "
        f"{dead} have no effect in CouchDB 3",
    }
    if module._diff:
        result["diff"] = diff_of(changes)
    module.exit_json(**result)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **SERVER_OPTIONS,
            **DATABASES_OPTION,
            "revs_limit": {"type": "int"},
            "purged_infos_limit": {"type": "int"},
            "purge": {"type": "dict", "default": {}},
            "smoosh": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        run(module)
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
