# SPDX-License-Identifier: GPL-3.0-or-later
"""The report out of the history and of what this run found out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._history import model
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.fleet import (
    compare_fleet,
    find_rollouts,
    ledger_line,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.forecast import (
    DAY,
    NOT_ENOUGH,
    Forecast,
    first_to_redeploy,
    forecast,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.series import in_order, thinned
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.store import Event, SeriesKey
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.told import DIALECTS, Told

Series = Mapping[SeriesKey, Sequence[Sequence[float]]]

FORECAST_KINDS = ("disk", "database", "couchdb")
_CURVE_POINTS = 120
_LARGEST = 10
"""So many tables and views of an agent get a curve, the largest ones: a page has to stay readable."""

_STALE = 7 * DAY
_NO_DRIFT: model.Drift = {"count": None, "kinds": {}, "examples": []}


@dataclass(frozen=True)
class Known:
    """All of one agent. series, events: of the history, by time; reached, gaps: of this run."""

    name: str
    series: Series
    events: Sequence[Event]
    reached: bool
    gaps: Sequence[str]


def known_of(agent: str, series: Series, events: Sequence[Event], told: Told, reached: bool) -> Known:
    """What the history holds and what was told in this run, as one: recorded already or not."""
    merged: dict[SeriesKey, dict[float, float]] = {key: dict(points) for key, points in _pairs(series)}
    for one in told.measures:
        merged.setdefault((one.kind, one.name, one.quantity), {})[int(one.time)] = one.value
    together = {(event.kind, int(event.time), event.text()): event for event in (*events, *told.events)}
    return Known(
        agent,
        {key: [list(point) for point in sorted(points.items())] for key, points in merged.items()},
        sorted(together.values(), key=lambda event: event.time),
        reached,
        told.gaps,
    )


def _pairs(series: Series) -> Iterator[tuple[SeriesKey, list[tuple[float, float]]]]:
    for key, points in series.items():
        yield key, [(time, value) for time, value in points]


def build_report(agents: Sequence[Known], threshold: float, now: float) -> model.Report:
    """Everything that pages are written from.

    threshold: share of a disk at which it counts as full
    now:       UNIX seconds
    """
    forecasts = {known.name: _forecasts(known, threshold, now) for known in agents}
    told = [_agent(known, forecasts[known.name], now) for known in agents]
    named = [(agent, name, one) for agent, found in forecasts.items() for (_, name), one in found.items()]
    first = first_to_redeploy(named)
    return {
        "version": model.VERSION,
        "generated_at": iso(now),
        "threshold": threshold,
        "fleet": compare_fleet(told),
        "redeploy_first": None if first is None else _redeploy(*first),
        "agents": told,
        "rollouts": find_rollouts({agent["name"]: agent["ledger"] for agent in told}),
    }


def iso(time: float) -> str:
    """UTC, seconds."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day_of(time: float) -> str:
    """The day in UTC."""
    return datetime.fromtimestamp(time, UTC).date().isoformat()


def _redeploy(agent: str, name: str, one: Forecast) -> model.RedeployFirst:
    assert one.at is not None and one.soonest is not None
    latest = None if one.latest is None else day_of(one.latest)
    return {"agent": agent, "name": name, "day": day_of(one.at), "soonest": day_of(one.soonest), "latest": latest}


def _agent(known: Known, found: Mapping[tuple[str, str], Forecast], now: float) -> model.Agent:
    release = _latest(known.events, "release")
    verdict = _latest(known.events, "verdict")
    seen = [event.time for event in known.events if event.kind != "ledger"]
    seen += [points[-1][0] for points in known.series.values()]
    ledger = [event for event in known.events if event.kind == "ledger"]
    return {
        "name": known.name,
        "reached": known.reached,
        "seen_at": iso(max(seen)) if seen else None,
        "gaps": list(known.gaps),
        "release": release.get("name"),
        "digest": release.get("digest"),
        "drift": release.get("drift", _NO_DRIFT),
        "verdict": verdict.get("verdict"),
        "reasons": list(verdict.get("reasons", [])),
        "disks": [{"name": name, "used": used, "total": total} for name, used, total in _disks(known.series)],
        "sizes": _sizes(known.series, now),
        "cleanups": sorted({event.time for event in ledger if event.details.get("action") == "cleanup"}),
        "forecast": [_forecast_as_dict(kind, name, one) for (kind, name), one in found.items()],
        "drain": _drain(_latest(known.events, "drain")),
        "ledger": [ledger_line(event.details) for event in ledger],
    }


def _latest(events: Iterable[Event], kind: str) -> Mapping[str, Any]:
    """Details of the newest event of a kind, {} where there is none."""
    details: Mapping[str, Any] = {}
    for event in events:
        if event.kind == kind:
            details = event.details
    return details


def _disks(series: Series) -> list[tuple[str, float, float]]:
    """Name, used and total bytes of the disks that were there at the last reading."""
    found = []
    for name in _present(series, "disk"):
        total = series.get(("disk", name, "total"))
        if total and total[-1][1] > 0:
            found.append((name, series["disk", name, "bytes"][-1][1], total[-1][1]))
    return found


def _present(series: Series, kind: str) -> list[str]:
    """Names of what the last reading of a kind told of: a database that was dropped is not among them."""
    last = {name: points[-1][0] for (of, name, quantity), points in series.items() if (of, quantity) == (kind, "bytes")}
    return sorted(name for name, time in last.items() if time == max(last.values()))


def _forecasts(known: Known, threshold: float, now: float) -> dict[tuple[str, str], Forecast]:
    """By kind and name. A database reaches its limit where it alone, all else as it is, fills its disk."""
    found = {}
    limits = {name: (used, threshold * total) for name, used, total in _disks(known.series)}
    for name, (_, limit) in limits.items():
        found["disk", name] = _forecast(known.series["disk", name, "bytes"], limit, now)
    holds = _latest(known.events, "disks").get("holds") or {}
    disk = next((name for name in holds.values() if name in limits), "")
    on_oracle = DIALECTS["oracle"] in _present(known.series, "database")
    for kind in FORECAST_KINDS[1:]:
        for name in _present(known.series, kind):
            if kind == "database" and on_oracle:
                continue  # its disks are none of this host's
            points = known.series[kind, name, "bytes"]
            if not disk:
                found[kind, name] = Forecast(NOT_ENOUGH, "nobody knows on which disk it lies")
                continue
            used, limit = limits[disk]
            found[kind, name] = _forecast(points, points[-1][1] + limit - used, now)
    return found


def _forecast(points: Sequence[Sequence[float]], limit: float, now: float) -> Forecast:
    one = forecast(points, limit, now)
    age = now - points[-1][0]
    return replace(one, why=f"{one.why}; last measured {age / DAY:.0f} days ago") if age > _STALE else one


def _forecast_as_dict(kind: str, name: str, one: Forecast) -> model.Forecast:
    days = [None if time is None else day_of(time) for time in (one.at, one.soonest, one.latest)]
    return {
        "kind": kind,
        "name": name,
        "state": one.state,
        "day": days[0],
        "soonest": days[1],
        "latest": days[2],
        "why": one.why,
    }


def _sizes(series: Series, now: float) -> list[model.Size]:
    """Curves: of all disks and databases, and of the largest tables and views."""
    curves: list[model.Size] = []
    for kind in ("disk", "database", "couchdb", "table", "view"):
        sizes = {name: points for (of, name, quantity), points in series.items() if (of, quantity) == (kind, "bytes")}
        names = sorted(sizes, key=lambda name: (-sizes[name][-1][1], name))
        for name in names[: _LARGEST if kind in ("table", "view") else None]:
            points = thinned(in_order(sizes[name], until=now), _CURVE_POINTS)
            curves.append({"kind": kind, "name": name, "points": [[time, size] for time, size in points]})
    return curves


def _drain(details: Mapping[str, Any]) -> model.Drain | None:
    """The last reading; None where the agent's flags say that it is not drained."""
    flags = details.get("flags")
    if not details or (flags and not (flags.get("UserDrainMode") or flags.get("AgentDrainMode"))):
        return None
    return {
        "verdict": details["verdict"],
        "bottleneck": details["bottleneck"],
        "eta": details["eta"],
        "stages": [
            {"name": stage["name"], "count": stage["count"], "rate_per_hour": stage["rate_per_hour"]}
            for stage in details["stages"]
        ],
        "blockers": [
            {"name": one["signal"], "class": one["class"], "count": one["count"]} for one in details["blockers"]
        ],
    }


def summary_of(report: model.Report) -> str:
    """The report in one line."""
    agents, fleet, first = report["agents"], report["fleet"], report["redeploy_first"]
    reached = sum(agent["reached"] for agent in agents)
    parts = [
        f"{reached} of {len(agents)} agents reached",
        "uniform"
        if fleet["uniform"]
        else f"{len(fleet['releases'])} releases, {len(fleet['differences'])} differences",
    ]
    if first:
        parts.append(f"to be redeployed first: {first['agent']}, where {first['name']} is full on {first['day']}")
    return "; ".join(parts)
