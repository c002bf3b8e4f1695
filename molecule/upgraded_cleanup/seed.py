# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a finished workflow with 20 files and an unfinished one with 5: seed.py SECRETS DATABASE FIRST_ID."""

from __future__ import annotations

import sys
from pathlib import Path

import pymysql

secrets = dict(line.split("=", 1) for line in Path(sys.argv[1]).read_text().splitlines() if "=" in line)
first = int(sys.argv[3])
session = pymysql.connect(
    host=secrets["MDB_HOST"].partition(":")[0],
    port=int(secrets.get("MDB_PORT") or secrets["MDB_HOST"].partition(":")[2] or 3306),
    user=secrets["MDB_USER"],
    password=secrets["MDB_PASS"],
    database=sys.argv[2],
)
cursor = session.cursor()


def insert(table: str, **values: object) -> int:
    """Insert one row; its id."""
    names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
    cursor.execute(f"INSERT INTO dbsbuffer_{table} ({names}) VALUES ({marks})", list(values.values()))  # noqa: S608
    return cursor.lastrowid


insert("dataset", id=first, path=f"/d/{first}/X", processing_ver=1)
insert("algo", id=first, app_name="cmsRun", app_ver=str(first))
insert("algo_dataset_assoc", id=first, algo_id=first, dataset_id=first)
insert("location", id=first, pnn=f"T2_{first}")
for workflow, completed, files in ((first, 1, 20), (first + 1, 0, 5)):
    insert("workflow", id=workflow, name=f"workflow{workflow}", task="/t", completed=completed)
    name = f"/d/{first}/X#{workflow}"
    block = {"dataset_id": first, "location": first, "create_time": 1000, "status": "Closed", "rule_id": "rule"}
    insert("block", id=workflow, blockname=name, **block)
    for number in range(files):
        done = {"dataset_algo": first, "block_id": workflow, "status": "InDBS", "in_phedex": 1, "workflow": workflow}
        file = insert("file", lfn=f"/store/mc/{workflow}/{number}.root", **done)
        insert("file_runlumi_map", filename=file, run=1, lumi=number)
session.commit()
session.close()
