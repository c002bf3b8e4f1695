#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: history
short_description: Keep on the controller what WMAgents tell of themselves, and report on it
version_added: 0.1.0
description:
  - Runs on the controller, on one SQLite file for all agents, which several runs may write at once.
  - V(recorded) adds what modules told of one agent. What is there already is not added again, so that a ledger may be
    told of as often as one likes.
  - V(read) gives series and events.
  - V(reported) gives a whole report, with a forecast of the day on which each disk and database is full, out of the
    history and of each agent's variable C(wmagent_collected). Where the history cannot be read, the report has what
    was collected, and says so.
  - A file that is damaged, or of a newer version, is never changed.
author:
  - dmwm.wmagent contributors (@dmwm)
attributes:
  check_mode:
    support: full
    description: Tells how much would be added, and writes nothing.
  diff_mode:
    support: full
    description: Shows how much is added.
  idempotent:
    support: full
    description: Results that were recorded with the same O(time) are not recorded again.
  action:
    support: full
    description: Runs on the controller.
options:
  state:
    description: What to do.
    type: str
    required: true
    choices: [recorded, read, reported]
  path:
    description: The history's file on the controller. Made where it is missing.
    type: path
    required: true
  agent:
    description: The agent that O(results) are of.
    type: str
  results:
    description:
      - Results of modules as they were registered, by source. C(disks) of M(dmwm.wmagent.disks_info), C(database) of
        M(dmwm.wmagent.database_info), C(dbsbuffer) of M(dmwm.wmagent.dbsbuffer_info), C(couchdb) of
        M(dmwm.wmagent.couchdb_info), C(release) of M(dmwm.wmagent.release_info), C(components) of
        M(dmwm.wmagent.components_info), C(drain) of M(dmwm.wmagent.drain_info), C(ledger) of
        M(dmwm.wmagent.agent_ledger_info).
      - One that failed or is empty becomes a gap.
    type: dict
  time:
    description: When the results were collected, UNIX time in seconds by the controller's clock; now where left out.
    type: float
  agents:
    description: The agents to read or report on.
    type: list
    elements: str
  kinds:
    description: Kinds of series and events to read; all where empty.
    type: list
    elements: str
    default: []
  days:
    description: How many days are kept when recording, and how far back is read.
    type: float
    default: 400
  threshold:
    description: Percentage of a disk in use at which it counts as full.
    type: float
    default: 85
  damaged:
    description: Whether a damaged file ends the task, or is renamed and a new one begun.
    type: str
    choices: [fail, aside]
    default: fail
  timeout:
    description: How long to wait for others that write, a number with C(s), C(m), C(h), C(d) or C(w).
    type: str
    default: 30s
"""

EXAMPLES = r"""
- name: Keep what the agent told
  dmwm.wmagent.history:
    state: recorded
    path: ~/.local/state/dmwm.wmagent/history.sqlite
    agent: "{{ inventory_hostname }}"
    results:
      disks: "{{ disks }}"
      dbsbuffer: "{{ dbsbuffer }}"

- name: Look at the last 30 days of all disks
  dmwm.wmagent.history:
    state: read
    path: ~/.local/state/dmwm.wmagent/history.sqlite
    agents: "{{ ansible_play_hosts_all }}"
    kinds: [disk]
    days: 30
  run_once: true
  register: history
"""

RETURN = r"""
added:
  description: How many measures and events were new.
  returned: when recorded
  type: int
pruned:
  description: How many were forgotten, being older than O(days).
  returned: when recorded
  type: int
gaps:
  description: One line for each source that told nothing of use, with the reason.
  returned: when recorded
  type: list
  elements: str
aside:
  description: The new name of a damaged file; empty where there was none.
  returned: when recorded
  type: str
summary:
  description: What came of it, in one line.
  returned: when recorded or reported
  type: str
series:
  description: For each agent its series with C(kind), C(name), C(quantity) and C(points), each a UNIX time and a value.
  returned: when read
  type: dict
events:
  description: For each agent its events with C(time) (UNIX seconds), C(kind) and C(details).
  returned: when read
  type: dict
report:
  description: The report. docs/history.md describes it.
  returned: when reported
  type: dict
"""
