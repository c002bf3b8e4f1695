# SPDX-License-Identifier: GPL-3.0-or-later
"""A small DBSBuffer database with a bit of everything, what a rebuild should leave of it, and looks at the outcome."""

from __future__ import annotations

import os
import shutil
import subprocess

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan, Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import make_plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild import Rebuilt, rebuild
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_recovery import leftovers
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_tables import REBUILT
from support.dbsbuffer.random_rows import CUTOFF
from support.dbsbuffer.rows import (
    Assoc,
    Block,
    Checksum,
    Dataset,
    File,
    FileLocation,
    Location,
    Parent,
    Rows,
    RunLumi,
    Workflow,
    load,
    read,
)
from support.dbsbuffer.schema import clear

RULES = Rules(now=CUTOFF)
GONE, STAYING = range(1, 41), range(41, 61)
STRAY, INPUT_GOES, INPUT_STAYS, INPUT_ALONE = 61, 62, 63, 64


def contents() -> Rows:
    """Three workflow rows that go and one that stays, a file of no workflow, and inputs of all kinds."""
    workflows = [
        Workflow(1, "gone_a", "/gone_a/one"),
        Workflow(2, "gone_a", "/gone_a/two"),
        Workflow(3, "stays", "/stays/one", completed=0),
        Workflow(4, "gone_b", "/gone_b/one"),
    ]
    files = [File(n, f"/store/data/Run1/A/{n}.root", 1, 1, workflow=(1, 2, 4)[n % 3]) for n in GONE]
    files += [File(n, f"/store/data/Run1/a/{n}.root", 1, 2, "NOTUPLOADED", 0, workflow=3) for n in STAYING]
    files.append(File(STRAY, "/store/data/stray.root", 1, 2, None, None, modified=7))
    files += [File(n, f"/store/data/in/{n}.root", 2, None, "GLOBAL") for n in (INPUT_GOES, INPUT_STAYS, INPUT_ALONE)]
    numbers = [file.id for file in files if file.status != "GLOBAL"]
    return Rows(
        workflows=workflows,
        datasets=[Dataset(1, "/P/E/RAW"), Dataset(2, "bogus")],
        assocs=[Assoc(1, 1), Assoc(2, 2)],
        locations=[Location(1, "T1_XX_Disk"), Location(2, "T2_XX_Disk")],
        blocks=[Block(1, 1, "/P/E/RAW#1", 1), Block(2, 1, "/P/E/RAW#2", 1, status="Open")],
        files=files,
        parents=[Parent(2, 1), Parent(3, 1), Parent(42, 41), Parent(5, INPUT_GOES), Parent(50, INPUT_STAYS)],
        # Equal rows, and rows that differ by NULL and 0 alone.
        runlumis=[RunLumi(n, 1, lumi, (None, 0, 5)[n % 3]) for n in numbers for lumi in (1, 1, 2, n)],
        file_locations=[FileLocation(n, place) for n in numbers for place in (1, 2)],
        checksums=[Checksum(n, kind, None if n % 5 == 0 else f"{n:x}") for n in numbers for kind in (1, 2)],
    )


def after(rows: Rows, plan: Plan, placeholders: bool) -> Rows:
    """What should be left of a database."""
    goes = {file.id for file in rows.files if file.workflow in plan.workflows}
    if placeholders:
        goes |= {file.id for file in rows.files if _goes_as_placeholder(rows, file, goes)}
    return Rows(
        **vars(rows)
        | {
            "files": [row for row in rows.files if row.id not in goes],
            "parents": [row for row in rows.parents if not {row.child, row.parent} & goes],
            "runlumis": [row for row in rows.runlumis if row.filename not in goes],
            "file_locations": [row for row in rows.file_locations if row.filename not in goes],
            "checksums": [row for row in rows.checksums if row.fileid not in goes],
        }
    ).as_stored("mariadb")


def _goes_as_placeholder(rows: Rows, file: File, goes: set[int]) -> bool:
    if file.workflow is not None or file.status != "GLOBAL" or file.block_id is not None or file.lfn in rows.wmbs_lfns:
        return False
    dataset = {row.id: row.dataset_id for row in rows.assocs}[file.dataset_algo]
    if any(row.subscribed != 1 for row in rows.subscriptions if row.dataset_id == dataset):
        return False
    linked = {end for link in rows.parents if file.id in link for end in link} - {file.id}
    return linked <= goes and Parent(file.id, file.id) not in rows.parents


STEPS = (
    "look for what an earlier rebuild left",
    "plan",
    *(f"copy {table}" for table in REBUILT),
    *(f"make keys of {table}" for table in REBUILT),
    "verify",
    "swap",
    "drop the old tables",
)
"""The steps of a rebuild in their order."""


def session(agent: DatabaseSettings) -> Connection:
    return connect(agent, statement_timeout=60, read_only=False)


def fill(agent: DatabaseSettings, rows: Rows) -> None:
    with session(agent) as connection:
        clear(connection)
        load(connection, rows)


def cleaned(connection: Connection, rules: Rules = RULES, **options) -> Rebuilt:
    return rebuild(connection, lambda session: make_plan(session, rules), **options)


def schema(agent: DatabaseSettings) -> str:
    """The whole schema to the byte, with each table's next id."""
    if dump := shutil.which("mariadb-dump"):
        command = [
            dump,
            "--no-defaults",
            "--no-data",
            "--skip-comments",
            f"--host={agent.host}",
            f"--port={agent.port}",
        ]
        environment = os.environ | {"MYSQL_PWD": agent.password}
        done = subprocess.run(
            [*command, f"--user={agent.user}", agent.name], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout
    with session(agent) as connection:
        names = [row[0] for row in connection.query("SHOW TABLES")]
        return "\n".join(str(connection.query(f"SHOW CREATE TABLE `{name}`")[0][1]) for name in names)


def untouched(agent: DatabaseSettings, rows: Rows | None = None) -> bool:
    """Whether the old tables are in service with all their rows, and nothing else is left."""
    with session(agent) as connection:
        return not leftovers(connection).found and read(connection) == (rows or contents()).as_stored("mariadb")
