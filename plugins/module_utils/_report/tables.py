# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's tables, the same on the page and in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.dmwm.wmagent.plugins.module_utils._history import model
from ansible_collections.dmwm.wmagent.plugins.module_utils._report import words

ROLLOUTS = 5
"""So many rollouts are shown, the last ones."""


@dataclass(frozen=True)
class Table:
    """numbers: columns (from 0) that hold figures."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int] = ()


def releases(fleet: model.Fleet) -> Table:
    """Which agents run which release."""
    rows = [[name, str(len(agents)), words.names(agents)] for name, agents in fleet["releases"].items()]
    return Table("Releases", ["Release", "Agents", "Names"], rows, [1])


def differences(fleet: model.Fleet) -> Table:
    """Who differs, and how."""
    rows = [[one["agent"], one["what"], one["details"]] for one in fleet["differences"]]
    return Table("Who differs, and how", ["Agent", "What", "Details"], rows)


def agents(report: model.Report) -> Table:
    """One row for each agent."""
    rows = [
        [
            agent["name"],
            _signed(*words.standing(agent)),
            agent["release"] or words.NOTHING,
            words.drift(agent["drift"]),
            words.fullest(agent),
            words.first_full(agent),
            words.draining(agent),
            words.when(agent["seen_at"]),
        ]
        for agent in report["agents"]
    ]
    columns = ["Agent", "Verdict", "Release", "Drift", "Fullest disk", "First full", "Drain", "Seen"]
    return Table("All agents", columns, rows)


def _signed(kind: str, said: str) -> str:
    return f"{words.SIGNS[kind]} {said}"


def forecasts(agent: model.Agent) -> Table:
    """What is expected to be full when, soonest first; what does not grow last."""
    ordered = sorted(
        agent["forecast"], key=lambda one: (one["day"] or "9", one["state"] == "does not grow", one["name"])
    )
    rows = [
        [
            f"{one['kind']} {one['name']}",
            words.day_range(one) if one["day"] else one["state"],
            one["why"] or words.NOTHING,
        ]
        for one in ordered
    ]
    return Table("Forecast", ["What", "Full", "Why"], rows)


def disks(agent: model.Agent) -> Table:
    """How full each disk is now."""
    rows = [
        [disk["name"], words.size(disk["used"]), words.size(disk["total"]), words.share(disk["used"], disk["total"])]
        for disk in agent["disks"]
    ]
    return Table("Disks", ["Disk", "Used", "Of", "Share"], rows, [1, 2, 3])


def stages(drain: model.Drain) -> Table:
    """What is left in each stage, and how fast it goes; the bottleneck is named."""
    rows = [
        [
            one["name"] + (" (bottleneck)" if one["name"] == drain["bottleneck"] else ""),
            words.count(one["count"]),
            words.rate(one["rate_per_hour"]),
        ]
        for one in drain["stages"]
    ]
    return Table("Stages of the drain", ["Stage", "Left", "Rate"], rows, [1, 2])


def blockers(drain: model.Drain) -> Table:
    """What keeps the agent from being drained."""
    rows = [[one["name"], one["class"], words.count(one["count"])] for one in drain["blockers"]]
    return Table("Blockers", ["Blocker", "Class", "Count"], rows, [2])


def ledger(agent: model.Agent, most: int) -> Table:
    """The last ``most`` entries of the ledger, newest first."""
    lines = sorted(agent["ledger"], key=lambda line: line["time"], reverse=True)[:most]
    left = len(agent["ledger"]) - len(lines)
    rows = [
        [
            words.when(line["time"]),
            line["action"],
            line["from"] or words.NOTHING,
            line["to"] or words.NOTHING,
            line["verdict"] or words.NOTHING,
            line["owner"] or words.NOTHING,
            words.details(line["details"]) or words.NOTHING,
        ]
        for line in lines
    ]
    caption = f"Ledger, the last {len(lines)} of {len(agent['ledger'])} entries" if left else "Ledger"
    return Table(caption, ["Time", "Action", "From", "To", "Verdict", "Owner", "Details"], rows)


def rollouts(report: model.Report) -> Table:
    """The last rollouts, newest first, a row for each agent."""
    rows = [
        [
            one["agent"],
            words.when(rollout["began"]),
            rollout["label"] or rollout["id"],
            one["from"] or words.NOTHING,
            one["to"] or words.NOTHING,
            one["verdict"] or words.NOTHING,
            words.span(one["downtime"]),
        ]
        for rollout in report["rollouts"][:ROLLOUTS]
        for one in rollout["agents"]
    ]
    left = len(report["rollouts"]) - ROLLOUTS
    caption = f"The last {ROLLOUTS} of {len(report['rollouts'])} rollouts" if left > 0 else "Rollouts"
    return Table(caption, ["Agent", "Began", "Rollout", "From", "To", "Verdict", "Downtime"], rows, [6])
