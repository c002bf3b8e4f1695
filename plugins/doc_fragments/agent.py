# SPDX-License-Identifier: GPL-3.0-or-later
"""Options and attributes that the modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """C(dmwm.wmagent.agent): the agent a module works on."""

    DOCUMENTATION = r"""
options:
  wmagent_root:
    description:
      - The agent's root folder, with C(releases), C(current), C(shared) and C(.deploy).
    type: path
    required: true
"""

    CHANGES = r"""
attributes:
  check_mode:
    support: full
    description: Tells what it would change, and changes nothing.
  diff_mode:
    support: full
    description: Shows what changes, secrets masked.
  idempotent:
    support: full
    description: Run again without another change in between, it changes nothing.
"""

    INFO = r"""
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: N/A
    description: Changes nothing.
"""
