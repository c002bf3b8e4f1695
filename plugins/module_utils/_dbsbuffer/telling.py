# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan and sizes as plain data for results. Pure, but for counting what a plan's rows come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import going_placeholder
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.space_plan import Size
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import (
    BLOCK,
    CHILDREN,
    FILE,
    WORKFLOW,
    in_list,
)

_SHOWN = 500
"""Workflows that stay which are named in a result; all are counted."""


def plan_as_dict(plan: Plan) -> dict[str, Any]:
    """What a plan comes to."""
    reasons: Counter[str] = Counter()
    for why in plan.held.values():
        reasons.update(why.keys())
    shown = sorted(plan.held.items())[:_SHOWN]
    return {
        "eligible": {
            "workflows": len(set(plan.workflows.values())),
            "files": plan.files,
            "blocks": len(plan.blocks),
            "placeholders": plan.placeholders,
            "oldest": plan.oldest,
        },
        "held_back": {
            "workflows": len(plan.held),
            "files": plan.held_files,
            "reasons": dict(reasons.most_common()),
            "blocks": plan.held_blocks,
            "by_workflow": {name: dict(why) for name, why in shown},
        },
    }


def rows_that_go(connection: Connection, plan: Plan) -> dict[str, int]:
    """Rows of each table that go with a plan's workflows and placeholders. Raises WMAgentError."""
    rows = {}
    for table, (column, *others) in CHILDREN:
        going = f"c.{column} IN (SELECT f.id FROM {FILE} f WHERE {in_list('f.workflow', plan.workflows)})"
        if others:  # links: with either end, and a placeholder that goes has none but to such files
            going += "".join(
                f" OR c.{other} IN (SELECT f.id FROM {FILE} f WHERE {in_list('f.workflow', plan.workflows)})"
                for other in others
            )
        elif plan.placeholders:
            going += f" OR c.{column} IN (SELECT n.id FROM {FILE} n WHERE {going_placeholder(plan)})"
        rows[table] = int(connection.query(f"SELECT COUNT(*) FROM {table} c WHERE {going}")[0][0])
    return rows | {FILE: plan.files + plan.placeholders, BLOCK: len(plan.blocks), WORKFLOW: len(plan.workflows)}


def sizes_as_dict(sizes: Mapping[str, Size]) -> dict[str, dict[str, Any]]:
    """Rows and bytes of each table; ``bytes`` is null where the server does not tell."""
    return {
        table: {
            "rows": size.rows,
            "bytes": size.total,
            "free_bytes": size.free,
            **({"unknown": size.unknown} if size.unknown else {}),
        }
        for table, size in sizes.items()
    }


def bytes_of(sizes: Mapping[str, Size]) -> int | None:
    """Bytes of all tables; None where one of them is unknown."""
    totals = [size.total for size in sizes.values()]
    return None if None in totals else sum(total or 0 for total in totals)


def reclaimable(sizes: Mapping[str, Size], plan: Plan) -> int | None:
    """Bytes that the plan's rows and what is unused already come to, by the share of files that go."""
    files = sizes[FILE].rows
    share = plan.files / files if files else 0.0
    total = 0.0
    for size in sizes.values():
        if size.total is None or size.free is None:
            return None
        total += size.free + share * (size.total - size.free)
    return int(total)


def growth(before: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], now: float) -> dict[str, Any]:
    """Rows and bytes per day since an earlier reading: ``{"days": …, "tables": {table: {"rows": …, "bytes": …}}}``.

    before: the ``time`` and ``tables`` of that reading. now: UNIX time, seconds.
    """
    days = (now - float(before["time"])) / 86400
    if days <= 0:
        return {"days": 0.0, "tables": {}}
    earlier = before["tables"]
    rates = {
        table: {
            key: None
            if one.get(key) is None or earlier[table].get(key) is None
            else round((one[key] - earlier[table][key]) / days, 1)
            for key in ("rows", "bytes")
        }
        for table, one in tables.items()
        if table in earlier
    }
    return {"days": round(days, 4), "tables": rates}


def summary(planned: Mapping[str, Any], result: Mapping[str, Any], check: bool) -> str:
    """One line on what came of a cleanup.

    planned: as :func:`plan_as_dict` makes it; result: the module's other results.
    """
    held = planned["held_back"]
    stays = f"{held['workflows']} workflows stay"
    if held["reasons"]:
        stays += f" ({next(iter(held['reasons']))} most often)"
    eligible = planned["eligible"]
    going = f"{eligible['files']} files of {eligible['workflows']} workflows"
    if check:
        return f"would delete {going}; {stays}"
    if result["method"] == "none":
        recovered = result["left_by_a_rebuild"]
        return "; ".join(recovered) if recovered else f"nothing to delete; {stays}"
    done = f"deleted {result['deleted'].get(FILE, 0)} of {going}, {sum(result['deleted'].values())} rows in all"
    done += f", by {result['method']}, {result['rate']:g} files/s"
    if result["bytes_before"] is not None and result["bytes_after"] is not None:
        done += f", {_megabytes(result['bytes_before'])} -> {_megabytes(result['bytes_after'])}"
    if result["stopped_by"]:
        done += f"; ended by {result['stopped_by']}, run again for the rest"
    return f"{done}; {stays}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
