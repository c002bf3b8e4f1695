# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cleanup may do; delete or rebuild: which is the cheaper one, by what this server is seen to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import BLOCK, FILE, WORKFLOW

DELETE = "delete"
REBUILD = "rebuild"
AUTO = "auto"
RECOVER = "recover"
"""Nothing but to put in order what an interrupted rebuild left."""

_SAMPLE = 50_000
_PASSES = 4
"""A rebuild reads or writes each row that stays about so often: copy, keys, and both sides of the comparison."""
_FIXED = 2.0
"""Seconds of a rebuild that do not depend on rows: locks, definitions, the swap, dropping the old tables."""


@dataclass(frozen=True)
class Choice:
    """A method and why. seconds: what each was expected to take; empty where only one is allowed."""

    method: str
    reason: str
    seconds: dict[str, float]


def choose(plan: Plan, rows: Mapping[str, int], deleted_per_second: float, copied_per_second: float) -> Choice:
    """The cheaper method. Pure.

    rows: rows of each table now
    deleted_per_second: files with all their rows; copied_per_second: rows of any table
    """
    stay = 1 - plan.files / max(1, rows[FILE])
    staying = stay * sum(count for table, count in rows.items() if table not in (BLOCK, WORKFLOW))
    seconds = {
        DELETE: round(plan.files / max(1.0, deleted_per_second), 1),
        REBUILD: round(_FIXED + _PASSES * staying / max(1.0, copied_per_second), 1),
    }
    method = REBUILD if seconds[REBUILD] < seconds[DELETE] else DELETE
    return Choice(
        method,
        f"to delete {plan.files} files takes about {seconds[DELETE]:g} s, to copy what stays {seconds[REBUILD]:g} s",
        seconds,
    )


def copied_per_second(connection: Connection, clock: Callable[[], float] = time.monotonic) -> float:
    """Rows per second that MariaDB copies here, by a sample into a temporary table. Raises WMAgentError."""
    started = clock()
    # A table without a row is quick in either way.
    rows = connection.execute(
        "CREATE TEMPORARY TABLE dbsbuffer_sample ENGINE=InnoDB "
        f"SELECT r.filename, r.run, r.lumi, r.num_events FROM dbsbuffer_file_runlumi_map r LIMIT {_SAMPLE}"
    )
    seconds = clock() - started
    connection.execute("DROP TEMPORARY TABLE dbsbuffer_sample")
    return max(rows, 1) / max(seconds, 0.001)
