# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent's modules told, as measures and events. Pure.

An answer that failed, did not come or is empty is a gap with its reason, never a zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._history.store import Event, Measure

DBSBUFFER = "DBSBuffer"
"""Name of the database that DBSBuffer's tables make up together."""

DIALECTS = {"mariadb": "MariaDB", "oracle": "Oracle"}
"""Names of an agent's database as a whole, by dialect."""

_DRIFT_EXAMPLES = 10
_GAP_LENGTH = 400


@dataclass(frozen=True)
class Told:
    """gaps: one line for each source that told nothing of use."""

    measures: list[Measure] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)


class _EmptyError(Exception):
    """An answer without what it should hold."""


def read_results(agent: str, results: Mapping[str, Any], now: float) -> Told:
    """Measures and events out of the registered results of the modules that SOURCES names.

    now: UNIX seconds by the controller's clock, so that an agent whose clock is wrong has the same time as all others

    A source that was skipped is no gap.
    """
    told = Told()
    for source, reader in SOURCES.items():
        result = results.get(source)
        if result is None or result.get("skipped"):
            continue
        reason = refusal(result)
        if not reason:
            try:
                found = list(reader(agent, result, now))
            except _EmptyError as empty:
                reason = str(empty)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                reason = f"its answer is not as expected ({type(error).__name__}: {error})"
        if reason:
            told.gaps.append(f"{source}: {reason}")
            continue
        told.measures.extend(one for one in found if isinstance(one, Measure))
        told.events.extend(one for one in found if isinstance(one, Event))
    return told


def refusal(result: Mapping[str, Any]) -> str:
    """Why a result is none, in one line; '' where it is one."""
    if not (result.get("failed") or result.get("unreachable")):
        return ""
    message = " ".join(str(result.get("msg") or "failed without a reason").split())
    return f"unreachable: {message}"[:_GAP_LENGTH] if result.get("unreachable") else message[:_GAP_LENGTH]


def _disks(agent: str, result: Mapping[str, Any], time: float) -> Iterator[Measure | Event]:
    for disk in _some(result["disks"], "disk"):
        yield Measure(time, agent, "disk", disk["name"], "bytes", float(disk["used"]))
        yield Measure(time, agent, "disk", disk["name"], "total", float(disk["total"]))
    yield Event(time, agent, "disks", {"holds": result["holds"]})


def _dbsbuffer(agent: str, result: Mapping[str, Any], time: float) -> Iterator[Measure]:
    tables = _some(result["tables"], "table")
    for name, table in tables.items():
        yield Measure(time, agent, "table", name, "rows", float(table["rows"]))
        if table["bytes"] is not None:
            yield Measure(time, agent, "table", name, "bytes", float(table["bytes"]))
    sizes = [table["bytes"] for table in tables.values()]
    if None not in sizes:
        yield Measure(time, agent, "database", DBSBUFFER, "bytes", float(sum(sizes)))
    if result["reclaimable_bytes"] is not None:
        yield Measure(time, agent, "database", DBSBUFFER, "reclaimable", float(result["reclaimable_bytes"]))


def _database(agent: str, result: Mapping[str, Any], time: float) -> Iterator[Measure | Event]:
    for name, table in _some(result["tables"], "table").items():
        # These are counted, not estimated, by dbsbuffer_info.
        if not name.startswith("dbsbuffer_"):
            for quantity in ("bytes", "rows"):
                if table[quantity] is not None:
                    yield Measure(time, agent, "table", name, quantity, float(table[quantity]))
    if result["bytes"] is not None:
        yield Measure(time, agent, "database", DIALECTS[result["dialect"]], "bytes", float(result["bytes"]))


def _couchdb(agent: str, result: Mapping[str, Any], time: float) -> Iterator[Measure]:
    for name, database in _some(result["databases"], "database").items():
        quantities = {"bytes": "file", "documents": "documents", "tombstones": "tombstones", "updates": "update_seq"}
        for quantity, key in quantities.items():
            yield Measure(time, agent, "couchdb", name, quantity, float(database[key]))
        for view, sizes in database["views"].items():
            yield Measure(time, agent, "view", f"{name}/{view}", "bytes", float(sizes["file"]))


def _release(agent: str, result: Mapping[str, Any], time: float) -> Iterator[Event]:
    current = result["current"]
    if current is None:
        raise _EmptyError(result["problem"] or "no current release")
    drift = result["drift"]
    yield Event(
        time,
        agent,
        "release",
        {
            **{key: current[key] for key in ("name", "image", "digest", "adopted")},
            "drift": {
                "count": len(drift),
                "kinds": dict(Counter(one["kind"] for one in drift)),
                "examples": [f"{one['kind']}: {one['path']}" for one in drift[:_DRIFT_EXAMPLES]],
            },
        },
    )


def _components(agent: str, result: Mapping[str, Any], time: float) -> Iterator[Event]:
    yield Event(time, agent, "verdict", {"verdict": result["verdict"], "reasons": result["reasons"]})


def _drain(agent: str, result: Mapping[str, Any], time: float) -> Iterator[Measure | Event]:
    kept = ("time", "agent", "verdict", "reason", "blockers", "waived", "stages", "bottleneck", "eta", "flags")
    yield Event(time, agent, "drain", {key: result[key] for key in kept})
    for stage in result["stages"]:
        for quantity in ("count", "rate_per_hour"):
            if stage[quantity] is not None:
                yield Measure(time, agent, "stage", stage["name"], quantity, float(stage[quantity]))


def _ledger(agent: str, result: Mapping[str, Any], time: float) -> Iterator[Event]:
    for entry in result["entries"]:
        yield Event(_unix(entry["time"]), agent, "ledger", entry)


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _some(found: Any, what: str) -> Any:
    if not found:
        raise _EmptyError(f"told of no {what}")
    return found


Reader = Callable[[str, Mapping[str, Any], float], Iterator[Measure | Event]]

SOURCES: Mapping[str, Reader] = {
    "disks": _disks,
    "database": _database,
    "dbsbuffer": _dbsbuffer,
    "couchdb": _couchdb,
    "release": _release,
    "components": _components,
    "drain": _drain,
    "ledger": _ledger,
}
"""By source the reader of the result of its module, ``disks_info``, ``database_info`` and so on."""
