# SPDX-License-Identifier: GPL-3.0-or-later
"""What agents have in common and where they differ, and the rollouts that their ledgers tell of. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._history import model

_OF_ROLLOUTS = ("upgrade", "rollback", "aborted", "redeploy")


def compare_fleet(agents: Sequence[model.Agent]) -> model.Fleet:
    """Who runs what, and who differs from most. An agent that nobody reached may differ, so it counts as one."""
    releases: dict[str, list[str]] = {}
    for agent in agents:
        if agent["release"]:
            releases.setdefault(agent["release"], []).append(agent["name"])
    common = max(releases, key=lambda name: (len(releases[name]), name), default="")
    differences = [difference for agent in agents for difference in _differences(agent, common)]
    return {
        "agents": len(agents),
        "uniform": bool(agents) and not differences,
        "releases": {name: releases[name] for name in sorted(releases)},
        "differences": differences,
    }


def _differences(agent: model.Agent, common: str) -> Iterator[model.Difference]:
    name, drift = agent["name"], agent["drift"]
    if not agent["release"]:
        yield {"agent": name, "what": "unknown", "details": "its release was never told"}
    elif not agent["reached"]:
        yield {"agent": name, "what": "unknown", "details": f"not reached; it ran {agent['release']} when last seen"}
    elif any(gap.startswith("release:") for gap in agent["gaps"]):
        yield {"agent": name, "what": "unknown", "details": f"not told now; it ran {agent['release']} before"}
    if agent["release"] and agent["release"] != common:
        yield {"agent": name, "what": "release", "details": f"{agent['release']}, while most run {common}"}
    if drift["count"]:
        examples = "; ".join(drift["examples"][:3])
        files = f"{drift['count']} file{'s' if drift['count'] > 1 else ''}"
        yield {"agent": name, "what": "drift", "details": f"{files} changed by hand: {examples}"}


def ledger_line(entry: Mapping[str, Any]) -> model.LedgerLine:
    """One entry of a ledger, what all have in common first."""
    apart = ("time", "action", "from", "to", "verdict", "by")
    return {
        "time": str(entry.get("time")),
        "action": str(entry.get("action")),
        "from": entry.get("from"),
        "to": entry.get("to"),
        "verdict": entry.get("verdict"),
        "owner": entry.get("by"),
        "details": {key: value for key, value in entry.items() if key not in apart},
    }


def find_rollouts(ledgers: Mapping[str, Sequence[model.LedgerLine]]) -> list[model.Rollout]:
    """Rollouts by their ids, newest first. What an agent's ledger says last of a rollout counts."""
    rollouts: dict[str, dict[str, model.LedgerLine]] = {}
    began: dict[str, str] = {}
    for agent, lines in ledgers.items():
        for line in lines:
            rollout = str(line["details"].get("rollout") or "")
            if rollout and line["action"] in _OF_ROLLOUTS:
                rollouts.setdefault(rollout, {})[agent] = line
                began[rollout] = min(began.get(rollout, line["time"]), line["time"])
    return [
        {
            "id": rollout,
            "began": began[rollout],
            # An id is the time at which it was opened, a hyphen and a label.
            "label": rollout.partition("-")[2] or rollout,
            "agents": [_of_agent(agent, line) for agent, line in rollouts[rollout].items()],
        }
        for rollout in sorted(rollouts, key=lambda name: began[name], reverse=True)
    ]


def _of_agent(agent: str, line: model.LedgerLine) -> model.RolloutAgent:
    verdict = line["verdict"]
    if line["action"] == "rollback":
        verdict = f"rolled back, {verdict}"
    elif line["action"] == "aborted":
        verdict = "aborted"
    downtime = line["details"].get("downtime")
    return {
        "agent": agent,
        "from": line["from"],
        "to": line["to"],
        "verdict": verdict,
        "downtime": downtime if isinstance(downtime, int | float) else None,
    }
