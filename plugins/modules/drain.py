#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: set and clear the drain flags of an agent."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain
short_description: Have a WMAgent take no new work, or take work again
version_added: 0.1.0
description:
  - Sets the drain flags in the agent's configuration document in ReqMgr2. Only these fields change. ReqMgr2 replaces
    the whole document, so it is read again right before it is written and read back afterwards, and what another
    changed in between is kept.
  - The flags change together. An agent that does not drain has no speed drain, and C(SpeedDrainMode) is on where one of
    its parts is.
  - With O(state=active), C(AgentDrainMode) becomes what the disks of this host call for, since upstream leaves it alone
    while C(UserDrainMode) is on.
author:
  - dmwm.wmagent contributors (@dmwm)
extends_documentation_fragment:
  - dmwm.wmagent.agent.changes
  - dmwm.wmagent.drain
options:
  state:
    description: V(draining) sets C(UserDrainMode), V(active) clears it and all of speed drain; left out, it stays.
    type: str
    choices: [draining, active]
  speed_drain:
    description:
      - Parts of C(SpeedDrainConfig). Upstream enables one of a draining agent by itself when fewer jobs than its
        threshold are running or idle in HTCondor.
    type: dict
    suboptions:
      condor_priority:
        description: Idle jobs get the highest priority. Upstream raises it only where it enables this itself.
        type: dict
        suboptions:
          threshold:
            description: Below how many jobs.
            type: int
          enabled:
            description: Whether it is on now.
            type: bool
      no_job_retries:
        description: Jobs that fail are not tried again.
        type: dict
        suboptions:
          threshold:
            description: Below how many jobs.
            type: int
          enabled:
            description: Whether it is on now.
            type: bool
      enable_all_sites:
        description: Jobs are sent to sites whatever the state of these.
        type: dict
        suboptions:
          threshold:
            description: Below how many jobs.
            type: int
          enabled:
            description: Whether it is on now.
            type: bool
  disk_high:
    description:
      - C(AgentDrainMode) begins where a local disk is that full, in percent. Disks in the document's C(IgnoreDisks) do
        not count.
      - Upstream compares with one number, C(DiskUseThreshold), and so the mode comes and goes around it. With this
        option that number is O(disk_high) while the mode is off and O(disk_low) while it is on.
    type: int
  disk_low:
    description: C(AgentDrainMode) ends where all of them are less full than that.
    type: int
  auxiliary_url:
    description:
      - CouchDB database behind ReqMgr2's documents, whose revisions tell whether another wrote at the same moment. By
        default C(reqmgr_auxiliary) beside C(REQUESTCOUCH_URL). Where it cannot be read, RV(guarded) is false.
    type: str
"""

EXAMPLES = r"""
- name: Take no new work
  dmwm.wmagent.drain:
    secrets: /data/admin/wmagent/WMAgent.secrets
    agent: agent.example.org
    state: draining
    speed_drain:
      no_job_retries:
        threshold: 300

- name: Take work again
  dmwm.wmagent.drain:
    secrets: /data/admin/wmagent/WMAgent.secrets
    agent: agent.example.org
    state: active

- name: Drain while a disk is full, until there is room again
  dmwm.wmagent.drain:
    secrets: /data/admin/wmagent/WMAgent.secrets
    agent: agent.example.org
    disk_high: 85
    disk_low: 75
"""

RETURN = r"""
changes:
  description: Fields that differ, each with C(field), C(before) and C(after).
  returned: success
  type: list
  elements: dict
flags:
  description: The drain flags and C(DiskUseThreshold) as they are now (check mode, as they would be).
  returned: success
  type: dict
guarded:
  description: Whether a change of another in the moment of the writing would have been noticed.
  returned: where something was written
  type: bool
restored:
  description: Fields that another changed in that moment, which were put back.
  returned: where something was written
  type: list
  elements: str
disks:
  description: How full the disks that count are, by where they are mounted, in percent.
  returned: where it made a difference
  type: dict
agent:
  description: The agent's full host name.
  returned: success
  type: str
summary:
  description: What came of it, in one line.
  returned: success
  type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import options
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.agent_config import Document
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.disks import Disk, read_disks
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.drain_flags import ConfigWriter, History
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.flags import (
    DiskRule,
    SpeedStage,
    Wanted,
    changed_document,
    check,
    counted_disks,
    differences,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_STAGES = {
    "condor_priority": "CondorPriority",
    "no_job_retries": "NoJobRetries",
    "enable_all_sites": "EnableAllSites",
}
_TOLD = ("UserDrainMode", "AgentDrainMode", "SpeedDrainMode", "SpeedDrainConfig", "DiskUseThreshold")


def wanted_of(params: Mapping[str, Any]) -> Wanted:
    """What the options ask for. Raises WMAgentError where it makes no sense."""
    speed = {
        name: SpeedStage(given["threshold"], given["enabled"])
        for option, name in _STAGES.items()
        if (given := (params["speed_drain"] or {}).get(option))
    }
    wanted = Wanted(
        draining=None if params["state"] is None else params["state"] == "draining",
        speed=speed,
        disk=None if params["disk_high"] is None else DiskRule(params["disk_high"], params["disk_low"]),
    )
    check(wanted)
    return wanted


def writer_of(params: Mapping[str, Any], agent: str) -> ConfigWriter:
    """What writes the agent's document. Raises WMAgentError."""
    secrets = options.checked_secrets(params)
    client = options.reqmgr(params, secrets)
    try:
        return ConfigWriter(client, agent, History(options.auxiliary(params, secrets), agent))
    except WMAgentError as error:
        if params["auxiliary_url"]:
            raise
        return ConfigWriter(client, agent, None, str(error))


def flags_of(document: Document) -> dict[str, Any]:
    """The fields that draining is about."""
    return {name: document.get(name) for name in _TOLD}


def summary_of(agent: str, document: Document, changes: list[dict[str, Any]], check_mode: bool) -> str:
    """One line."""
    by = [name for name in ("UserDrainMode", "AgentDrainMode") if document[name]]
    state = f"drains ({', '.join(by)})" if by else "takes work"
    would = "would change" if check_mode else "changed"
    done = f"{would}: {', '.join(one['field'] for one in changes)}" if changes else "nothing to change"
    return f"{agent} {state}; {done}"


def run(module: AnsibleModule) -> None:
    """Set what differs, or tell it. Raises WMAgentError."""
    params = module.params
    wanted = wanted_of(params)
    agent = options.agent_name(params)
    writer = writer_of(params, agent)
    disks: list[Disk] = read_disks(params["timeout"]) if wanted.needs_disks else []

    def change(document: Document) -> Document:
        return changed_document(document, wanted, disks)

    outcome = writer.plan(change) if module.check_mode else writer.apply(change)
    changes = differences(flags_of(outcome.before), flags_of(outcome.after))
    result: dict[str, Any] = {
        "changed": bool(changes),
        "changes": changes,
        "flags": flags_of(outcome.after),
        "agent": agent,
        "summary": summary_of(agent, outcome.after, changes, module.check_mode),
    }
    if wanted.needs_disks:
        result["disks"] = {disk.mounted: disk.percent for disk in counted_disks(outcome.after, disks)}
    if changes and not module.check_mode:
        result |= {"guarded": outcome.guarded, "restored": outcome.restored}
        for note in outcome.notes:
            module.warn(note)
    if module._diff:
        result["diff"] = {
            "before_header": f"drain flags of {agent}",
            "after_header": f"drain flags of {agent}",
            "before": flags_of(outcome.before),
            "after": flags_of(outcome.after),
        }
    module.exit_json(**result)


def main() -> None:
    """Entry point."""
    stage = {"type": "dict", "options": {"threshold": {"type": "int"}, "enabled": {"type": "bool"}}}
    module = AnsibleModule(
        argument_spec={
            **options.CENTRAL_OPTIONS,
            "state": {"type": "str", "choices": ["draining", "active"]},
            "speed_drain": {"type": "dict", "options": dict.fromkeys(_STAGES, stage)},
            "disk_high": {"type": "int"},
            "disk_low": {"type": "int"},
            "auxiliary_url": {"type": "str"},
        },
        required_together=[("disk_high", "disk_low")],
        supports_check_mode=True,
    )
    try:
        run(module)
    except WMAgentError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
