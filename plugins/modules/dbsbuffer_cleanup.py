#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: delete what an agent's DBSBuffer needs no longer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dbsbuffer_cleanup
short_description: Delete what a WMAgent's DBSBuffer needs no longer
version_added: 0.1.0
description:
  - Deletes the files of workflows that are finished in every respect, with all rows that belong to them, then the
    blocks
    and workflow rows that are empty, and gives the space back. docs/dbsbuffer.md tells the rules.
  - With O(method=delete) the agent works on. Steps are small and timed, each looks again at what it deletes, and the
    run
    pauses while the server is busy. Children go first, by statements of their own that are counted; no foreign key
    cascades.
  - With O(method=rebuild) what stays is copied into new tables, compared, and swapped in by one statement. For a
    stopped
    agent on MariaDB; keys, constraints and the dump of the schema stay as they were.
  - A run may be stopped at any moment. A file is there with all its rows or gone with all of them, and the next run
    goes
    on with what is left.
notes:
  - No index is made for it, since a permanent one would keep the agent from starting.
  - It was run on MariaDB 10.11; its statements for Oracle were run on H2 in Oracle mode only, against wmcoredb's own
    Oracle
    schema, and never on an Oracle server.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.database.login
  - dmwm.wmagent.dbsbuffer
  - dmwm.wmagent.agent.changes
options:
  method:
    description:
      - V(delete) deletes while the agent works.
      - V(rebuild) copies what stays; the agent's components have to be stopped.
      - V(auto) takes the cheaper of those that are possible now, by what a second of deleting and a sample of copying
        show.
      - V(recover) deletes nothing. It finishes or undoes a rebuild that was interrupted, which each of the others does
        first, so that an agent is not started beside tables of a rebuild.
    type: str
    choices: [delete, rebuild, auto, recover]
    default: delete
  max_runtime:
    description: Longest time at work, a number with C(s), C(m), C(h) or C(d); no limit where left out.
    type: str
  max_rows:
    description: End after so many rows of all tables; looked at between two steps.
    type: int
  stop_file:
    description: A file on the agent whose presence ends the run between two steps.
    type: path
  step_seconds:
    description: How long one step should take.
    type: float
    default: 0.5
  threads_running_pause:
    description: Pause while so many statements run on the server (C(Threads_running); active sessions on Oracle).
    type: int
    default: 25
  threads_running_abort:
    description: End the run where so many do.
    type: int
    default: 100
  replicas:
    description:
      - Replicas of the MariaDB server as C(host) or C(host:port), whose lag counts. The same account has to reach
        them and
        needs C(SLAVE MONITOR).
    type: list
    elements: str
    default: []
  replica_lag_pause:
    description: Pause while a replica is so many seconds behind.
    type: float
    default: 10
  replica_lag_abort:
    description: End the run where one is so many seconds behind.
    type: float
    default: 300
  archive:
    description:
      - A folder on the agent. Every row is written into a file there before it is deleted, from which
        M(dmwm.wmagent.dbsbuffer_restore) puts it back.
    type: path
  optimize:
    description:
      - Have tables give unused space back where it pays. Each is written anew while the agent works, so there has to be
        room for a copy. On Oracle, C(SHRINK SPACE) where the table has row movement.
    type: bool
    default: true
  minimum_fragmentation:
    description: Share of a table that has to be gained for that, 0 to 1.
    type: float
    default: 0.3
"""

EXAMPLES = r"""
- name: Clean while the agent works, at most one hour
  dmwm.wmagent.dbsbuffer_cleanup:
    secrets: /data/admin/wmagent/WMAgent.secrets
    retention: 14d
    max_runtime: 1h

- name: See what it would do
  dmwm.wmagent.dbsbuffer_cleanup:
    secrets: /data/admin/wmagent/WMAgent.secrets
  check_mode: true
  diff: true

- name: Clean within a maintenance window, the components stopped
  dmwm.wmagent.dbsbuffer_cleanup:
    secrets: /data/admin/wmagent/WMAgent.secrets
    method: auto
    archive: /data/srv/archive
"""

RETURN = r"""
planned:
  description: C(eligible) and C(held_back) as M(dmwm.wmagent.dbsbuffer_info) tells them.
  returned: success
  type: dict
statements:
  description: The statements that delete, in their order; C(:first), C(:last) and C(:ids) stand for ids.
  returned: success
  type: list
  elements: str
deleted:
  description: Rows by table.
  returned: always
  type: dict
method:
  description: What was done, C(delete), C(rebuild), or C(none) where nothing was due.
  returned: success
  type: str
choice:
  description: With O(method=auto), the C(reason) and what each method was expected to take in C(seconds).
  returned: with O(method=auto), where there was something to choose
  type: dict
bytes_before:
  description: Bytes of all tables before; null where the server does not tell.
  returned: success
  type: int
bytes_after:
  description: The same afterwards.
  returned: success
  type: int
rate:
  description: Files deleted per second at work.
  returned: always
  type: float
throttled_seconds:
  description: Time spent in pauses because the server was busy.
  returned: always
  type: float
stopped_by:
  description:
    - Why the run ended before all was done, C(max_runtime), C(max_rows), C(stop_file), C(load) or C(controller) (the
      play was interrupted or the controller is gone); empty otherwise.
  returned: always
  type: str
resume:
  description:
    - Where the run ended before all was done, C(files_left) of those planned. The same task goes on with them.
  returned: always
  type: dict
replanned:
  description: What the agent changed meanwhile that made a new plan necessary, one line each.
  returned: always
  type: list
  elements: str
left_by_a_rebuild:
  description: What was done about tables that an interrupted rebuild had left, one line each.
  returned: success
  type: list
  elements: str
space:
  description:
    - For each table whether it pays to C(optimize) it, the C(gain) expected, the C(gained) bytes and the C(reason).
  returned: success
  type: list
  elements: dict
summary:
  description: What came of it, in one line.
  returned: success
  type: str
archive:
  description: The archive that was written; empty without one.
  returned: always
  type: str
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.login import (
    LOGIN_OPTIONS,
    LOGIN_RULES,
    settings_from_options,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings, host_and_port
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import telling
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.cleanup import Cleanup, Request
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.deletion import statements
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.options import RULE_OPTIONS, rules_from_options
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._long_task import run_long


def request_of(params: dict[str, Any], settings: DatabaseSettings) -> Request:
    """What the task asks for. Raises WMAgentError for values that make no sense."""
    return Request(
        rules=rules_from_options(params, time.time()),
        method=params["method"],
        max_runtime=seconds_of(params["max_runtime"], "max_runtime") if params["max_runtime"] else None,
        max_rows=params["max_rows"],
        stop_file=Path(params["stop_file"]) if params["stop_file"] else None,
        step_seconds=params["step_seconds"],
        threads_running=(params["threads_running_pause"], params["threads_running_abort"]),
        replica_lag=(params["replica_lag_pause"], params["replica_lag_abort"]),
        replicas=[_replica(settings, text) for text in params["replicas"]],
        archive=Path(params["archive"]) if params["archive"] else None,
        optimize=params["optimize"],
        minimum_fragmentation=params["minimum_fragmentation"],
    )


def _replica(settings: DatabaseSettings, text: str) -> DatabaseSettings:
    host, port = host_and_port(text, "replicas")
    return replace(settings, host=host, port=port, socket="", name="")


def figures(cleanup: Cleanup) -> dict[str, Any]:
    """What was done so far, also where it went wrong."""
    return {
        "deleted": cleanup.deleted,
        "rate": round(cleanup.rate, 1),
        "throttled_seconds": round(cleanup.throttled_seconds, 1),
        "stopped_by": cleanup.stopped_by,
        "resume": {"files_left": max(0, cleanup.plan.files - cleanup.files_done)} if cleanup.unfinished else {},
        "replanned": cleanup.replanned,
        "archive": cleanup.archive,
    }


def result_of(cleanup: Cleanup) -> dict[str, Any]:
    """The result as plain data."""
    return {
        "changed": cleanup.due,
        "planned": telling.plan_as_dict(cleanup.plan),
        "statements": statements(cleanup.settings.dialect),
        "method": cleanup.method_used,
        "choice": {"reason": cleanup.choice.reason, "seconds": cleanup.choice.seconds} if cleanup.choice else {},
        "bytes_before": telling.bytes_of(cleanup.before),
        "bytes_after": telling.bytes_of(cleanup.after),
        "space": cleanup.space,
        "left_by_a_rebuild": cleanup.cleaned_up,
        **figures(cleanup),
    }


def run(module: AnsibleModule) -> None:
    """Clean, or tell what would be deleted. Raises WMAgentError before anything was changed."""
    settings = settings_from_options(module.params)
    cleanup = Cleanup(settings, request_of(module.params, settings), module.warn, timeout=module.params["timeout"])
    cleanup.look()
    if cleanup.due and not module.check_mode:
        try:
            cleanup.run()
        except WMAgentError as error:
            module.fail_json(msg=str(error), changed=bool(cleanup.deleted), **figures(cleanup))
    result = result_of(cleanup)
    result["summary"] = telling.summary(result["planned"], result, module.check_mode)
    if module._diff:
        result["diff"] = cleanup.diff(module.check_mode)
    module.exit_json(**result)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **LOGIN_OPTIONS,
            **RULE_OPTIONS,
            "method": {"type": "str", "choices": ["delete", "rebuild", "auto", "recover"], "default": "delete"},
            "max_runtime": {"type": "str"},
            "max_rows": {"type": "int"},
            "stop_file": {"type": "path"},
            "step_seconds": {"type": "float", "default": 0.5},
            "threads_running_pause": {"type": "int", "default": 25},
            "threads_running_abort": {"type": "int", "default": 100},
            "replicas": {"type": "list", "elements": "str", "default": []},
            "replica_lag_pause": {"type": "float", "default": 10},
            "replica_lag_abort": {"type": "float", "default": 300},
            "archive": {"type": "path"},
            "optimize": {"type": "bool", "default": True},
            "minimum_fragmentation": {"type": "float", "default": 0.3},
        },
        supports_check_mode=True,
        **LOGIN_RULES,
    )
    try:
        run(module)
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    run_long(main)
