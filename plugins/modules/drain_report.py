#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain_report
short_description: Show what a drain of WMAgents came to, as one table
version_added: 0.1.0
description:
  - Runs on the controller. Reads what M(dmwm.wmagent.drain_watch) has returned for each agent into the variable
    C(wmagent_drained), and fails unless all agents are drained.
author:
  - dmwm.wmagent contributors (@dmwm)
attributes:
  check_mode:
    support: full
    description: Shows where the agents stand, and does not fail.
  diff_mode:
    support: N/A
    description: Changes nothing.
  action:
    support: full
    description: Runs on the controller.
options:
  agents:
    description: The agents, in the order in which to show them.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Tell the result
  dmwm.wmagent.drain_report:
    agents: "{{ ansible_play_hosts_all }}"
  run_once: true
"""

RETURN = r"""
rows:
  description: The rows of the table.
  returned: always
  type: list
  elements: dict
left:
  description: Agents that are not drained.
  returned: always
  type: list
  elements: str
"""
