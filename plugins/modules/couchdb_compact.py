#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: compact the databases and view indexes of an agent's CouchDB where it pays."""

from __future__ import annotations

DOCUMENTATION = r"""
module: couchdb_compact
short_description: Compact the databases and view indexes of a WMAgent's CouchDB where it pays
version_added: 0.1.0
description:
  - Compacts databases and the indexes of their design documents, which are found, not listed by hand. One at a time,
    the emptiest file first, and none while CouchDB compacts something by itself.
  - CouchDB accepts a compaction also where its disk is full, and ends it without a word. So what came of each is told
    by the sizes before and after. One that left a file as it was is C(gained nothing), never C(done).
  - A part is due where it gives back O(minimum_gain) or more, and either O(minimum_fragmentation) of its file or
    O(large_gain).
  - A compaction begins only where its new files fit, which take what is live in a view, and up to twice that in a
    database, and O(minimum_free) beside. Where nobody can tell how much is free, none does.
  - A compaction ends only where it copies faster than others write. One that did not catch up for ten minutes is
    C(not converging), and is waited for no longer.
  - CouchDB has no way to end a compaction. One that goes on when the run ends is told in RV(resume), and the next run
    waits for it.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.couchdb
  - dmwm.wmagent.couchdb.databases
  - dmwm.wmagent.couchdb.limits
options:
  minimum_fragmentation:
    description: Share of a file that a compaction has to give back, 0 to 1.
    type: float
    default: 0.5
  minimum_gain:
    description: Bytes that a compaction has to give back.
    type: int
    default: 67108864
  large_gain:
    description: Bytes that make a compaction due at any share of the file.
    type: int
    default: 10737418240
  leave_alone:
    description:
      - How long a part is left alone that was still due right after its last compaction, a number with C(s), C(m),
        C(h) or C(d). It ends early where twice as much could be given back as then.
      - Remembered in the database, in C(_local/dmwm.wmagent.compact), which nothing replicates.
    type: str
    default: 7d
  minimum_free:
    description: Bytes that have to stay free beside a compaction's new files.
    type: int
    default: 1073741824
  data_directory:
    description:
      - Where the host of the module sees the files of CouchDB, for instance where it runs in a container. Where left
        out, CouchDB is asked, and its answer is taken where CouchDB runs on this host and the folder is its.
    type: path
  free_bytes:
    description: How much is free, where no folder can be looked at.
    type: int
  cleanup_views:
    description: Remove the files of indexes that no design document has any more. CouchDB does not tell whether it did.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: See what a compaction would give back
  dmwm.wmagent.couchdb_compact:
    secrets: /data/admin/wmagent/WMAgent.secrets
  check_mode: true
  diff: true

- name: Compact for two hours at most, CouchDB's files being mounted elsewhere
  dmwm.wmagent.couchdb_compact:
    secrets: /data/admin/wmagent/WMAgent.secrets
    data_directory: /data/dockerMount/srv/couchdb
    max_runtime: 2h
"""

RETURN = r"""
planned:
  description:
    - For each database and view C(database), C(view) (empty for the database itself), C(file) and C(active) bytes,
      C(expected_gain), C(needed) bytes to be free, whether it is C(due), and the C(reason). What is due comes first, in
      the order in which it is compacted.
  returned: success
  type: list
  elements: dict
compacted:
  description:
    - For each part that was begun, or was not for a reason found only then, C(database), C(view), C(before) and
      C(after) bytes of the file, C(gained) bytes, C(seconds), C(progress) as last seen, and C(state).
    - C(state) is C(done), C(gained little) (less than half of what was unused), C(gained nothing), C(not converging),
      C(still running), C(no room any more) or C(not needed any more).
  returned: always
  type: list
  elements: dict
gained_bytes:
  description: Bytes that all files together are smaller now; below 0 where they have grown.
  returned: always
  type: int
cleaned_up:
  description: Databases whose unused index files were removed, if there were any.
  returned: always
  type: list
  elements: str
stopped_by:
  description:
    - Why the run ended before all was done, C(max_runtime), C(stop_file), C(controller) (the play was interrupted or
      the controller is gone) or C(not converging); empty otherwise.
  returned: always
  type: str
resume:
  description:
    - Where the run ended before all was done, C(left) (due, and nothing was done about it) and C(running) (CouchDB
      goes on with it). The same task waits for those, and goes on with these.
  returned: always
  type: dict
free_bytes:
  description: Bytes free on each disk of CouchDB's, the smallest; null where unknown.
  returned: success
  type: int
worst_case_bytes:
  description: Bytes that the compactions may need at worst, one at a time, all of a file being in use by then.
  returned: success
  type: int
progress:
  description: The last lines of what happened.
  returned: always
  type: list
  elements: str
summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

from collections import deque
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction import Compaction, Outcome
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import (
    USUAL_RULES,
    Decision,
    Rules,
    worst_case,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.disk_space import disks_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.options import (
    DATABASES_OPTION,
    LIMIT_OPTIONS,
    SERVER_OPTIONS,
    client_from_options,
    limits_from_options,
    names_from_options,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._long_task import run_long

LINES_TOLD = 20


def decision_as_dict(decision: Decision) -> dict[str, Any]:
    """One row of the plan as plain data."""
    sizes = decision.part.sizes
    return {
        "database": decision.part.database,
        "view": decision.part.view,
        "file": sizes.file,
        "active": sizes.active,
        "expected_gain": sizes.reclaimable,
        "needed": decision.needed,
        "due": decision.due,
        "reason": decision.reason,
    }


def outcome_as_dict(outcome: Outcome) -> dict[str, Any]:
    """What became of one part as plain data."""
    return {
        "database": outcome.part.database,
        "view": outcome.part.view,
        "before": outcome.part.sizes.file,
        "after": outcome.after.file,
        "gained": outcome.gained,
        "seconds": round(outcome.seconds, 1),
        "state": outcome.state,
        "progress": outcome.progress,
    }


def figures(compaction: Compaction, lines: deque[str]) -> dict[str, Any]:
    """What was done so far, also where it went wrong."""
    unfinished = {"left": compaction.left, "running": compaction.running}
    return {
        "compacted": [outcome_as_dict(outcome) for outcome in compaction.outcomes],
        "gained_bytes": sum(outcome.gained for outcome in compaction.outcomes),
        "cleaned_up": compaction.cleaned_up,
        "stopped_by": compaction.stopped_by,
        "resume": unfinished if any(unfinished.values()) else {},
        "progress": list(lines),
    }


def diff_of(compaction: Compaction) -> dict[str, str]:
    """Bytes of the files that are due, before and as expected afterwards."""
    due = compaction.due
    return {
        "before_header": "bytes of the files",
        "after_header": "bytes of the files, as expected",
        "before": "".join(f"{one.part}: {one.part.sizes.file}\n" for one in due),
        "after": "".join(f"{one.part}: {one.part.sizes.file - one.part.sizes.reclaimable}\n" for one in due),
    }


def summary(compaction: Compaction, check_mode: bool) -> str:
    """What came of it, in one line."""
    due = compaction.due
    expected = sum(decision.part.sizes.reclaimable for decision in due)
    if check_mode or not due:
        return f"{len(due)} of {len(compaction.decisions)} databases and views due, {expected} bytes to gain"
    states = [outcome.state for outcome in compaction.outcomes]
    told = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "none begun"
    gained = sum(outcome.gained for outcome in compaction.outcomes)
    stopped = f"; stopped by {compaction.stopped_by}" if compaction.stopped_by else ""
    return f"{len(due)} due: {told}; {gained} of {expected} bytes gained{stopped}"


def run(module: AnsibleModule) -> None:
    """Compact, or tell what would be. Raises WMAgentError before anything was changed."""
    params = module.params
    rules = Rules(
        params["minimum_fragmentation"],
        params["minimum_gain"],
        params["large_gain"],
        seconds_of(params["leave_alone"], "leave_alone"),
        params["minimum_free"],
    )
    limits = limits_from_options(params)
    client = client_from_options(params)
    lines: deque[str] = deque(maxlen=LINES_TOLD)
    compaction = Compaction(
        client,
        names_from_options(client, params),
        rules,
        limits,
        lambda: disks_of(client, params["data_directory"], params["free_bytes"]),
        note=lines.append,
        warn=module.warn,
        clean_up=params["cleanup_views"],
    )
    compaction.look()
    changed = bool(compaction.due)
    if not module.check_mode:
        try:
            compaction.run()
        except WMAgentError as error:
            module.fail_json(msg=f"{error}; {_goes_on(compaction)}", changed=changed, **figures(compaction, lines))
    free = compaction.free.values()
    result = {
        "changed": changed,
        "planned": [decision_as_dict(decision) for decision in compaction.decisions],
        "free_bytes": min(free) if free else None,
        "worst_case_bytes": worst_case(compaction.decisions),
        "summary": summary(compaction, module.check_mode),
        **figures(compaction, lines),
    }
    if module.check_mode:
        result["resume"] = {}
    if module._diff:
        result["diff"] = diff_of(compaction)
    module.exit_json(**result)


def _goes_on(compaction: Compaction) -> str:
    if not compaction.running:
        return "run the same task again"
    return f"CouchDB may go on with {', '.join(compaction.running)}; run the same task again, which waits for it"


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **SERVER_OPTIONS,
            **DATABASES_OPTION,
            **LIMIT_OPTIONS,
            "minimum_fragmentation": {"type": "float", "default": USUAL_RULES.minimum_fragmentation},
            "minimum_gain": {"type": "int", "default": USUAL_RULES.minimum_gain},
            "large_gain": {"type": "int", "default": USUAL_RULES.large_gain},
            "leave_alone": {"type": "str", "default": "7d"},
            "minimum_free": {"type": "int", "default": USUAL_RULES.minimum_free},
            "data_directory": {"type": "path"},
            "free_bytes": {"type": "int"},
            "cleanup_views": {"type": "bool", "default": True},
        },
        mutually_exclusive=[("data_directory", "free_bytes")],
        supports_check_mode=True,
    )
    try:
        run(module)
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    run_long(main)
