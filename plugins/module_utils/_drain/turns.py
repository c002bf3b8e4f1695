# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose turn it is to begin draining, so that a team keeps agents that take work. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def check_minimum(minimum: int, team: str, members: Sequence[str]) -> None:
    """Raise WMAgentError where the team could never spare an agent."""
    if minimum < 0:
        raise WMAgentError(f"wmagent_min_active is {minimum}; it is a number of agents, 0 or more")
    if minimum >= len(members):
        raise WMAgentError(
            f"wmagent_min_active is {minimum}, and team {team} has {len(members)} agent"
            f"{'s' if len(members) != 1 else ''} ({', '.join(members)}), so none could ever drain; set it lower"
        )


def waits_for(agent: str, team: str, active: Mapping[str, bool | None], minimum: int) -> str:
    """Why an agent of a team has to wait, '' where it may begin.

    active:  agent -> whether it takes work; None where nobody knows, which counts as one that does not
    minimum: how many have to take work beside it
    """
    others = [name for name, works in active.items() if works and name != agent]
    if len(others) >= minimum:
        return ""
    unknown = sorted(name for name, works in active.items() if works is None and name != agent)
    told = f" (unknown: {', '.join(unknown)})" if unknown else ""
    return f"team {team} would keep {len(others)} of wmagent_min_active={minimum} agents{told}"
