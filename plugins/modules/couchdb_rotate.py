#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: replace databases of an agent's CouchDB by ones that hold live documents only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: couchdb_rotate
short_description: Replace a WMAgent's CouchDB databases by ones without tombstones
version_added: 0.1.0
description:
  - Where tombstones outnumber live documents by far, a database is replaced by one that holds its live documents only,
    each with all its leaf revisions and attachments, the C(_local) and design documents, access and limits.
  - Everything is copied into a second database and verified first. Only then is the old one deleted, made anew, filled
    from the copy, verified again, and its indexes built. At every moment one of the two is complete.
  - The agent's components have to be stopped. A database that is written to or replicated is left alone, and so is one
    for whose copy there may be no room.
  - A run may be stopped at any moment. The next one goes on, and does so before anything else; it never deletes a
    database that is not complete yet, and keeps what others wrote into it.
  - The copy is kept for a while, and deleted by a later run.
notes:
  - Run it again before the agent is started, where a run was interrupted.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.couchdb
  - dmwm.wmagent.couchdb.databases
  - dmwm.wmagent.couchdb.limits
options:
  components_stopped:
    description:
      - Says that the agent's components are stopped and stay so. Without it no database is replaced; a replacement that
        was interrupted is finished all the same, since the agent needs it.
    type: bool
    default: false
  minimum_tombstone_share:
    description: Share of tombstones among all documents of a database that is rotated, 0 to 1.
    type: float
    default: 0.9
  minimum_tombstones:
    description: Tombstones of a database that is rotated.
    type: int
    default: 10000
  keep_copy_for:
    description:
      - How long the copy is kept after the rotation, a number with C(s), C(m), C(h), C(d) or C(w). The first run after
        that deletes it.
    type: str
    default: 7d
  abandoned_after:
    description:
      - A checkpoint of a replication that this server does not run, such as one that another server runs, holds a
        database back until it was not written for so long.
    type: str
    default: 30d
  index_timeout:
    description:
      - Longest time to wait for the indexes of one database. CouchDB goes on with them, and the next run waits again.
    type: str
    default: 6h
  in_flight:
    description: Batches of documents copied at once.
    type: int
    default: 2
  data_directory:
    description: Where this host sees CouchDB's files, where CouchDB itself does not tell or runs in a container.
    type: path
  free_bytes:
    description: Bytes that are free for CouchDB's files, where this host cannot see them.
    type: int
  max_runtime:
    description:
      - Longest time at work, a number with C(s), C(m), C(h) or C(d); no limit where left out. It ends a run between two
        batches of a copy and between two databases, never between the deletion of a database and the end of its
        replacement.
    type: str
"""

EXAMPLES = r"""
- name: Rotate what is mostly tombstones, in a maintenance window
  dmwm.wmagent.couchdb_rotate:
    secrets: /data/admin/wmagent/WMAgent.secrets
    components_stopped: true
    timeout: 120

- name: See whether a rotation is due or was interrupted
  dmwm.wmagent.couchdb_rotate:
    secrets: /data/admin/wmagent/WMAgent.secrets
  check_mode: true
  diff: true
"""

RETURN = r"""
planned:
  description:
    - What a run does, in order, as a list of C(database), C(action) (C(finish) or C(continue) an interrupted rotation,
      C(drop copy), C(rotate)), C(copy) and C(reason).
  returned: always
  type: list
  elements: dict
rotated:
  description:
    - For each database whether it is C(finished), its C(documents) and C(leaves), C(bytes_before) and C(bytes_after) of
      its files and indexes, C(seconds) of each step, the C(copy), whether somebody wrote to the new database before it
      was complete (C(written_meanwhile)), and design documents whose index CouchDB refuses to build (C(unbuilt)).
  returned: always
  type: dict
resumed:
  description: Databases whose rotation an earlier run had begun.
  returned: always
  type: list
  elements: str
dropped:
  description: Copies that were deleted.
  returned: always
  type: list
  elements: str
held_back:
  description: Databases that are due and left alone, each with the reasons.
  returned: always
  type: dict
copies:
  description:
    - Copies that there are, with C(name), C(database), C(stage) and C(kept_until) (UNIX time, 0 where unfinished).
  returned: success
  type: list
  elements: dict
stopped_by:
  description:
    - Why the run ended before all was done, C(max_runtime), C(stop_file) or C(controller) (the play was interrupted or
      the controller is gone); empty otherwise.
  returned: always
  type: str
summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.disk_space import disks_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.options import (
    DATABASES_OPTION,
    LIMIT_OPTIONS,
    SERVER_OPTIONS,
    check_at_least,
    client_from_options,
    limits_from_options,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation import Rotated
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_copy import Pace
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_run import Rules, Run
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._long_task import run_long
from ansible_collections.dmwm.wmagent.plugins.module_utils._progress import report


def run_from_options(params: Mapping[str, Any]) -> Run:
    """A run as it was asked for. Raises WMAgentError for an option that makes no sense."""
    share = params["minimum_tombstone_share"]
    if not 0 <= share <= 1:
        raise WMAgentError(f"minimum_tombstone_share is {share:g}; it must be from 0 to 1")
    check_at_least(params, minimum_tombstones=0, in_flight=1)
    rules = Rules(
        minimum_share=share,
        minimum_tombstones=params["minimum_tombstones"],
        keep_copy=seconds_of(params["keep_copy_for"], "keep_copy_for"),
        abandoned=seconds_of(params["abandoned_after"], "abandoned_after"),
        components_stopped=params["components_stopped"],
        index_seconds=seconds_of(params["index_timeout"], "index_timeout"),
    )
    limits = limits_from_options(params)
    client = client_from_options(params)
    return Run(
        client,
        params["databases"],
        rules,
        limits,
        lambda: disks_of(client, params["data_directory"], params["free_bytes"]),
        Pace(params["in_flight"]),
    )


def figures(run: Run) -> dict[str, Any]:
    """What came of it so far, as plain data."""
    return {
        "planned": run.planned,
        "rotated": {one.database: rotated_as_dict(one) for one in run.rotated},
        "resumed": [one.database for one in run.rotated if one.resumed],
        "dropped": run.dropped,
        "held_back": run.held_back,
        "stopped_by": run.stopped_by,
    }


def rotated_as_dict(one: Rotated) -> dict[str, Any]:
    """What came of one database."""
    return {
        "finished": one.finished,
        "documents": one.tally.documents,
        "leaves": one.tally.leaves,
        "bytes_before": one.bytes_before,
        "bytes_after": one.bytes_after,
        "seconds": one.seconds,
        "copy": one.copy,
        "written_meanwhile": one.written_meanwhile,
        "unbuilt": one.unbuilt,
    }


def diff(planned: list[dict[str, str]]) -> dict[str, str]:
    """What is planned, as it is before and after. Pure."""
    after = {"finish": "complete", "continue": "rotated", "rotate": "rotated", "drop copy": "copy {copy} gone"}
    return {
        "before": "".join(f"{one['database']}: {one['reason']}\n" for one in planned),
        "after": "".join(f"{one['database']}: {after[one['action']].format(copy=one['copy'])}\n" for one in planned),
    }


def summary(run: Run, planned: list[dict[str, str]], check: bool) -> str:
    """One line. Pure."""
    if check:
        parts = [f"would {one['action']} ({one['database']}: {one['reason']})" for one in planned]
    else:
        parts = [
            f"{one.database} rotated: {one.tally.documents} documents, {one.bytes_before} bytes before, "
            f"{one.bytes_after} after"
            for one in run.rotated
            if one.finished
        ]
        parts += [f"{name} dropped" for name in run.dropped]
    if run.held_back:
        parts.append("held back: " + ", ".join(f"{name} ({'; '.join(why)})" for name, why in run.held_back.items()))
    if run.stopped_by:
        parts.append(f"ended by {run.stopped_by}, run again")
    return "; ".join(parts) or "no database is due for a rotation"


@contextmanager
def alone(secrets: str) -> Iterator[None]:
    """No other run for this agent meanwhile. Raises WMAgentError."""
    with Path(secrets).open("rb") as file:
        try:
            # A process that dies, however it does, holds no lock any more.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WMAgentError("another couchdb_rotate works for this agent; wait for its end") from None
        yield


def work(module: AnsibleModule) -> None:
    """Rotate, or tell what would be. Raises WMAgentError before anything was changed."""
    run = run_from_options(module.params)
    with alone(module.params["secrets"]):

        def note(step: str) -> None:
            module.log(step)
            report(step)

        run.note = note
        run.look()
        planned, changed = run.planned, run.due
        if not module.check_mode:
            try:
                run.run()
            except WMAgentError as error:
                module.fail_json(msg=str(error), changed=changed, **figures(run) | {"planned": planned})
        result = figures(run) | {"planned": planned, "changed": changed, "copies": run.copies()}
    result["summary"] = summary(run, planned, module.check_mode)
    if module._diff:
        result["diff"] = diff(planned)
    module.exit_json(**result)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **SERVER_OPTIONS,
            **DATABASES_OPTION,
            **LIMIT_OPTIONS,
            "components_stopped": {"type": "bool", "default": False},
            "minimum_tombstone_share": {"type": "float", "default": 0.9},
            "minimum_tombstones": {"type": "int", "default": 10_000},
            "keep_copy_for": {"type": "str", "default": "7d"},
            "abandoned_after": {"type": "str", "default": "30d"},
            "index_timeout": {"type": "str", "default": "6h"},
            "in_flight": {"type": "int", "default": 2},
            "data_directory": {"type": "path"},
            "free_bytes": {"type": "int"},
        },
        supports_check_mode=True,
    )
    try:
        work(module)
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    run_long(main)
