# SPDX-License-Identifier: GPL-3.0-or-later
"""Made-up reports: a fleet with all that a page has to tell, as large as one is."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._history import model

NOW = datetime(2026, 11, 25, 6, 30, tzinfo=UTC)
GB = 1e9
OLD, NEW = "2.4.4-0123456789ab", "2.4.5.9-p1-aec2ba3bff37"
DIGEST = "sha256:" + "ab12" * 16


def iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def some_report(agents: int = 4, weeks: int = 26) -> model.Report:
    """Always the same: one agent drains, one is not reached, one runs another release and is unhealthy."""
    chance = random.Random(f"{agents} {weeks}")
    names = [f"vocms{200 + number:04d}" for number in range(1, agents + 1)]
    made = [_agent(chance, name, number, weeks) for number, name in enumerate(names)]
    differing = names[2] if agents > 2 else None
    releases = {NEW: [name for name in names if name != differing]} | ({OLD: [differing]} if differing else {})
    differences: list[model.Difference] = []
    if differing:
        differences.append({"agent": differing, "what": "release", "details": f"runs {OLD}, most run {NEW}"})
        differences.append({"agent": differing, "what": "drift", "details": "2 files differ from the image"})
    if agents > 3:
        differences.append({"agent": names[3], "what": "unknown", "details": "not reached: ssh timed out after 10 s"})
    return {
        "version": model.VERSION,
        "generated_at": iso(NOW),
        "threshold": 0.85,
        "fleet": {"agents": agents, "uniform": not differences, "releases": releases, "differences": differences},
        "redeploy_first": {
            "agent": names[0],
            "name": "/data",
            "day": "2026-12-20",
            "soonest": "2026-12-11",
            "latest": "2027-01-04",
        },
        "agents": made,
        "rollouts": [_rollout(number, names) for number in range(3)],
    }


def _agent(chance: random.Random, name: str, number: int, weeks: int) -> model.Agent:
    cleanups = [(NOW - timedelta(days=7 * week + 2)).timestamp() for week in range(weeks)]
    reached, differs = number != 3, number == 2
    data = _curve(chance, 260 * GB, 240 * GB, weeks, cleanups)
    return {
        "name": name,
        "reached": reached,
        "seen_at": iso(NOW if reached else NOW - timedelta(days=3, hours=4)),
        "gaps": [] if reached else ["not reached: ssh timed out after 10 s"],
        "release": OLD if differs else NEW,
        "digest": DIGEST,
        "drift": {
            "count": 2 if differs else 0,
            "kinds": {"changed": 2} if differs else {},
            "examples": ["lib/python3.11/site-packages/WMCore/Database/CMSCouch.py"] if differs else [],
        },
        "verdict": "unhealthy" if differs else "healthy",
        "reasons": ["JobSubmitter: no heartbeat for 42 min", "ErrorHandler: restarted 5 times in 1 h"]
        if differs
        else [],
        "disks": [
            {"name": "/data", "used": data[-1][1], "total": 700 * GB},
            {"name": "/", "used": 12.3 * GB, "total": 40 * GB},
        ],
        "sizes": [
            {"kind": "disk", "name": "/data", "points": data},
            {"kind": "disk", "name": "/", "points": _curve(chance, 12 * GB, 0.4 * GB, weeks, [])},
            {"kind": "database", "name": "wmagent", "points": _curve(chance, 90 * GB, 60 * GB, weeks, cleanups)},
            *(
                _size(chance, "couchdb", couch, weeks, cleanups, start)
                for couch, start in (
                    ("wmagent_jobdump/fwjrs", 40),
                    ("wmagent_jobdump/jobs", 22),
                    ("wmagent_summary", 3),
                )
            ),
            *(
                _size(chance, kind, part, weeks, cleanups, 30 - 4 * at)
                for at, (kind, part) in enumerate(
                    [(("table", "view")[at % 2], f"dbsbuffer_file_{at}") for at in range(7)]
                )
            ),
        ],
        "cleanups": cleanups,
        "forecast": [
            _reaches("disk", "/data", "2026-12-20", "2026-12-11", "2027-01-04"),
            _reaches("database", "wmagent", "2027-06-01", "2027-02-11", None),
            _no("disk", "/", "does not grow", ""),
            _no("couchdb", "wmagent_jobdump/fwjrs", "not enough data", "5 measures since the last step; 8 are needed"),
        ],
        "drain": _drain() if number == 1 else None,
        "ledger": [_ledger_line(week, name) for week in range(2 * weeks)],
    }


def _curve(chance: random.Random, start: float, growth: float, weeks: int, cleanups: list[float]) -> list[list[float]]:
    count = 120
    points: list[list[float]] = []
    level, step = start, timedelta(weeks=weeks) / count
    for number in range(count):
        time = (NOW - step * (count - 1 - number)).timestamp()
        level += growth * 1.4 / count
        if any(time - step.total_seconds() < cleanup <= time for cleanup in cleanups):
            level -= growth * 0.4 / max(weeks, 1)
        points.append([time // 1, (level + chance.gauss(0, start * 0.005)) // 1])
    return points


def _size(chance: random.Random, kind: str, name: str, weeks: int, cleanups: list[float], start: float) -> model.Size:
    return {"kind": kind, "name": name, "points": _curve(chance, start * GB, start * GB * 0.4, weeks, cleanups)}


def _reaches(kind: str, name: str, day: str, soonest: str, latest: str | None) -> model.Forecast:
    found = {
        "kind": kind,
        "name": name,
        "state": "reaches",
        "day": day,
        "soonest": soonest,
        "latest": latest,
        "why": "",
    }
    return found  # type: ignore[return-value]


def _no(kind: str, name: str, state: str, why: str) -> model.Forecast:
    return {"kind": kind, "name": name, "state": state, "day": None, "soonest": None, "latest": None, "why": why}


def _drain() -> model.Drain:
    return {
        "verdict": "draining",
        "bottleneck": "upload to DBS",
        "eta": {"seconds": 18720.0, "soonest_seconds": 14400.0, "latest_seconds": 29160.0, "note": ""},
        "stages": [
            {"name": "running jobs", "count": 120, "rate_per_hour": 85.5},
            {"name": "upload to DBS", "count": 15320, "rate_per_hour": 2946.0},
            {"name": "registration in Rucio", "count": 41, "rate_per_hour": -3.0},
            {"name": "stuck", "count": None, "rate_per_hour": None},
        ],
        "blockers": [
            {"name": "files without a block", "class": "upload to DBS", "count": 15320},
            {"name": "workflow without an owner", "class": "stuck: needs a person", "count": 1},
        ],
    }


def _ledger_line(week: int, name: str) -> model.LedgerLine:
    upgrade = week == 6
    details: dict[str, Any] = {"deleted": 184_223, "bytes": 2.1e9, "stopped": False}
    return {
        "time": iso(NOW - timedelta(days=3.5 * week + 1)),
        "action": "upgrade" if upgrade else "cleanup",
        "from": OLD if upgrade else None,
        "to": NEW if upgrade else None,
        "verdict": "healthy" if upgrade else None,
        "owner": "operator@controller",
        "details": {"rollout": "20261103T0900-1", "downtime": 11.2} if upgrade else details,
    }


def _rollout(number: int, names: list[str]) -> model.Rollout:
    return {
        "id": f"2026110{number}T0900-{number}",
        "began": iso(NOW - timedelta(days=20 + 30 * number)),
        "label": "campaign" if number == 0 else "",
        "agents": [
            {"agent": name, "from": OLD, "to": NEW, "verdict": "healthy", "downtime": 9.5 + at}
            for at, name in enumerate(names)
        ],
    }
