# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML page that needs nothing else: no network, no script, charts inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._history import model
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.series import thinned
from ansible_collections.dmwm.wmagent.plugins.module_utils._report import tables, words
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.charts import (
    LINES,
    Chart,
    Charts,
    Curve,
    Reaching,
    legend,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.tables import Table

LEDGER_LINES = 20
_TABLE_ROWS = 32
"""Rows of the table below a chart: about one a week in half a year."""

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Figure:
    """A chart with what stands below it: what is what, as (CSS name of the colour, sign, words), and its figures."""

    title: str
    svg: str
    legend: Sequence[tuple[str, str, str]]
    table: Table


def to_page(report: model.Report) -> str:
    """The page. Raises WMAgentError where matplotlib is missing."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"words": words, "tables": tables, "LEDGER_LINES": LEDGER_LINES}
    draw = Charts().draw
    figures = [
        list(_figures(f"a{number}", agent, report["threshold"], draw))
        for number, agent in enumerate(report["agents"], 1)
    ]
    keys = {agent["name"]: f"a{number}" for number, agent in enumerate(report["agents"], 1)}
    css = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(report=report, figures=figures, keys=keys, css=css)


def _figures(key: str, agent: model.Agent, threshold: float, draw: Callable[[Chart], str]) -> Iterator[Figure]:
    for number, chart in enumerate(charts_of(agent, threshold), 1):
        named = replace(chart, key=f"{key}c{number}")
        columns = ["Time", *(curve.name for curve in named.curves)]
        table = Table(named.title, columns, list(_rows(named.curves)), range(1, len(columns)))
        yield Figure(named.title, draw(named), legend(named), table)


def charts_of(agent: model.Agent, threshold: float) -> Iterator[Chart]:
    """A chart of each disk, one of all databases, one of the largest tables and views; without points, none."""
    sizes = [size for size in agent["sizes"] if size["points"]]
    totals = {disk["name"]: disk["total"] for disk in agent["disks"]}
    for size in sizes:
        if size["kind"] == "disk":
            yield _disk(agent, size, totals.get(size["name"]), threshold)
    databases = [size for size in sizes if size["kind"] in ("database", "couchdb")]
    parts = [size for size in sizes if size["kind"] not in ("disk", "database", "couchdb")]
    for title, group in (("Databases", databases), ("Tables and views", parts)):
        if group:
            yield _several(agent, title, group)


def _disk(agent: model.Agent, size: model.Size, total: float | None, threshold: float) -> Chart:
    limit = total * threshold if total else None
    found = next((one for one in agent["forecast"] if (one["kind"], one["name"]) == ("disk", size["name"])), None)
    reaching = None
    if found and found["day"] and found["soonest"]:
        reaching = Reaching(found["day"], found["soonest"], found["latest"])
    end = f" Threshold {words.size(limit)}." if limit else ""
    if found:
        end += f" Expected full {words.day_range(found)}." if found["day"] else f" Forecast: {found['state']}."
    described = f"{agent['name']}: {_course(size)}{end}"
    return Chart(
        "", f"Disk {size['name']}", described, [_curve(size, size["name"])], agent["cleanups"], limit, reaching
    )


def _several(agent: model.Agent, title: str, group: Sequence[model.Size]) -> Chart:
    largest = sorted(group, key=lambda size: -size["points"][-1][1])[:LINES]
    shown = title if len(group) <= LINES else f"{title}: the {LINES} largest of {len(group)}"
    curves = [_curve(size, f"{size['kind']} {size['name']}") for size in largest]
    described = f"{agent['name']}: " + " ".join(_course(size) for size in largest)
    return Chart("", shown, described, curves, agent["cleanups"])


def _curve(size: model.Size, name: str) -> Curve:
    return Curve(name, sorted(size["points"]))


def _course(size: model.Size) -> str:
    points = sorted(size["points"])
    (began, first), (ended, last) = points[0], points[-1]
    return (
        f"{size['name']} from {words.size(first)} on {words.when(began)} to {words.size(last)} on {words.when(ended)}."
    )


def _rows(curves: Sequence[Curve]) -> Iterator[list[str]]:
    times = sorted({time for curve in curves for time, _ in curve.points})
    shown = [time for time, _ in thinned([(time, 0.0) for time in times], _TABLE_ROWS)]
    found: list[dict[float, float]] = [{time: value for time, value in curve.points} for curve in curves]
    for time in shown:
        yield [words.when(time), *(words.size(values.get(time)) for values in found)]
