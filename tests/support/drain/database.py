# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of an agent's database for tests of draining: work in WMBS and BossAir, files on their way to DBS and Rucio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection
from support.dbsbuffer.rows import (
    Assoc,
    Block,
    Dataset,
    File,
    Location,
    Rows,
    Workflow,
    load,
    wmbs_owner,
)
from support.dbsbuffer.schema import clear

_WMBS = (
    "bl_runjob",
    "bl_status",
    "wmbs_job",
    "wmbs_jobgroup",
    "wmbs_sub_files_available",
    "wmbs_sub_files_acquired",
    "wmbs_subscription",
    "wm_components",
)
_SHARED = {
    "datasets": [Dataset(1, "/P/E/RAW")],
    "assocs": [Assoc(1, 1)],
    "locations": [Location(1, "T1_XX_Disk")],
}


def empty(connection: Connection) -> None:
    """A database of an agent that has worked and has nothing left."""
    connection.begin()
    for table in _WMBS:
        connection.execute(f"DELETE FROM {table}")
    connection.commit()
    clear(connection)
    connection.begin()
    _insert(connection, "wm_components", [{"id": 1, "name": "DBS3Upload", "pid": 1, "update_threshold": 1}])
    connection.commit()


def dbsbuffer(
    connection: Connection, workflows: Sequence[Workflow], blocks: Sequence[Block], files: Sequence[File]
) -> None:
    """Put these into DBSBuffer, one dataset for all."""
    load(connection, Rows(workflows=list(workflows), blocks=list(blocks), files=list(files), **_SHARED))


def wmbs(
    connection: Connection,
    workflows: Mapping[str, int | None],
    jobs: Sequence[tuple[int, str, str, int]] = (),
    batch: Sequence[tuple[int, str | None, str, int]] = (),
    finished: Mapping[str, int | None] | None = None,
    available: Mapping[str, int] | None = None,
    acquired: Mapping[str, int] | None = None,
) -> None:
    """Put work into WMBS.

    workflows: name -> injected; each has one subscription
    jobs:      id, name of the workflow, state, time of the state
    batch:     id of the job, BossAir's status ('1' active, '0' over), the batch system's word, time of it
    finished:  name -> of its subscription; 0 for the others
    available, acquired: name -> files
    """
    connection.begin()
    owner = wmbs_owner(connection)
    rows: dict[str, list[dict[str, Any]]] = {}

    def add(table: str, **row: Any) -> None:
        rows.setdefault(table, []).append(row)

    add("wmbs_fileset", id=2, name="work", last_update=0)
    (kind,) = connection.query("SELECT id FROM wmbs_sub_types WHERE name = 'Processing'")[0]
    files = 0
    for number, (name, injected) in enumerate(workflows.items(), start=1):
        add("wmbs_workflow", id=number, spec="s", name=name, task=f"/{name}/T", owner=owner, alt_fs_close=0,
            injected=injected)  # fmt: skip
        done = (finished or {}).get(name, 0)
        add("wmbs_subscription", id=number, fileset=2, workflow=number, split_algo="FileBased", subtype=kind,
            last_update=1000 + number, finished=done)  # fmt: skip
        add("wmbs_jobgroup", id=number, subscription=number, guid=f"g{number}", last_update=0)
        for table, counts in (("wmbs_sub_files_available", available), ("wmbs_sub_files_acquired", acquired)):
            for _ in range((counts or {}).get(name, 0)):
                files += 1
                add("wmbs_file_details", id=files, lfn=f"/store/in/{files}", filesize=1, events=1)
                add(table, subscription=number, fileid=files)
    states = {str(name): number for number, name in connection.query("SELECT id, name FROM wmbs_job_state")}
    order = list(workflows)
    for job, workflow, state, since in jobs:
        add("wmbs_job", id=job, jobgroup=order.index(workflow) + 1, name=f"j{job}", state=states[state],
            state_time=since)  # fmt: skip
    words = sorted({word for _, _, word, _ in batch})
    for number, word in enumerate(words, start=1):
        add("bl_status", id=number, name=word)
    for number, (job, active, word, since) in enumerate(batch, start=1):
        add("bl_runjob", id=number, wmbs_id=job, status=active, sched_status=words.index(word) + 1, retry_count=0,
            status_time=since)  # fmt: skip
    for table in ("wmbs_fileset", "wmbs_workflow", "wmbs_subscription", "wmbs_jobgroup", "wmbs_file_details",
                  "wmbs_sub_files_available", "wmbs_sub_files_acquired", "wmbs_job", "bl_status",
                  "bl_runjob"):  # fmt: skip
        _insert(connection, table, rows.get(table, []))
    connection.commit()


def _insert(connection: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        places = ", ".join(["%s"] * len(row))
        connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", list(row.values()))
