#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout
short_description: Open or close a rollout over a fleet of WMAgents
version_added: 0.1.0
description:
  - Runs on the controller. V(open) plans the batches and gives the rollout its id; after an interruption the same
    command takes up the rollout that was cut off, so that its locks are its own.
  - V(close) forgets it.
author:
  - dmwm.wmagent contributors (@dmwm)
attributes:
  check_mode:
    support: full
    description: Plans, and remembers nothing.
  diff_mode:
    support: N/A
    description: Changes nothing on an agent.
  action:
    support: full
    description: Runs on the controller.
options:
  state:
    description: What to do.
    type: str
    choices: [open, close]
    default: open
  subject:
    description: What the rollout brings about, such as the digest of an image.
    type: str
    required: true
  label:
    description: The readable end of a new id.
    type: str
    default: rollout
  agents:
    description: The agents, in inventory order. Needed with O(state=open).
    type: list
    elements: str
  waves:
    description: Host patterns; an agent goes with the first one that matches. Agents that none matches come last.
    type: list
    elements: str
    default: [all]
  batches:
    description: Sizes of the batches of each wave, as counts or percentages; the last one is repeated.
    type: list
    elements: raw
    default: [1, "25%", "100%"]
  rollout:
    description: Id of a rollout to go on with, or to close.
    type: str
    default: ''
  state_dir:
    description: Folder on the controller for rollouts under way.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Plan the batches
  dmwm.wmagent.rollout:
    subject: sha256:0f3c…
    label: 2.4.5.9-p1
    agents: "{{ ansible_play_hosts }}"
    waves: [testbed, relval, "cern[0]:fnal[0]", all]
    batches: [1, "25%", "100%"]
    state_dir: ~/.local/state/dmwm.wmagent
  run_once: true
"""

RETURN = r"""
id:
  description: Id of the rollout.
  returned: success
  type: str
owner:
  description: Who runs it.
  returned: success
  type: str
resumed:
  description: Whether an interrupted rollout was taken up.
  returned: state is open
  type: bool
batches:
  description: The agents of each batch, in order; the first batch is the canary.
  returned: state is open
  type: list
  elements: list
"""
