# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the DBSBuffer modules that set the rules (doc fragment ``dmwm.wmagent.dbsbuffer``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of

RULE_OPTIONS: dict[str, dict[str, Any]] = {
    "retention": {"type": "str", "default": "14d"},
    "block_rules": {"type": "bool", "default": True},
}


def rules_from_options(params: Mapping[str, Any], now: float) -> Rules:
    """The rules that a module was given. now: UNIX time, seconds. Raises WMAgentError for a retention that is none."""
    return Rules(now, seconds_of(params["retention"], "retention"), params["block_rules"])
