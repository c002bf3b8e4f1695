# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals of the agent's database: WMBS, BossAir and DBSBuffer, one picture of one moment, without a lock.

Each statement counts in one pass and runs on MariaDB and on Oracle as it stands. What is counted is what
WMComponent.AgentStatusWatcher.DrainStatusAPI (by the DAOs in WMComponent.DBS3Buffer: IsAllWorkflowsCompleted,
CountOpenBlocks, CountFilesByStatus, CountPhedexNotUploaded) and bin/adhoc-scripts/drainAgent.py count, taken apart by
whether it goes away by itself, and what both leave out: NULLs, blocks that are not there, BossAir's jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import NEVER_REGISTERED
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import (
    DATABASE,
    Blocker,
    Counted,
    blockers_of,
    unreadable,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

Row = tuple[Any, ...]

JOB_SIGNALS = {
    **dict.fromkeys(("new", "created", "createcooloff", "submitcooloff", "jobcooloff"), "jobs_waiting"),
    "executing": "jobs_executing",
    **dict.fromkeys(
        (
            "complete",
            "success",
            "createfailed",
            "submitfailed",
            "jobfailed",
            "retrydone",
            "exhausted",
            "killed",
        ),
        "jobs_finishing",
    ),
    **dict.fromkeys(("createpaused", "submitpaused", "jobpaused"), "jobs_paused"),
}
"""State of a job -> signal (WMCore.JobStateMachine.Transitions). ``cleanout`` is the end, and the only one in none."""

_BLOCK_SIGNALS = {"Open": "blocks_not_in_dbs", "Pending": "blocks_not_in_dbs", "InDBS": "blocks_not_closed"}

_STATES = "SELECT name FROM wmbs_job_state"
_COMPONENTS = "SELECT COUNT(*) FROM wm_components"
_WORKFLOW_OF_GROUP = """
    LEFT JOIN wmbs_jobgroup jg ON jg.id = g.jobgroup
    LEFT JOIN wmbs_subscription s ON s.id = jg.subscription
    LEFT JOIN wmbs_workflow w ON w.id = s.workflow"""

_JOBS = f"""
    SELECT w.name, t.name, SUM(g.jobs), MIN(g.oldest)
    FROM (SELECT j.jobgroup, j.state, COUNT(*) jobs, MIN(j.state_time) oldest FROM wmbs_job j
          WHERE j.state NOT IN (SELECT x.id FROM wmbs_job_state x WHERE x.name = 'cleanout')
          GROUP BY j.jobgroup, j.state) g
    LEFT JOIN wmbs_job_state t ON t.id = g.state {_WORKFLOW_OF_GROUP}
    GROUP BY w.name, t.name"""  # noqa: S608 - put together from this file's own constants
_BATCH_JOBS = f"""
    SELECT w.name, t.name, SUM(g.jobs), MIN(g.oldest)
    FROM (SELECT j.jobgroup, r.sched_status, COUNT(*) jobs, MIN(r.status_time) oldest FROM bl_runjob r
          LEFT JOIN wmbs_job j ON j.id = r.wmbs_id WHERE r.status IS NULL OR r.status <> '0'
          GROUP BY j.jobgroup, r.sched_status) g
    LEFT JOIN bl_status t ON t.id = g.sched_status {_WORKFLOW_OF_GROUP}
    GROUP BY w.name, t.name"""  # noqa: S608 - put together from this file's own constants
_SUBSCRIPTIONS = """
    SELECT w.name, t.name, COUNT(*), MIN(s.last_update) FROM wmbs_subscription s
    LEFT JOIN wmbs_sub_types t ON t.id = s.subtype
    LEFT JOIN wmbs_workflow w ON w.id = s.workflow
    WHERE s.finished IS NULL OR s.finished <> 1 GROUP BY w.name, t.name"""
_NOT_INJECTED = "SELECT DISTINCT w.name FROM wmbs_workflow w WHERE w.injected IS NULL OR w.injected <> 1"
_FILES_OF_SUBSCRIPTIONS = """
    SELECT w.name, SUM(g.files)
    FROM (SELECT a.subscription, COUNT(*) files FROM {table} a GROUP BY a.subscription) g
    LEFT JOIN wmbs_subscription s ON s.id = g.subscription
    LEFT JOIN wmbs_workflow w ON w.id = s.workflow
    GROUP BY w.name"""
_WORKFLOWS = """
    SELECT g.name, g.state, COUNT(*)
    FROM (SELECT d.name, CASE WHEN d.completed IS NULL OR d.completed <> 0 THEN 'unknown'
                              WHEN EXISTS (SELECT 1 FROM wmbs_workflow w WHERE w.name = d.name) THEN 'open'
                              ELSE 'gone' END state
          FROM dbsbuffer_workflow d WHERE d.completed IS NULL OR d.completed <> 1) g
    GROUP BY g.name, g.state"""
_BLOCKS = """
    SELECT b.blockname, b.status, b.create_time FROM dbsbuffer_block b
    WHERE b.status IS NULL OR b.status <> 'Closed'"""
_NEVER = " OR ".join(f"f.lfn LIKE '{pattern}'" for pattern in NEVER_REGISTERED)
# What is done is left out as the table is read, so that only what is left is joined and grouped.
_FILES = f"""
    SELECT w.name, g.state, g.registered, g.block, g.workflow, SUM(g.files), MIN(g.oldest)
    FROM (SELECT c.workflow, c.state, c.registered, c.block, COUNT(*) files, MIN(c.since) oldest
          FROM (SELECT f.workflow,
                       CASE WHEN f.status IN ('NOTUPLOADED', 'InDBS', 'GLOBAL') THEN f.status ELSE 'unknown' END state,
                       CASE WHEN f.in_phedex = 1 THEN 'yes' WHEN f.in_phedex IS NULL OR f.in_phedex <> 0 THEN 'unknown'
                            WHEN {_NEVER} THEN 'never' ELSE 'no' END registered,
                       CASE WHEN f.block_id IS NULL THEN 'none' WHEN b.id IS NULL THEN 'missing' ELSE 'there' END block,
                       COALESCE(f.lastmodificationdate, b.create_time) since
                FROM dbsbuffer_file f LEFT JOIN dbsbuffer_block b ON b.id = f.block_id
                WHERE f.status IS NULL OR f.status NOT IN ('InDBS', 'GLOBAL')
                   OR f.in_phedex IS NULL OR f.in_phedex <> 1) c
          GROUP BY c.workflow, c.state, c.registered, c.block) g
    LEFT JOIN dbsbuffer_workflow w ON w.id = g.workflow
    GROUP BY w.name, g.state, g.registered, g.block, g.workflow"""  # noqa: S608 - put together from this file's own constants
_KNOWN_WORKFLOWS = "SELECT DISTINCT w.name FROM wmbs_workflow w"


def read(open_session: Callable[[], AbstractContextManager[Connection]]) -> tuple[list[Blocker], list[str] | None]:
    """Blockers of the database, and the names of all workflows in WMBS; None where they could not be read.

    open_session: opens a read-only session. Every part is read, also after one that failed.
    """
    try:
        with open_session() as connection:
            connection.begin_snapshot()
            try:
                return _read(connection)
            finally:
                connection.rollback()
    except WMAgentError as error:
        return [unreadable("database", DATABASE, error)], None


def _read(connection: Connection) -> tuple[list[Blocker], list[str] | None]:
    counted: list[Counted] = []
    failed: list[Blocker] = []
    for name, statement, fold in _PARTS:
        try:
            counted.extend(fold(connection.query(statement)))
        except WMAgentError as error:
            failed.append(unreadable(name, DATABASE, error))
    try:
        _check_identity(connection)
        names: list[str] | None = [str(name) for (name,) in connection.query(_KNOWN_WORKFLOWS)]
    except WMAgentError as error:
        failed.append(unreadable("database", DATABASE, error))
        names = None
    return [*blockers_of(counted), *failed], names


def _check_identity(connection: Connection) -> None:
    """That empty tables are those of an agent that has worked, not of some other or a new database."""
    states = {str(name) for (name,) in connection.query(_STATES)}
    if missing := sorted({*JOB_SIGNALS, "cleanout"} - states):
        raise WMAgentError(
            f"{connection.settings.where} holds no complete WMBS: wmbs_job_state lacks {', '.join(missing[:3])}; "
            "is it this agent's database?"
        )
    if not connection.query(_COMPONENTS)[0][0]:
        raise WMAgentError(
            f"{connection.settings.where}: no component has ever run with this database (wm_components is empty); "
            "is it this agent's?"
        )


def _jobs(rows: Iterable[Row]) -> Iterator[Counted]:
    for workflow, state, count, oldest in rows:
        yield Counted(
            JOB_SIGNALS.get(str(state), "jobs_state_unknown"), int(count), _text(workflow), str(state), _number(oldest)
        )


def _simple(signal: str) -> Callable[[Iterable[Row]], Iterator[Counted]]:
    def fold(rows: Iterable[Row]) -> Iterator[Counted]:
        for workflow, state, count, oldest in rows:
            yield Counted(signal, int(count), _text(workflow), _text(state) or "", _number(oldest))

    return fold


def _not_injected(rows: Iterable[Row]) -> Iterator[Counted]:
    for (workflow,) in rows:
        yield Counted("workflows_not_injected", 1, _text(workflow))


def _files_of(signal: str) -> Callable[[Iterable[Row]], Iterator[Counted]]:
    def fold(rows: Iterable[Row]) -> Iterator[Counted]:
        for workflow, count in rows:
            yield Counted(signal, int(count), _text(workflow))

    return fold


def _workflows(rows: Iterable[Row]) -> Iterator[Counted]:
    signals = {"open": "workflows_open", "gone": "workflows_open_gone"}
    for workflow, state, count in rows:
        yield Counted(signals.get(str(state), "workflows_completion_unknown"), int(count), _text(workflow))


def _blocks(rows: Iterable[Row]) -> Iterator[Counted]:
    for name, status, created in rows:
        if status is None:
            yield Counted("blocks_status_null", 1, _text(name), "", _number(created))
        else:
            signal = _BLOCK_SIGNALS.get(str(status), "blocks_status_unknown")
            yield Counted(signal, 1, _text(name), str(status), _number(created))


def _files(rows: Iterable[Row]) -> Iterator[Counted]:
    for name, state, registered, block, workflow, count, oldest in rows:
        for signal in file_signals(str(state), str(registered), str(block), workflow is not None):
            yield Counted(signal, int(count), _text(name), "" if state == "unknown" else str(state), _number(oldest))


def file_signals(state: str, registered: str, block: str, has_workflow: bool) -> list[str]:
    """Signals that a file of DBSBuffer is counted in; it may be left in more than one respect.

    state:        dbsbuffer_file.status, or ``unknown``
    registered:   ``yes``, ``no``, ``never`` (an LFN that RucioInjector does not register) or ``unknown``
    block:        ``there``, ``none`` (no block_id) or ``missing`` (a block_id that leads nowhere)
    has_workflow: LoadDBSFilesByDAS joins the workflow, so a file without one is never uploaded
    """
    signals = []
    if state == "NOTUPLOADED":
        signals.append("files_not_uploaded" if has_workflow else "files_without_workflow")
    elif state == "unknown":
        signals.append("files_status_unknown")
    if registered == "unknown":
        signals.append("files_registration_unknown")
    elif registered == "no":
        if block == "there":
            signals.append("files_not_in_rucio")
        elif block == "missing":
            signals.append("files_of_missing_block")
        elif state != "NOTUPLOADED":  # DBS3Upload puts it into a block yet
            signals.append("files_without_block")
    return signals


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


_PARTS: tuple[tuple[str, str, Callable[[Iterable[Row]], Iterator[Counted]]], ...] = (
    ("jobs", _JOBS, _jobs),
    ("batch_jobs", _BATCH_JOBS, _simple("batch_jobs")),
    ("subscriptions", _SUBSCRIPTIONS, _simple("subscriptions_unfinished")),
    ("workflows_not_injected", _NOT_INJECTED, _not_injected),
    ("files_available", _FILES_OF_SUBSCRIPTIONS.format(table="wmbs_sub_files_available"), _files_of("files_available")),
    ("files_acquired", _FILES_OF_SUBSCRIPTIONS.format(table="wmbs_sub_files_acquired"), _files_of("files_acquired")),
    ("workflows", _WORKFLOWS, _workflows),
    ("files", _FILES, _files),
    ("blocks", _BLOCKS, _blocks),
)
"""What is read: its name in messages, the statement, and what becomes of the rows."""

STATEMENTS = (*(statement for _, statement, _ in _PARTS), _STATES, _COMPONENTS, _KNOWN_WORKFLOWS)
"""All statements, for the tests that ask whether Oracle takes them."""
