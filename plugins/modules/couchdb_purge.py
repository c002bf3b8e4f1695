#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: purge the tombstones of an agent's CouchDB databases."""

from __future__ import annotations

DOCUMENTATION = r"""
module: couchdb_purge
short_description: Purge the tombstones that a WMAgent's CouchDB databases keep
version_added: 0.1.0
description:
  - CouchDB keeps a tombstone for every document that was ever deleted. This purges them, with all their leaf
    revisions, and never a live document. Compaction gives the space back afterwards.
  - A tombstone that a replication from this database has not handled stays, and so does one whose document the source
    of a replication into it still has. A database of which that cannot be found out is left alone.
  - Each run notes in a C(_local) document how far it came, so that the next one looks only at what came since.
  - A run may be stopped at any moment; the next one goes on.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.couchdb
  - dmwm.wmagent.couchdb.databases
  - dmwm.wmagent.couchdb.limits
options:
  min_age:
    description:
      - How old a tombstone has to be, a number with C(s), C(m), C(h), C(d) or C(w), where its document tells its age.
        Most hold nothing but their revision, and tell none.
      - Every tombstone has to be read for that, which takes longer than without.
    type: str
    default: '0'
  abandoned_after:
    description:
      - A checkpoint of a replication that this server does not run, such as one that another server runs, holds back
        what it has not handled until it was not written for so long.
    type: str
    default: 30d
  in_flight:
    description: Requests sent at once.
    type: int
    default: 2
  share:
    description:
      - Share of the time to be at work, more than 0 and up to 1. Below 1 tombstones are purged in small steps, with a
        pause after each, so that the agent hardly notices. With 1 they go as fast as CouchDB can, for an agent whose
        components are stopped.
    type: float
    default: 0.5
  archived_workflows:
    description:
      - Names of workflows that are archived. Their documents that are still live in the jobdump databases are deleted
        before the tombstones are purged, reports where they were uploaded to WMArchive or skipped for it, jobs where no
        report of their workflow is left that was not.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Purge all tombstones
  dmwm.wmagent.couchdb_purge:
    secrets: /data/admin/wmagent/WMAgent.secrets
    max_runtime: 1h

- name: See how many there are
  dmwm.wmagent.couchdb_purge:
    secrets: /data/admin/wmagent/WMAgent.secrets
    databases: [wmagent_jobdump/jobs, wmagent_jobdump/fwjrs]
  check_mode: true
  diff: true
"""

RETURN = r"""
databases:
  description:
    - For each database the C(tombstones) found since the last run, how many of them go (C(going)) and were C(purged),
      those C(held_back) by reason, what is C(unknown) about its replications, C(rate) in documents per second and
      C(seconds).
  returned: always
  type: dict
deleted_leftovers:
  description: For each jobdump database the live documents of archived workflows that were, or would be, deleted.
  returned: with O(archived_workflows)
  type: dict
purged:
  description: Tombstones purged in all.
  returned: always
  type: int
held_back:
  description: Tombstones that stay, by reason.
  returned: always
  type: dict
stopped_by:
  description:
    - Why the run ended before all was done, C(max_runtime), C(stop_file) or C(controller) (the play was interrupted or
      the controller is gone); empty otherwise.
  returned: always
  type: str
resume:
  description: Databases that the run did not come to the end of. The same task goes on with them.
  returned: always
  type: list
  elements: str
summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import leftovers
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.options import (
    DATABASES_OPTION,
    LIMIT_OPTIONS,
    SERVER_OPTIONS,
    check_at_least,
    client_from_options,
    limits_from_options,
    names_from_options,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_guard import make_guard
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.tombstones import (
    Progress,
    count_tombstones,
    purge_tombstones,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from ansible_collections.dmwm.wmagent.plugins.module_utils._long_task import run_long


class Run:
    """One run over some databases, and what it came to so far."""

    def __init__(self, params: Mapping[str, Any], check: bool) -> None:
        self._params = params
        self._check = check
        self._min_age = seconds_of(params["min_age"], "min_age")
        self._abandoned_after = seconds_of(params["abandoned_after"], "abandoned_after")
        check_at_least(params, in_flight=1)
        if not 0 < params["share"] <= 1:
            raise WMAgentError(f"share is {params['share']:g}; it must be more than 0, and 1 at most")
        self._limits: Limits = limits_from_options(params)
        self._client: CouchClient = client_from_options(params)
        self.names = names_from_options(self._client, params)
        self.done: list[Progress] = []
        self._finished: set[str] = set()
        self.leftovers: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def run(self) -> None:
        """Delete what is left over, then purge, one database after the other. Raises WMAgentError."""
        self._before = {name: read_database(self._client, name).tombstones for name in self.names}
        if self._params["archived_workflows"]:
            self._delete_leftovers()
        for name in self.names:
            if self._limits.reason(0):
                break
            self._purge(name)

    def _delete_leftovers(self) -> None:
        places = leftovers.find_places(self._client, self.names)
        found = leftovers.find_leftovers(self._client, places, self._params["archived_workflows"])
        self.leftovers = {name: len(documents) for name, documents in found.items()}
        if not self._check:
            self.leftovers = leftovers.delete_leftovers(self._client, places, found, self._limits)

    def _purge(self, name: str) -> None:
        guard = make_guard(self._client, name, time.time() - self._abandoned_after, self._params["timeout"])
        progress = Progress(name)
        self.done.append(progress)
        if self._check:
            count_tombstones(self._client, progress, guard, self._min_age, self._limits)
        else:
            in_flight, share = self._params["in_flight"], self._params["share"]
            purge_tombstones(self._client, progress, guard, self._min_age, self._limits, in_flight, share)
        if not progress.stopped_by:
            self._finished.add(name)

    @property
    def changed(self) -> bool:
        """Whether anything goes: the same for check mode and for the real run."""
        return any(self.leftovers.values()) or any(one.going for one in self.done)

    def figures(self) -> dict[str, Any]:
        """What came of it so far, as plain data."""
        held: Counter[str] = Counter()
        for one in self.done:
            held.update(one.held)
        resume = [name for name in self.names if name not in self._finished]
        return {
            "databases": {one.name: progress_as_dict(one) for one in self.done},
            "purged": sum(one.purged for one in self.done),
            "held_back": dict(held),
            "stopped_by": self._limits.reason(0) if resume else "",
            "resume": resume,
            **({"deleted_leftovers": self.leftovers} if self._params["archived_workflows"] else {}),
        }

    def diff(self) -> dict[str, str]:
        """Tombstones of each database before and after."""
        gone = {one.name: one.going if self._check else one.purged for one in self.done}
        made = self.leftovers if not self._check else {}
        after = {name: count + made.get(name, 0) - gone.get(name, 0) for name, count in self._before.items()}
        return {"before": _lines(self._before), "after": _lines(after)}

    def summary(self) -> str:
        """One line."""
        figures = self.figures()
        number = sum(one.going for one in self.done) if self._check else figures["purged"]
        text = f"{'would purge' if self._check else 'purged'} {number} tombstones of {len(self.done)} databases"
        seconds = sum(one.seconds for one in self.done)
        if figures["purged"] and seconds:
            text += f", {figures['purged'] / seconds:.0f} a second"
        if any(self.leftovers.values()):
            text += f", {sum(self.leftovers.values())} leftover documents deleted before"
        if figures["held_back"]:
            text += "; held back: " + ", ".join(f"{count} {reason}" for reason, count in figures["held_back"].items())
        if figures["resume"]:
            text += f"; ended by {figures['stopped_by']}, run again for {', '.join(figures['resume'])}"
        return text


def progress_as_dict(progress: Progress) -> dict[str, Any]:
    """What came of one database."""
    return {
        "tombstones": progress.tombstones,
        "going": progress.going,
        "purged": progress.purged,
        "held_back": dict(progress.held),
        "unknown": progress.unknown,
        "rate": round(progress.rate, 1),
        "seconds": round(progress.seconds, 3),
    }


def _lines(tombstones: Mapping[str, int]) -> str:
    return "".join(f"{name}: {count} tombstones\n" for name, count in tombstones.items())


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **SERVER_OPTIONS,
            **DATABASES_OPTION,
            **LIMIT_OPTIONS,
            "min_age": {"type": "str", "default": "0"},
            "abandoned_after": {"type": "str", "default": "30d"},
            "in_flight": {"type": "int", "default": 2},
            "share": {"type": "float", "default": 0.5},
            "archived_workflows": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        run = Run(module.params, module.check_mode)
    except WMAgentError as error:
        module.fail_json(msg=str(error))
    try:
        run.run()
    except WMAgentError as error:
        figures = run.figures()
        module.fail_json(msg=str(error), changed=bool(figures["purged"]), **figures)
    result = {"changed": run.changed, "summary": run.summary(), **run.figures()}
    if module._diff:
        result["diff"] = run.diff()
    module.exit_json(**result)


if __name__ == "__main__":
    run_long(main)
