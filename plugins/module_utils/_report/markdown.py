# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as Markdown, for a wiki: the record of what runs where and how it got there. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.dmwm.wmagent.plugins.module_utils._history import model
from ansible_collections.dmwm.wmagent.plugins.module_utils._report import tables, words
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.tables import Table

LEDGER_LINES = 10
# What Markdown or HTML takes for more than text. Entities where a backslash does not do in every dialect.
_ENTITIES = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "|": "&#124;",
    "`": "&#96;",
    "\\": "&#92;",
    "$": "&#36;",
    "@": "&#64;",
}
_SPECIAL = re.compile(r"[&<>|`\\$@*_\[\]~#!]|(?<=[a-z])(?=://)|^(?=[-+=]|\d+[.)](?:\s|$))", re.IGNORECASE)

_BLANKS = re.compile(r"[^\S\u202f]+")  # but not the one inside a figure


def to_markdown(report: model.Report) -> str:
    """The whole document; ends with a line feed. Raises KeyError where the report is none."""
    return "\n".join(_lines(report)) + "\n"


def text(value: object) -> str:
    """``value`` in one line in which nothing is markup, neither Markdown's nor HTML's, nor a link."""
    line = _BLANKS.sub(" ", str(value)).strip()
    return _SPECIAL.sub(lambda found: _escaped(found.group()), line)


def _escaped(sign: str) -> str:
    if not sign:
        return "&#8203;"
    return _ENTITIES.get(sign, f"\\{sign}")


def _lines(report: model.Report) -> Iterator[str]:
    fleet = report["fleet"]
    yield "# WMAgents"
    yield ""
    yield f"As of {words.when(report['generated_at'])}. Full means {report['threshold']:.0%} of a disk."
    yield ""
    yield f"**{'Uniform' if fleet['uniform'] else 'Not uniform'}**, {fleet['agents']} agents."
    yield ""
    yield _redeploy(report["redeploy_first"])
    for table in (tables.releases(fleet), tables.differences(fleet), tables.agents(report), tables.rollouts(report)):
        yield from _table(table, 2)
    for agent in report["agents"]:
        yield from _agent(agent)


def _redeploy(first: model.RedeployFirst | None) -> str:
    if first is None:
        return "Redeploy first: no agent's day is known."
    return f"Redeploy first: **{text(first['agent'])}**, {text(first['name'])} full on {text(words.day_range(first))}."


def _agent(agent: model.Agent) -> Iterator[str]:
    yield ""
    yield f"## {text(agent['name'])}"
    yield ""
    if not agent["reached"]:
        yield f"**Not reached. What follows is the last known, from {words.when(agent['seen_at'])}.**"
        yield ""
    for name, value in (
        ("Verdict", agent["verdict"] or "none"),
        *(("Reason", reason) for reason in agent["reasons"]),
        ("Release", agent["release"] or words.NOTHING),
        ("Digest", agent["digest"] or words.NOTHING),
        ("Drift", words.drift(agent["drift"])),
        *(("Gap", gap) for gap in agent["gaps"]),
    ):
        yield f"- {name}: {text(value)}"
    yield from _table(tables.disks(agent), 3)
    yield from _table(tables.forecasts(agent), 3)
    if drain := agent["drain"]:
        yield ""
        bottleneck = text(drain["bottleneck"] or words.NOTHING)
        yield f"Drain: {text(drain['verdict'])}, bottleneck {bottleneck}, empty {text(words.eta(drain['eta']))}."
        yield from _table(tables.stages(drain), 3)
        yield from _table(tables.blockers(drain), 3)
    yield from _table(tables.ledger(agent, LEDGER_LINES), 3)


def _table(table: Table, level: int) -> Iterator[str]:
    """Nothing where it has no rows."""
    if not table.rows:
        return
    yield from ["", f"{'#' * level} {table.caption}", ""]
    yield f"| {' | '.join(table.columns)} |"
    yield "|" + "".join(" ---: |" if column in table.numbers else " --- |" for column in range(len(table.columns)))
    for row in table.rows:
        yield f"| {' | '.join(text(cell) for cell in row)} |"
