#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain_watch
short_description: Put a WMAgent into drain mode and watch until it is drained
version_added: 0.1.0
description:
  - Runs on the controller, and calls M(dmwm.wmagent.drain) and M(dmwm.wmagent.drain_info) on the agent.
  - An agent begins when its team keeps O(min_active) others that take work, and waits for its turn until then.
  - Ends when the agent is drained, when two readings in a row say that it is stuck, when nothing could be read for
    O(stuck_after), at O(max_runtime), or when O(stop_file) is there. It fails in none of these cases; RV(state) tells.
  - Readings are remembered on the controller, so a run that was stopped goes on where it was.
author:
  - dmwm.wmagent contributors (@dmwm)
attributes:
  check_mode:
    support: full
    description: Reads once and tells what would be done; changes and remembers nothing.
  diff_mode:
    support: none
    description: M(dmwm.wmagent.drain) shows the fields that it changes.
  action:
    support: full
    description: Runs on the controller.
options:
  connection:
    description:
      - Options of M(dmwm.wmagent.drain_info) that both modules share, C(secrets), C(agent), C(timeout), C(host_cert),
        C(host_key) and C(ca_path).
    type: dict
    required: true
  database_name:
    description: Name of the agent's database in MariaDB; Oracle needs none.
    type: str
    default: wmagent
  condor_q:
    description: HTCondor's program that tells of the jobs in the queue.
    type: str
    default: condor_q
  waivers:
    description: As M(dmwm.wmagent.drain_info) takes them.
    type: list
    elements: dict
    default: []
  stuck_after:
    description:
      - How long what should move may stay the same before it counts as stuck, and how long readings may fail. A number
        with C(s), C(m), C(h), C(d) or C(w).
    type: str
    default: 24h
  speed_drain:
    description:
      - Part of speed drain (C(condor_priority), C(no_job_retries), C(enable_all_sites)) to the number of jobs below
        which its turn comes. Set as thresholds when the drain begins; the last two are enabled when HTCondor holds
        fewer jobs and WorkQueue none that wait. The first is left to upstream, which raises priorities only where it
        enables it itself.
    type: dict
    default: {}
  team:
    description: The team whose agents have to take turns.
    type: str
    required: true
  agents:
    description:
      - The inventory's agents. Those with the same C(wmagent_team) (V(production) where they have none) are the team;
        C(wmagent_fqdn) is the full host name of one where its name in the inventory is not.
    type: list
    elements: str
    required: true
  min_active:
    description: How many of the others have to take work.
    type: int
    default: 1
  max_runtime:
    description: Longest time to watch.
    type: str
    default: 14d
  shortest_pause:
    description: Shortest time between two readings.
    type: str
    default: 1m
  longest_pause:
    description: Longest time between two readings; they grow with the time that is left and while nothing changes.
    type: str
    default: 15m
  stop_file:
    description: File on the controller that ends the watch once it is there. The agent goes on draining.
    type: path
  state_dir:
    description: Folder on the controller for what is remembered.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Drain
  dmwm.wmagent.drain_watch:
    connection:
      secrets: /data/admin/wmagent/WMAgent.secrets
      agent: agent1.example.org
    speed_drain: {no_job_retries: 300, enable_all_sites: 200}
    team: production
    agents: "{{ groups['all'] }}"
    state_dir: ~/.local/state/dmwm.wmagent
"""

RETURN = r"""
state:
  description:
    - C(drained), C(stuck), C(unknown), C(waiting) (its turn did not come), C(stopped) or C(not finished); in check mode
      the verdict, or C(waiting).
  returned: success
  type: str
news:
  description: Whether this differs from what the last run came to, so that a ledger holds it once.
  returned: success
  type: bool
reason:
  description: Why, in one line.
  returned: success
  type: str
blockers:
  description: What is left, as M(dmwm.wmagent.drain_info) tells it.
  returned: success
  type: list
  elements: dict
waived:
  description: What a waiver covers.
  returned: success
  type: list
  elements: dict
bottleneck:
  description: The stage that is waited for.
  returned: success
  type: str
requests:
  description: What ReqMgr2 knows of the requests in WMBS.
  returned: success
  type: dict
began:
  description: When the drain began, UNIX time in seconds; null where it did not.
  returned: success
  type: float
seconds:
  description: For how long it has gone on.
  returned: success
  type: int
stages:
  description: For each C(stage) the C(most) it held, and after how many C(seconds) it was empty; null where it is not.
  returned: success
  type: list
  elements: dict
events:
  description: What was done on the way, each with C(time) and C(what).
  returned: success
  type: list
  elements: dict
"""
