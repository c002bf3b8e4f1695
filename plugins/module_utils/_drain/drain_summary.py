# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drain came to, agent by agent. Pure: what each agent's watch told in, rows of a table out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.verdict import DRAINED
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.watching import span

COLUMNS = ("agent", "state", "took", "stages, empty after", "left, waived, done on the way")

Row = dict[str, Any]


def summarise(told: Mapping[str, Mapping[str, Any] | None], check: bool = False) -> tuple[list[Row], list[str], str]:
    """Rows, agents that are not drained, and one line. told: agent -> what ``drain_watch`` returned."""
    rows, left = [], []
    for agent, watch in told.items():
        rows.append(_row(agent, watch))
        if watch is None or watch.get("failed") or watch.get("unreachable") or watch["state"] != DRAINED:
            left.append(agent)
    done = len(told) - len(left)
    message = f"{done} of {len(told)} agents drained"
    if left:
        message += f"; {'to go' if check else 'not drained'}: {', '.join(left)}"
    return rows, left, message


def _row(agent: str, watch: Mapping[str, Any] | None) -> Row:
    if watch is None or watch.get("failed") or watch.get("unreachable"):
        why = "no answer" if watch is None else " ".join(str(watch.get("msg", "no reason given")).split())
        return {"agent": agent, "state": "failed", COLUMNS[4]: [why]}
    return {
        "agent": agent,
        "state": watch["state"],
        "took": None if watch["seconds"] is None else span(watch["seconds"]),
        COLUMNS[3]: [_stage(stage) for stage in watch["stages"] if stage["most"]] or None,
        COLUMNS[4]: _notes(watch),
    }


def _stage(stage: Mapping[str, Any]) -> str:
    after = "not yet" if stage["seconds"] is None else span(stage["seconds"])
    return f"{stage['stage']} ({stage['most']}): {after}"


def _notes(watch: Mapping[str, Any]) -> list[str]:
    notes = [] if watch["state"] == DRAINED else [watch["reason"]]
    notes += [
        f"{one['signal']}: {one['count'] if one['count'] is not None else one['text']}" for one in watch["blockers"]
    ]
    notes += [
        f"waived: {one['signal']} ({one['count']}) by {one['waiver']['person']}, {one['waiver']['reason']}"
        for one in watch["waived"]
    ]
    return notes + [str(event["what"]) for event in watch["events"]]
