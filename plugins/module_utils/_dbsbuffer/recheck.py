# SPDX-License-Identifier: GPL-3.0-or-later
"""Look again, inside the transaction that deletes, whether files are still what the plan took them for.

What one step can see is looked at in every step: the files themselves, their workflows, blocks, datasets and links, and
files that came since the plan. A file of the same workflow or block that lies in another step's range and was changed
since the plan is found when that step comes, or by the next plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import FINISHED, Plan, Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import STATE
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import (
    PARENT,
    USED_IN_WMBS,
    Chosen,
    in_list,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_STRAY = "f.workflow IS NULL AND (f.status IS NULL OR f.status <> 'GLOBAL' OR f.block_id IS NOT NULL)"
_FINISHED = ", ".join(f"'{state}'" for state in FINISHED)
_UNSUBSCRIBED = "s.subscribed IS NULL OR s.subscribed <> 1"
_UNFINISHED = """w.completed IS NULL OR w.completed <> 1
        OR EXISTS (SELECT 1 FROM wmbs_workflow m WHERE m.name = w.name)"""


LOCK_WAIT = 5
"""Seconds to wait for a row that another session holds; the step is tried again with half the files then."""


class PlanOutdatedError(WMAgentError):
    """Something that the plan names has become needed since; a new plan is due."""


@dataclass(frozen=True)
class Window:
    """What stands in a range of file ids, the first excluded.

    workflows: rows of dbsbuffer_workflow that go and have files here
    mixed:     files that stay stand here too
    files:     how many go
    """

    after: int
    last: int
    workflows: tuple[int, ...]
    blocks: tuple[int, ...]
    algos: tuple[int, ...]
    files: int
    mixed: bool

    @property
    def going(self) -> str:
        """Condition for a row ``f`` of dbsbuffer_file that goes."""
        return f"f.id > {self.after} AND f.id <= {self.last} AND {in_list('f.workflow', self.workflows)}"

    @property
    def staying(self) -> str:
        """Condition for a row ``f`` of dbsbuffer_file in the range that stays."""
        return (
            f"f.id > {self.after} AND f.id <= {self.last} "
            f"AND (f.workflow IS NULL OR NOT {in_list('f.workflow', self.workflows)})"
        )


def look_at(connection: Connection, plan: Plan, rules: Rules, after: int, last: int) -> Window:
    """What stands in a range. Raises PlanOutdatedError where a file of a workflow that goes is not what it was."""
    rows = connection.query(f"""
        SELECT c.workflow, c.block_id, c.dataset_algo, COUNT(*),
               SUM(CASE WHEN c.state IN ({_FINISHED}) THEN 0 ELSE 1 END), MAX(c.lastmodificationdate)
        FROM (SELECT f.workflow, f.block_id, f.dataset_algo, f.lastmodificationdate, {STATE} state
              FROM dbsbuffer_file f WHERE f.id > {int(after)} AND f.id <= {int(last)}) c
        GROUP BY c.workflow, c.block_id, c.dataset_algo""")
    going = [row for row in rows if row[0] in plan.workflows]
    for workflow, _, _, _, changed, newest in going:
        if changed:
            raise PlanOutdatedError(f"a file of workflow {plan.workflows[workflow]} is no longer done")
        if rules.retention > 0 and newest is not None and newest > rules.cutoff:
            raise PlanOutdatedError(f"a file of workflow {plan.workflows[workflow]} was written again")
    return Window(
        after,
        last,
        tuple(sorted({int(row[0]) for row in going})),
        tuple(sorted({int(row[1]) for row in going if row[1] is not None})),
        tuple(sorted({int(row[2]) for row in going})),
        sum(int(row[3]) for row in going),
        len(going) < len(rows),
    )


def for_update(dialect: str) -> str:
    """The end of a statement that locks what it finds. MariaDB takes the longest wait from its session."""
    return " FOR UPDATE" if dialect == MARIADB else f" FOR UPDATE WAIT {LOCK_WAIT}"


def keep_others_out(connection: Connection) -> None:
    """Where a locked file does not keep a need for it from being written, hold the tables; until the transaction ends.

    MariaDB: a link waits for the file's lock, and who finds a file's LFN there (WMBSHelper) holds its index entry.
    """
    if connection.dialect != MARIADB:
        # In the order in which JobAccountant writes them. WMBSHelper writes to the first before it looks for files.
        for table in ("wmbs_file_details", PARENT):
            connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE WAIT {LOCK_WAIT}")


def lock_files(connection: Connection, window: Window) -> list[int]:
    """Lock the window's files that go and return their ids in order. Raises PlanOutdatedError, DatabaseBusyError."""
    rows = connection.query(
        f"SELECT f.id FROM dbsbuffer_file f WHERE {window.going} AND {STATE} IN ({_FINISHED}) "
        f"ORDER BY f.id{for_update(connection.dialect)}"
    )
    if len(rows) != window.files:
        raise PlanOutdatedError("files were changed while they were looked at")
    return [int(row[0]) for row in rows]


def files_that_stay(connection: Connection, window: Window) -> list[int]:
    """Ids in the window's range that stay."""
    if not window.mixed:
        return []
    return [int(row[0]) for row in connection.query(f"SELECT f.id FROM dbsbuffer_file f WHERE {window.staying}")]


def check_again(connection: Connection, plan: Plan, rules: Rules, window: Window, chosen: Chosen) -> None:
    """Look at everything that could have made the locked files needed. Raises PlanOutdatedError that says what did."""
    _check_workflows(connection, window.workflows)
    check_blocks(connection, rules, window.blocks)
    _none(
        connection,
        f"""FROM dbsbuffer_algo_dataset_assoc a
            INNER JOIN dbsbuffer_dataset_subscription s ON s.dataset_id = a.dataset_id
            WHERE {in_list("a.id", window.algos)} AND ({_UNSUBSCRIBED})""",
        "a dataset got a subscription",
    )
    _none(
        connection,
        f"""FROM dbsbuffer_file f INNER JOIN wmbs_file_details w ON w.lfn = f.lfn
            WHERE {chosen.among("f.id")} AND {USED_IN_WMBS}""",
        "a file is in WMBS again",
    )
    newer = in_list("f.workflow", window.workflows)
    if window.blocks:
        newer += f" OR {in_list('f.block_id', window.blocks)}"
    _none(
        connection,
        f"FROM dbsbuffer_file f WHERE f.id > {plan.seen} AND ({newer})",
        "a workflow or block got a new file",
    )
    _check_links(connection, plan, "child", "parent", chosen)
    _check_links(connection, plan, "parent", "child", chosen)


def _check_workflows(connection: Connection, workflows: Iterable[int]) -> None:
    _none(
        connection,
        f"""FROM dbsbuffer_workflow v INNER JOIN dbsbuffer_workflow w ON w.name = v.name
            WHERE {in_list("v.id", workflows)} AND ({_UNFINISHED})""",
        "a workflow is no longer finished",
    )


def check_blocks(connection: Connection, rules: Rules, blocks: Sequence[int]) -> None:
    """Raise PlanOutdatedError unless all these blocks are there and free to go by themselves."""
    if not blocks:
        return
    fit = connection.query(
        f"SELECT COUNT(*) FROM dbsbuffer_block b WHERE {in_list('b.id', blocks)} AND {fit_block(rules)}"
    )
    if int(fit[0][0]) != len(blocks):
        raise PlanOutdatedError("a block is no longer what it was")


def fit_block(rules: Rules) -> str:
    """Condition for a row ``b`` of dbsbuffer_block that has no reason of its own to stay, as in :mod:`eligibility`."""
    # MariaDB takes ' ' for '', which Oracle would take for NULL.
    rule = " AND b.rule_id IS NOT NULL AND b.rule_id NOT IN ('0', ' ')" if rules.block_rules else ""
    return f"""(b.status = 'Closed'{rule} AND (b.deleted = 1 OR NOT EXISTS (
        SELECT 1 FROM dbsbuffer_dataset_subscription s WHERE s.dataset_id = b.dataset_id AND s.delete_blocks = 1)))"""


def _check_links(connection: Connection, plan: Plan, mine: str, other: str, chosen: Chosen) -> None:
    rows = connection.query(f"""
        SELECT DISTINCT f.workflow, CASE WHEN {_STRAY} THEN 'stray' ELSE {STATE} END
        FROM dbsbuffer_file_parent l INNER JOIN dbsbuffer_file f ON f.id = l.{other}
        WHERE {chosen.among(f"l.{mine}")}""")
    for workflow, state in rows:
        if state == "stray" or (workflow is not None and workflow not in plan.workflows):
            raise PlanOutdatedError(f"a file got a {other} that stays")
        # In another window, so its own look comes later; the link, which DBS has not heard of, would be gone by then.
        if state not in FINISHED:
            raise PlanOutdatedError(f"a file has a {other} that is no longer done")


def _none(connection: Connection, rest: str, problem: str) -> None:
    if int(connection.query(f"SELECT COUNT(*) {rest}")[0][0]):
        raise PlanOutdatedError(problem)
