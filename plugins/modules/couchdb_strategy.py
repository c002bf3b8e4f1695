#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: tell whether databases of an agent's CouchDB are better purged or rotated."""

from __future__ import annotations

DOCUMENTATION = r"""
module: couchdb_strategy
short_description: Tell whether a WMAgent's CouchDB databases are better purged or rotated
version_added: 0.1.0
description:
  - For each database with enough tombstones, tells whether purging them and compacting
    (M(dmwm.wmagent.couchdb_purge), M(dmwm.wmagent.couchdb_compact)) or a rotation (M(dmwm.wmagent.couchdb_rotate)) is
    faster, by rates that are measured on this server with a sample of its documents, tombstones and design documents.
  - The sample is tried in a scratch database, which is always dropped again, by the next run where this one was killed.
    In check mode nothing is tried, and rates that were measured elsewhere are taken.
  - A rotation is told only where it is possible. The agent's components have to be stopped, and the database must
    not be replicated.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.couchdb
  - dmwm.wmagent.couchdb.databases
options:
  components_stopped:
    description: Says that the agent's components are stopped and stay so, which a rotation needs.
    type: bool
    default: false
  minimum_tombstones:
    description: A database with fewer is left alone.
    type: int
    default: 10000
  abandoned_after:
    description:
      - A checkpoint of a replication that this server does not run counts as one until it was not written for so long.
    type: str
    default: 30d
  sample_documents:
    description: Live documents that are tried at the most; twice as many tombstones.
    type: int
    default: 3000
attributes:
  check_mode:
    support: full
    description: Takes rates of another server, and tries nothing.
  diff_mode:
    support: N/A
    description: Changes nothing that stays.
  idempotent:
    support: full
    description: Changes nothing that stays.
"""

EXAMPLES = r"""
- name: Ask what is faster
  dmwm.wmagent.couchdb_strategy:
    secrets: /data/admin/wmagent/WMAgent.secrets
    components_stopped: true
  register: strategy

- name: Rotate where that is faster
  dmwm.wmagent.couchdb_rotate:
    secrets: /data/admin/wmagent/WMAgent.secrets
    components_stopped: true
    databases: "{{ strategy.rotate }}"
  when: strategy.rotate | length > 0
"""

RETURN = r"""
databases:
  description:
    - For each database the C(choice) (C(purge), C(rotate) or C(none)), the C(reason), the C(seconds) that a purge with
      its compaction and a rotation take, whether they were C(measured) on this server, and the C(rates) they are from.
  returned: always
  type: dict
purge:
  description: Databases that are better purged.
  returned: always
  type: list
  elements: str
rotate:
  description: Databases that are better rotated.
  returned: always
  type: list
  elements: str
dropped:
  description: Scratch databases that a killed run had left.
  returned: always
  type: list
  elements: str
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import trial
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import Database, read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.options import (
    DATABASES_OPTION,
    SERVER_OPTIONS,
    check_at_least,
    client_from_options,
    names_from_options,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_checks import NOT_STOPPED, replicated_by
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_marker import copied_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.strategy import (
    DEFAULT_RATES,
    NONE,
    PURGE,
    ROTATE,
    Choice,
    Rates,
    Work,
    choose,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def run(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """What is better for each database. Raises WMAgentError."""
    check_at_least(params, minimum_tombstones=0, sample_documents=1)
    abandoned = seconds_of(params["abandoned_after"], "abandoned_after")
    client = client_from_options(params)
    dropped = [] if check else trial.drop_leftovers(client)
    told: dict[str, dict[str, Any]] = {}
    for name in names_from_options(client, params):
        if copied_database(name) or trial.is_scratch(name):
            continue
        obstacles = [] if params["components_stopped"] else [NOT_STOPPED]
        obstacles += replicated_by(client, name, time.time() - abandoned)
        told[name] = _choice_for(client, read_database(client, name), params, obstacles, check)
    return {
        "databases": told,
        PURGE: [name for name, one in told.items() if one["choice"] == PURGE],
        ROTATE: [name for name, one in told.items() if one["choice"] == ROTATE],
        "dropped": dropped,
    }


def _choice_for(
    client: CouchClient, database: Database, params: Mapping[str, Any], obstacles: list[str], check: bool
) -> dict[str, Any]:
    work = Work.of(database)
    rates = DEFAULT_RATES
    choice = choose(work, rates, params["minimum_tombstones"], obstacles)
    # Nothing is tried where there is nothing to choose.
    if choice.choice != NONE and not obstacles and not check:
        documents = params["sample_documents"]
        rates = trial.measure(client, database.name, trial.Sample(documents, 2 * documents))
        choice = choose(work, rates, params["minimum_tombstones"], obstacles)
    return choice_as_dict(choice, rates)


def choice_as_dict(choice: Choice, rates: Rates) -> dict[str, Any]:
    """A choice as plain data."""
    numbers = {key: round(value, 1) for key, value in asdict(rates).items() if key != "measured" and value < 1e15}
    return {
        "choice": choice.choice,
        "reason": choice.reason,
        "seconds": {key: round(value, 3) for key, value in choice.seconds.items()},
        "measured": rates.measured,
        "rates": numbers,
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **SERVER_OPTIONS,
            **DATABASES_OPTION,
            "components_stopped": {"type": "bool", "default": False},
            "minimum_tombstones": {"type": "int", "default": 10_000},
            "abandoned_after": {"type": "str", "default": "30d"},
            "sample_documents": {"type": "int", "default": 3000},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
