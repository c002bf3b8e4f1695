# SPDX-License-Identifier: GPL-3.0-or-later
"""Write into an agent's DBSBuffer: seed.py SECRETS DATABASE WHAT.

WHAT is an id to begin with, for a finished workflow with 20 files and an unfinished one with 5, or ``interrupted``, for
what a rebuild leaves that is killed while it copies.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pymysql

LONG_AGO = 1_000_000


def opened(secrets: Path, database: str) -> pymysql.Connection:
    """A session of the agent's own account."""
    known = dict(line.split("=", 1) for line in secrets.read_text().splitlines() if "=" in line)
    host, _, port = known["MDB_HOST"].partition(":")
    login = {"user": known["MDB_USER"], "password": known["MDB_PASS"]}
    return pymysql.connect(host=host, port=int(known.get("MDB_PORT") or port or 3306), database=database, **login)


def insert(cursor: pymysql.cursors.Cursor, table: str, **values: object) -> int:
    """Insert one row of DBSBuffer; its id."""
    names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
    cursor.execute(f"INSERT INTO dbsbuffer_{table} ({names}) VALUES ({marks})", list(values.values()))  # noqa: S608
    return cursor.lastrowid


def workflows(cursor: pymysql.cursors.Cursor, first: int) -> None:
    """A finished workflow and an unfinished one, with ids from ``first`` on."""
    insert(cursor, "dataset", id=first, path=f"/d/{first}/X", processing_ver=1)
    insert(cursor, "algo", id=first, app_name="cmsRun", app_ver=str(first))
    insert(cursor, "algo_dataset_assoc", id=first, algo_id=first, dataset_id=first)
    insert(cursor, "location", id=first, pnn=f"T2_{first}")
    for workflow, completed, files in ((first, 1, 20), (first + 1, 0, 5)):
        insert(cursor, "workflow", id=workflow, name=f"workflow{workflow}", task="/t", completed=completed)
        block = {"id": workflow, "dataset_id": first, "blockname": f"/d/{first}/X#{workflow}", "location": first}
        insert(cursor, "block", **block, create_time=LONG_AGO, status="Closed", rule_id="rule")
        for number in range(files):
            file = {"lfn": f"/store/mc/{workflow}/{number}.root", "dataset_algo": first, "block_id": workflow}
            made = insert(cursor, "file", **file, status="InDBS", in_phedex=1, workflow=workflow)
            insert(cursor, "file_runlumi_map", filename=made, run=1, lumi=number)


with opened(Path(sys.argv[1]), sys.argv[2]) as session, session.cursor() as writer:
    if sys.argv[3] == "interrupted":
        writer.execute("CREATE TABLE dbsbuffer_file__new LIKE dbsbuffer_file")
    else:
        workflows(writer, int(sys.argv[3]))
    session.commit()
