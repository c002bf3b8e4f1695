# SPDX-License-Identifier: GPL-3.0-or-later
"""What a preflight or a rollout came to, agent by agent: pure planning over what each agent told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._rollout.table import human_bytes

PREFLIGHT_COLUMNS = ("agent", "runs", "will run", "verdict", "to send", "problems")
RESULT_COLUMNS = ("agent", "from", "to", "verdict", "downtime s", "sent", "records in the databases")

GOOD = ("healthy", "up to date", "would change")
"""Outcomes that do not count as failed."""


@dataclass(frozen=True)
class Summary:
    """Rows for a table and what follows from them.

    failed:      agents that count against ``wmagent_max_failed``
    not_reached: agents that the rollout has not come to
    inconclusive: agents whose verdict nobody has accepted
    message:     one line that says it all
    """

    rows: list[dict[str, Any]]
    failed: list[str]
    message: str
    columns: Sequence[str]
    not_reached: list[str] = field(default_factory=list)
    inconclusive: list[str] = field(default_factory=list)


def summarise_preflight(told: Mapping[str, Mapping[str, Any]]) -> Summary:
    """told: for each agent its variables ``wmagent_tools`` and ``wmagent_preflight``, as far as it got."""
    problems = {agent: preflight_problems(facts) for agent, facts in told.items()}
    for agents in same_root(told):
        for agent in agents:
            others = ", ".join(other for other in agents if other != agent)
            problems[agent].append(f"root: the same folder as {others}; give each agent a wmagent_root of its own")
    rows = []
    for agent, facts in told.items():
        look = facts.get("wmagent_preflight") or {}
        rows.append(
            {
                "agent": agent,
                "runs": (look.get("release") or {}).get("name"),
                "will run": "the same" if look.get("done") else look.get("target_release"),
                "verdict": look.get("verdict"),
                "to send": human_bytes(look.get("missing_bytes")),
                "problems": problems[agent] or ["none"],
            }
        )
    failed = [agent for agent, found in problems.items() if found]
    count = sum(len(found) for found in problems.values())
    message = (
        f"preflight: {count} problem{'s' if count != 1 else ''} on {len(failed)} of {len(told)} agents; "
        "nothing was changed"
        if failed
        else f"preflight: {len(told)} agents are fit"
    )
    return Summary(rows, failed, message, PREFLIGHT_COLUMNS)


def preflight_problems(facts: Mapping[str, Any]) -> list[str]:
    """One line for each problem of one agent; an answer that did not come is a problem too."""
    for step in ("wmagent_tools", "wmagent_preflight"):
        answer = facts.get(step)
        if answer is None:
            return ["unreachable: no answer; see that the host is up and ssh works"]
        if answer.get("unreachable"):
            return [f"unreachable: {' '.join(str(answer.get('msg', 'no reason given')).split())}"]
        if answer.get("failed"):
            return [str(answer.get("msg", "failed without a reason")).splitlines()[0]]
    return [f"{problem['check']}: {problem['message']}" for problem in facts["wmagent_preflight"]["problems"]]


def same_root(told: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Groups of agents whose roots are one and the same folder of one and the same machine."""
    seen: dict[str, list[str]] = {}
    for agent, facts in told.items():
        identity = (facts.get("wmagent_preflight") or {}).get("root_id")
        if identity:
            seen.setdefault(identity, []).append(agent)
    return [agents for agents in seen.values() if len(agents) > 1]


def summarise_result(agents: Iterable[str], told: Mapping[str, Mapping[str, Any]], check: bool = False) -> Summary:
    """told: for each agent its variables ``wmagent_outcome``, ``wmagent_preflight``, ``wmagent_staged``."""
    rows, failed, not_reached, inconclusive = [], [], [], []
    for agent in agents:
        facts = told.get(agent, {})
        look = facts.get("wmagent_preflight") or {}
        outcome = _outcome(facts, look, check)
        verdict = outcome.get("verdict", "not reached")
        if verdict == "not reached":
            not_reached.append(agent)
        elif outcome.get("failed") or (verdict not in GOOD and not outcome.get("accepted")):
            failed.append(agent)
            if verdict == "inconclusive":
                inconclusive.append(agent)
        rows.append(
            {
                "agent": agent,
                "from": outcome.get("from") or (look.get("release") or {}).get("name"),
                "to": outcome.get("to") or look.get("target_release"),
                "verdict": [verdict, *(outcome.get("reasons") or [])],
                "downtime s": outcome.get("downtime"),
                "sent": human_bytes((facts.get("wmagent_staged") or {}).get("bytes_sent", 0)),
                "records in the databases": describe_records(outcome.get("records")),
            }
        )
    return Summary(
        rows, failed, _result_message(rows, failed, not_reached, check), RESULT_COLUMNS, not_reached, inconclusive
    )


def _outcome(facts: Mapping[str, Any], look: Mapping[str, Any], check: bool) -> Mapping[str, Any]:
    if facts.get("wmagent_outcome"):
        outcome: Mapping[str, Any] = facts["wmagent_outcome"]
        return outcome
    staged = facts.get("wmagent_staged") or {}
    if staged.get("failed") or staged.get("unreachable"):
        return {"verdict": "not staged", "failed": True, "reasons": [str(staged.get("msg", "no reason given"))]}
    if look.get("done"):
        return {"verdict": "up to date", "from": look["release"]["name"], "to": look["release"]["name"]}
    if check and look:
        return {"verdict": "would change"}
    return {}


def describe_records(records: Mapping[str, Any] | None) -> str | None:
    """The evidence in a few words: how much was compared, what changed."""
    if not records:
        return None
    if records.get("unread"):
        return f"not compared: {records['unread']}"
    if records.get("changes"):
        return f"CHANGED: {'; '.join(records['changes'])}"
    return str(records.get("summary", "unchanged"))


def _result_message(rows: list[dict[str, Any]], failed: list[str], not_reached: list[str], check: bool) -> str:
    verb = "would be changed" if check else "done"
    good = len(rows) - len(failed) - len(not_reached)
    parts = [f"{good} of {len(rows)} agents {verb}"]
    if failed:
        parts.append(f"failed: {', '.join(failed)}")
    if not_reached:
        parts.append(f"not reached: {', '.join(not_reached)}")
    return "; ".join(parts)


def stop_reason(summary: Summary, max_failed: int) -> str:
    """Why the rollout must stop now, '' where it goes on."""
    if summary.inconclusive:
        return f"{', '.join(summary.inconclusive)}: inconclusive, so a person has to decide"
    if len(summary.failed) <= max_failed:
        return ""
    return f"{', '.join(summary.failed)} failed, which is more than wmagent_max_failed={max_failed} allows"
