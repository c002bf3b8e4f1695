#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_report
short_description: Tell what all WMAgents of a rollout came to, as one table
version_added: 0.1.0
description:
  - Runs on the controller, over the variables that the roles P(dmwm.wmagent.agent#role) and
    P(dmwm.wmagent.upgrade#role) registered for each agent.
  - Fails where O(about=preflight) finds a problem on any agent, or O(about=result) an agent that failed or was not
    reached.
author:
  - dmwm.wmagent contributors (@dmwm)
attributes:
  check_mode:
    support: full
    description: Tells what would be done.
  diff_mode:
    support: N/A
    description: Changes nothing.
  action:
    support: full
    description: Runs on the controller.
options:
  about:
    description: What to tell of. V(batch) prints nothing and only decides whether the rollout goes on.
    type: str
    required: true
    choices: [preflight, batch, result]
  agents:
    description: The agents, in the order of the table.
    type: list
    elements: str
    required: true
  max_failed:
    description: How many agents may fail before the rollout stops, for O(about=batch).
    type: int
    default: 0
  reason:
    description: Why the rollout stopped, for O(about=result).
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Tell the result
  dmwm.wmagent.rollout_report:
    about: result
    agents: "{{ ansible_play_hosts_all }}"
  run_once: true
"""

RETURN = r"""
message:
  description: What it came to, in one line; C(msg) where the task fails.
  returned: success
  type: str
rows:
  description: The table, one dictionary for each agent.
  returned: always
  type: list
  elements: dict
failed_agents:
  description: Agents with a problem.
  returned: always
  type: list
  elements: str
not_reached:
  description: Agents that the rollout has not come to.
  returned: always
  type: list
  elements: str
stop:
  description: Why the rollout must stop, empty where it goes on.
  returned: always
  type: str
"""
