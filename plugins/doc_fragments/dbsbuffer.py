# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that decide what of an agent's DBSBuffer may go."""

from __future__ import annotations


class ModuleDocFragment:
    """C(dmwm.wmagent.dbsbuffer): the rules that a person may set."""

    DOCUMENTATION = r"""
options:
  retention:
    description:
      - How old the newest file of a workflow has to be. A number with C(s), C(m), C(h), C(d) or C(w).
      - WMCore writes no C(LastModificationDate), so a file is as old as its block.
    type: str
    default: 14d
  block_rules:
    description:
      - Whether RucioInjector makes a rule for each block (its C(createBlockRules)), so that a block without one is not
        finished.
    type: bool
    default: true
"""
