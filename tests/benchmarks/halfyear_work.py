# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent's weeks at accelerated time, in a real MariaDB and CouchDB: what comes in, what is finished, what is left.

Shaped like production at about a hundredth of its size: workflows arrive each week and are finished in the next one;
their files go to DBS and Rucio in blocks; each job leaves documents with many revisions, which the agent deletes once
the workflow is archived, and whose tombstones CouchDB keeps. One workflow in fifty stays open for ten weeks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.indexes import follow
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection

WORKFLOWS = int(os.environ.get("BENCH_WORKFLOWS", "20"))
"""Workflows that arrive each week."""
FILES, LUMIS, JOBS = 200, 10, 100
"""Of each workflow: output files, runlumi rows of a file, jobs."""
REVISIONS = 6
"""Of a job's document: one for each state that it passes through."""

WEEK = 7 * 86_400
BEGIN = 1_760_000_000
_SLOW_EACH, _SLOW_WEEKS = 50, 10
_AT_ONCE = 1000
_BLOCKS = 4

VIEWS = {
    "JobDump": {
        "jobs": "function (doc) { emit([doc.workflow, doc.jobid], {id: doc._id, rev: doc._rev}); }",
        "states": "function (doc) { for (var i in doc.states) { emit(doc.states[i].newstate, 1); } }",
    },
    "FWJRDump": {"reports": "function (doc) { emit([doc.workflow, doc.jobid], doc.fwjr.steps); }"},
}


@dataclass(frozen=True)
class Workflow:
    """number: running; week: in which it arrived."""

    number: int
    week: int

    @property
    def name(self) -> str:
        """As WMBS and DBSBuffer know it."""
        return f"user_Run_{self.number:06d}"

    @property
    def done(self) -> int:
        """Week in which it is finished and archived."""
        return self.week + (_SLOW_WEEKS if self.number % _SLOW_EACH == _SLOW_EACH - 1 else 1)


def workflows(week: int) -> list[Workflow]:
    """Those that arrive in a week, from 0."""
    return [Workflow(week * WORKFLOWS + at, week) for at in range(WORKFLOWS)]


def finished_in(week: int) -> list[Workflow]:
    """Those that are finished in a week."""
    return [one for begun in range(week) for one in workflows(begun) if one.done == week]


def prepare_database(connection: Connection) -> None:
    """What all files share."""
    for statement in (
        "INSERT INTO dbsbuffer_location (id, pnn) VALUES (1, 'T1_XX_Disk')",
        "INSERT INTO dbsbuffer_dataset (id, path, processing_ver, acquisition_era, valid_status) "
        "VALUES (1, '/Bench/Half-year/GEN-SIM', 1, 'Bench', 'VALID')",
        "INSERT INTO dbsbuffer_algo (id, app_name, app_ver, app_fam, pset_hash, in_dbs) "
        "VALUES (1, 'cmsRun', 'v', 'f', 'h', 1)",
        "INSERT INTO dbsbuffer_algo_dataset_assoc (id, algo_id, dataset_id, in_dbs) VALUES (1, 1, 1, 1)",
        "INSERT INTO wmbs_users (id, cert_dn, name_hn, owner, grp, group_name, role_name) "
        "VALUES (1, 'd', 'n', 'o', 'g', 'g', 'r')",
    ):
        connection.execute(statement)


def work_in_database(connection: Connection, week: int) -> None:
    """A week's rows: new workflows with their files, and the end of those that are finished."""
    now = BEGIN + week * WEEK
    for workflow in workflows(week):
        connection.begin()
        _arrive(connection, workflow, now)
        connection.commit()
    for workflow in finished_in(week):
        connection.begin()
        _finish(connection, workflow, now)
        connection.commit()


def _arrive(connection: Connection, workflow: Workflow, now: int) -> None:
    first = workflow.number * FILES + 1
    row = workflow.number + 1
    connection.execute(
        "INSERT INTO wmbs_workflow (id, spec, name, task, owner, alt_fs_close, injected) "
        f"VALUES ({row}, 's', '{workflow.name}', '/{workflow.name}/T', 1, 0, 1)"
    )
    connection.execute(
        "INSERT INTO dbsbuffer_workflow (id, name, task, completed) "
        f"VALUES ({row}, '{workflow.name}', '/{workflow.name}/T', 0)"
    )
    connection.execute(
        "INSERT INTO dbsbuffer_block (id, dataset_id, blockname, location, create_time, status, rule_id) "
        f"SELECT {workflow.number * _BLOCKS} + seq, 1, CONCAT('/Bench/{workflow.name}/GEN-SIM#', seq), 1, {now}, "
        f"'Open', '0' FROM seq_1_to_{_BLOCKS}"
    )
    connection.execute(
        "INSERT INTO dbsbuffer_file (id, lfn, filesize, events, dataset_algo, block_id, status, in_phedex, workflow, "
        f"LastModificationDate) SELECT {first} - 1 + seq, "
        f"CONCAT('/store/mc/Bench/GEN-SIM/{workflow.name}/', LPAD(seq, 36, 'x'), '.root'), 1000000000, 1000, 1, "
        f"{workflow.number * _BLOCKS} + 1 + seq % {_BLOCKS}, 'NOTUPLOADED', 0, {row}, {now} FROM seq_1_to_{FILES}"
    )
    of_workflow = f"FROM dbsbuffer_file f WHERE f.id >= {first} AND f.id < {first + FILES}"
    connection.execute(
        f"INSERT INTO dbsbuffer_file_runlumi_map (filename, run, lumi, num_events) SELECT f.id, 1, "
        f"f.id * {LUMIS} + s.seq, 100 {of_workflow.replace('WHERE', f'JOIN seq_1_to_{LUMIS} s WHERE')}"
    )
    connection.execute(f"INSERT INTO dbsbuffer_file_location (filename, location) SELECT f.id, 1 {of_workflow}")
    connection.execute(
        "INSERT INTO dbsbuffer_file_checksums (fileid, typeid, cksum) SELECT f.id, t.id, 'abcdef01' "
        f"{of_workflow.replace('WHERE', 'JOIN dbsbuffer_checksum_type t WHERE')} AND t.type <> 'md5'"
    )
    connection.execute(
        f"INSERT INTO dbsbuffer_file_parent (child, parent) SELECT f.id, f.id - 1 {of_workflow} AND f.id > {first}"
    )


def _finish(connection: Connection, workflow: Workflow, now: int) -> None:
    first, row = workflow.number * FILES + 1, workflow.number + 1
    connection.execute(
        f"UPDATE dbsbuffer_file SET status = 'InDBS', in_phedex = 1, LastModificationDate = {now} "
        f"WHERE id >= {first} AND id < {first + FILES}"
    )
    block = workflow.number * _BLOCKS
    connection.execute(
        f"UPDATE dbsbuffer_block SET status = 'Closed', rule_id = '{'0' * 31}1' "
        f"WHERE id > {block} AND id <= {block + _BLOCKS}"
    )
    connection.execute(f"UPDATE dbsbuffer_workflow SET completed = 1 WHERE id = {row}")
    connection.execute(f"DELETE FROM wmbs_workflow WHERE id = {row}")


def prepare_couchdb(client: CouchClient, name: str) -> tuple[str, ...]:
    """Make the agent's two jobdump databases with views, and return their names."""
    names = (f"{name}/jobs", f"{name}/fwjrs")
    for database, design in zip(names, VIEWS, strict=True):
        client.put(path_of(database))
        views = {view: {"map": text} for view, text in VIEWS[design].items()}
        client.put(path_of(database, f"_design/{design}"), {"language": "javascript", "views": views})
    return names


def work_in_couchdb(client: CouchClient, names: Iterable[str], week: int) -> None:
    """A week's documents: those of new jobs through all their states, and the end of those that are archived."""
    jobs, reports = names
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda each: _week(client, *each), ((jobs, week, _job), (reports, week, _report))))
    follow(client, path_of(jobs, "_design/JobDump/_view/jobs?limit=1"), lambda: True)
    follow(client, path_of(reports, "_design/FWJRDump/_view/reports?limit=1"), lambda: True)


def _week(client: CouchClient, database: str, week: int, document: Any) -> None:
    new = [number for workflow in workflows(week) for number in _jobs_of(workflow)]
    for at in range(0, len(new), _AT_ONCE):
        documents = [document(number) for number in new[at : at + _AT_ONCE]]
        for revision in range(REVISIONS if document is _job else 2):
            for one in documents:
                one["states"][str(revision)] = _transition(revision, week)
            answer = client.post(path_of(database, "_bulk_docs"), {"docs": documents})
            for one, row in zip(documents, answer, strict=True):
                one["_rev"] = row["rev"]
    old = [str(number) for workflow in finished_in(week) for number in _jobs_of(workflow)]
    for at in range(0, len(old), _AT_ONCE):
        rows = client.post(path_of(database, "_all_docs"), {"keys": old[at : at + _AT_ONCE]})["rows"]
        gone = [{"_id": row["id"], "_rev": row["value"]["rev"], "_deleted": True} for row in rows]
        client.post(path_of(database, "_bulk_docs"), {"docs": gone})


def _jobs_of(workflow: Workflow) -> range:
    return range(workflow.number * JOBS + 1, (workflow.number + 1) * JOBS + 1)


def _transition(revision: int, week: int) -> dict[str, Any]:
    states = ("new", "created", "executing", "complete", "success", "cleanout")
    return {"newstate": states[revision], "location": "T1_XX_Disk", "timestamp": BEGIN + week * WEEK + revision}


def _job(number: int) -> dict[str, Any]:
    workflow = f"user_Run_{(number - 1) // JOBS:06d}"
    files = [f"/store/data/{number}/{at}.root" for at in range(4)]
    return {"_id": str(number), "type": "job", "jobid": number, "workflow": workflow, "inputfiles": files, "states": {}}


def _report(number: int) -> dict[str, Any]:
    """A framework job report, a few kB as they are."""
    job = _job(number)
    steps = {f"cmsRun{at}": {"site": "T1_XX_Disk", "output": [job["inputfiles"]] * 4, "errors": []} for at in range(3)}
    return {**job, "type": "fwjr", "fwjr": {"steps": steps}}
