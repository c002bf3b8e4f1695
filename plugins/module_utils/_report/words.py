# SPDX-License-Identifier: GPL-3.0-or-later
"""How the report says sizes, times, days and verdicts, on the page and in Markdown alike. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._history import model

NOTHING = "–"
"""What nobody knows. Never a zero."""


def size(count: float | None) -> str:
    """Bytes as ``93.1 GB``, by the thousand, as ``df -H`` and disks' labels do."""
    if count is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def when(time: str | float | None) -> str:
    """``2026-11-23 06:33 UTC`` of an ISO 8601 time or of UNIX seconds. What is neither is given back as it is."""
    if time is None or time == "":
        return NOTHING
    try:
        moment = datetime.fromisoformat(time) if isinstance(time, str) else datetime.fromtimestamp(time, UTC)
    except (ValueError, OverflowError, OSError):
        return str(time)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def span(seconds: float | None) -> str:
    """``45 s``, ``12 min``, ``5.2 h``, ``3.1 d``."""
    if seconds is None:
        return NOTHING
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if abs(seconds) < limit:
            return f"{seconds / divisor:.{0 if divisor < 3600 else 1}f} {unit}"
    return f"{seconds / 86400:.1f} d"


def count(number: float | None) -> str:
    """``12 345``, with thin spaces no terminal breaks at."""
    return NOTHING if number is None else f"{number:,.0f}".replace(",", "\u202f")


def rate(per_hour: float | None) -> str:
    """What goes in an hour; what grows has its sign turned and says so."""
    if per_hour is None:
        return NOTHING
    return f"{per_hour:.1f}/h" if per_hour >= 0 else f"grows {-per_hour:.1f}/h"


def share(used: float, total: float) -> str:
    """``63 %``."""
    return f"{100 * used / total:.0f} %" if total > 0 else NOTHING


def day_range(one: Mapping[str, Any]) -> str:
    """``2027-01-31 (2027-01-20 to 2027-02-14)`` of a forecast."""
    latest = one["latest"] or "maybe never"
    return f"{one['day']} ({one['soonest']} to {latest})"


def drift(found: model.Drift) -> str:
    """One line; "not looked at" is not "none"."""
    if found["count"] is None:
        return "not looked at"
    if found["count"] == 0:
        return "none"
    kinds = ", ".join(f"{number} {kind}" for kind, number in found["kinds"].items())
    return f"{found['count']} file{'s' if found['count'] != 1 else ''}" + (f" ({kinds})" if kinds else "")


def eta(found: model.Eta) -> str:
    """``in 5.2 h (4.0 h to 8.1 h)``, or why nobody can tell."""
    if found["seconds"] is None:
        return found["note"] or "not known"
    latest = "open" if found["latest_seconds"] is None else span(found["latest_seconds"])
    return f"in {span(found['seconds'])} ({span(found['soonest_seconds'])} to {latest})"


def details(found: Mapping[str, Any]) -> str:
    """What a ledger entry noted, as ``name: value`` in one line."""
    return "; ".join(f"{name}: {_plain(value)}" for name, value in found.items())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def soonest_full(agent: model.Agent) -> model.Forecast | None:
    """The forecast of the agent that is expected first."""
    reaching = [one for one in agent["forecast"] if one["state"] == "reaches" and one["day"]]
    return min(reaching, key=lambda one: one["day"] or "", default=None)


def fullest_disk(agent: model.Agent) -> model.Disk | None:
    """The disk with the largest share in use."""
    known = [disk for disk in agent["disks"] if disk["total"] > 0]
    return max(known, key=lambda disk: disk["used"] / disk["total"], default=None)


def fullest(agent: model.Agent) -> str:
    """``/data 63 %``."""
    disk = fullest_disk(agent)
    return f"{disk['name']} {share(disk['used'], disk['total'])}" if disk else NOTHING


def first_full(agent: model.Agent) -> str:
    """``2027-01-31 /data``; a day nobody can tell is not "never"."""
    if one := soonest_full(agent):
        return f"{one['day']} {one['name']}"
    states = {one["state"] for one in agent["forecast"]}
    if not states or "not enough data" in states:
        return "not enough data"
    return "does not grow"


SIGNS = {"good": "✓", "bad": "✗", "open": "?"}
"""So that colour is never all that tells them apart."""


def standing(agent: model.Agent) -> tuple[str, str]:
    """(class, words) of an agent in one glance; the class is one of :data:`SIGNS`. Not reached is never good."""
    if not agent["reached"]:
        return "open", f"not reached, last known {when(agent['seen_at'])}"
    verdict = agent["verdict"]
    return {"healthy": "good", "unhealthy": "bad"}.get(verdict or "", "open"), verdict or "no verdict"


def draining(agent: model.Agent) -> str:
    """``draining, in 5.2 h (4.0 h to 8.1 h)``."""
    drain = agent["drain"]
    if drain is None:
        return NOTHING
    return drain["verdict"] if drain["verdict"] == "drained" else f"{drain['verdict']}, {eta(drain['eta'])}"


def names(values: Sequence[str]) -> str:
    """``a, b``."""
    return ", ".join(values) or NOTHING
