#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: whether an agent is drained, what keeps it from it, and how long that will take."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain_info
short_description: Tell whether a WMAgent is drained, and what keeps it from it
version_added: 0.1.0
description:
  - Reads every signal in the agent's database, its CouchDB, its HTCondor queue and the central services, also where an
    earlier one blocks, and tells one verdict.
  - What could not be read blocks as well. An empty, failed or refused answer never comes to C(drained).
  - With O(before), tells how fast each stage empties, which one is waited for and when all are empty.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent.info
  - dmwm.wmagent.drain
options:
  database_name:
    description: Name of the agent's database in MariaDB; Oracle needs none.
    type: str
    default: wmagent
  condor_q:
    description: HTCondor's program that tells of the jobs in the queue.
    type: str
    default: condor_q
  before:
    description:
      - Earlier results of this module for this agent. One is enough for rates, and two for when it is done.
    type: list
    elements: dict
    default: []
  stuck_after:
    description:
      - How long what should move may stay the same before it counts as stuck. A number with C(s), C(m), C(h), C(d) or
        C(w). DBS3Upload keeps a block open for up to 18 hours, and RucioInjector looks at some every 12.
    type: str
    default: 24h
  waivers:
    description:
      - Blockers that a person decided not to wait for. What could not be read is covered by none.
    type: list
    elements: dict
    default: []
    suboptions:
      blocker:
        description: The C(signal) of a blocker.
        type: str
        required: true
      reason:
        description: Why it need not be waited for.
        type: str
        required: true
      person:
        description: Who decided it.
        type: str
        required: true
      expires:
        description: Last day (UTC) on which it counts, or day and time, as in ISO 8601.
        type: str
        required: true
      at_most:
        description: How many it covers; any number where left out.
        type: int
requirements:
  - PyMySQL for MariaDB, python-oracledb or cx_Oracle for Oracle, python-couchdb; the tools environment staged with an
    image has them
"""

EXAMPLES = r"""
- name: Is it drained
  dmwm.wmagent.drain_info:
    secrets: /data/admin/wmagent/WMAgent.secrets
    agent: agent.example.org
  register: drain

- name: The same an hour later, two lost files aside
  dmwm.wmagent.drain_info:
    secrets: /data/admin/wmagent/WMAgent.secrets
    agent: agent.example.org
    before: ["{{ drain }}"]
    waivers:
      - blocker: files_without_block
        at_most: 2
        reason: Both are in no dataset that anybody uses.
        person: the operator on duty
        expires: 2026-12-31
"""

RETURN = r"""
verdict:
  description: C(drained), C(draining), C(stuck) or C(unknown).
  returned: success
  type: str
reason:
  description: Why, in one line.
  returned: success
  type: str
blockers:
  description:
    - What keeps the agent from being drained. Each has C(signal), C(class), C(source), C(count) (null where nobody
      knows), C(oldest) (UNIX time in seconds, null where the source keeps no time), C(by_state), C(examples) (the
      workflows with the most; names of blocks), C(text) (why it could not be read) and C(unchanged_since), the time of
      the first of the readings that say the same.
    - >-
      C(class) is C(running work), C(waiting work), C(upload to DBS), C(registration in Rucio), C(stuck: needs a person)
      or C(unknown).
  returned: success
  type: list
  elements: dict
waived:
  description: Blockers that a waiver covers, with that C(waiver).
  returned: success
  type: list
  elements: dict
stages:
  description:
    - What work passes through, in order. Each has C(name), C(count), C(rate_per_hour) (how many fewer since the last
      reading, below 0 where it grows), C(eta_seconds), C(eta_soonest_seconds) and C(eta_latest_seconds) (by the median,
      the 90th and the 10th percentile of the rates; null where nobody can tell, and C(note) says why).
  returned: success
  type: list
  elements: dict
bottleneck:
  description: The stage that is waited for; empty where there is none or nobody can tell.
  returned: success
  type: str
eta:
  description: When all stages are empty; C(seconds), C(soonest_seconds), C(latest_seconds) and C(note), as for a stage.
  returned: success
  type: dict
requests:
  description:
    - What ReqMgr2 knows of the requests in WMBS; C(by_status), how many are C(not_archived), and C(examples) of these
      with their status. An agent that is wiped before they are archived leaves them orphaned.
  returned: success
  type: dict
flags:
  description: The drain flags of the agent's configuration in ReqMgr2; null where it could not be read.
  returned: success
  type: dict
sources:
  description: For each source how many seconds it took to read.
  returned: success
  type: dict
agent:
  description: The agent's full host name.
  returned: success
  type: str
time:
  description: When this was read, UNIX time in seconds.
  returned: success
  type: float
"""

import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import client as couch
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect, settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import options
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.condor import read_jobs
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.progress import Progress, measure, stage_counts
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.reading import Seen, Sources, read_all
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.verdict import judge, readings_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.waivers import apply_waivers, waivers_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_FLAGS = ("UserDrainMode", "AgentDrainMode", "SpeedDrainMode", "SpeedDrainConfig")


def sources_of(params: Mapping[str, Any]) -> Sources:
    """How the sources are reached. Raises WMAgentError where the options make no sense."""
    secrets = options.checked_secrets(params)
    timeout = params["timeout"]
    return Sources(
        agent=options.agent_name(params),
        session=lambda: connect(settings_from_secrets(secrets, params["database_name"]), timeout),
        couchdb=lambda: couch.CouchClient(couch.settings_from_secrets(secrets), timeout),
        global_workqueue=lambda: options.global_workqueue(params, secrets),
        reqmgr=lambda: options.reqmgr(params, secrets),
        jobs=lambda: read_jobs(params["condor_q"], timeout),
        timeout=timeout,
    )


def eta_as_dict(progress: Progress) -> dict[str, Any]:
    """When all stages are empty, as plain data."""
    numbers = {"seconds": progress.eta, "soonest_seconds": progress.soonest, "latest_seconds": progress.latest}
    return {name: None if value is None else round(value) for name, value in numbers.items()} | {"note": progress.note}


def decide(seen: Seen, params: Mapping[str, Any], agent: str, now: float) -> dict[str, Any]:
    """The result out of what was read. Raises WMAgentError where ``before`` or ``waivers`` make no sense."""
    earlier = readings_of(params["before"], agent, now)
    left, waived = apply_waivers(seen.blockers, waivers_of(params["waivers"]), now)
    verdict = judge(left, seen.seconds.keys(), earlier, now, seconds_of(params["stuck_after"], "stuck_after"))
    progress = measure(stage_counts(seen.blockers), earlier, now)
    since = verdict.unchanged_since
    return {
        "time": now,
        "agent": agent,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "blockers": [one.as_dict() | {"unchanged_since": since[one.signal]} for one in left],
        "waived": [one.as_dict() for one in waived],
        "stages": [stage.as_dict() for stage in progress.stages],
        "bottleneck": progress.bottleneck,
        "eta": eta_as_dict(progress),
        "requests": seen.requests,
        "flags": None if seen.document is None else {name: seen.document[name] for name in _FLAGS},
        "sources": seen.seconds,
    }


def run(params: Mapping[str, Any]) -> dict[str, Any]:
    """The result as plain data. Raises WMAgentError."""
    now = time.time()
    sources = sources_of(params)
    # What the options say is checked before anything is asked.
    decide(Seen([], {}, {}, None), params, sources.agent, now)
    return decide(read_all(sources), params, sources.agent, now)


def main() -> None:
    """Entry point."""
    waiver = {
        **{key: {"type": "str", "required": True} for key in ("blocker", "reason", "person", "expires")},
        "at_most": {"type": "int"},
    }
    module = AnsibleModule(
        argument_spec={
            **options.CENTRAL_OPTIONS,
            "database_name": {"type": "str", "default": "wmagent"},
            "condor_q": {"type": "str", "default": "condor_q"},
            "before": {"type": "list", "elements": "dict", "default": []},
            "stuck_after": {"type": "str", "default": "24h"},
            "waivers": {"type": "list", "elements": "dict", "default": [], "options": waiver},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **run(module.params))
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
