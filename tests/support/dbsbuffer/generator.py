# SPDX-License-Identifier: GPL-3.0-or-later
"""A DBSBuffer database as an agent leaves it after months, of any size, written straight into MariaDB."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from support.dbsbuffer.agent_life import BOGUS, LOCATIONS, AgentLife
from support.dbsbuffer.rows import put_into_fileset, wmbs_owner

END = 1_750_000_000
"""When the agent's life ends unless told otherwise, in seconds since 1970."""

_RUNLUMIS = "dbsbuffer_file_runlumi_map"
_LARGE = (
    _RUNLUMIS,
    "dbsbuffer_file_checksums",
    "dbsbuffer_file_location",
    "dbsbuffer_file_parent",
    "dbsbuffer_file",
)
_DAY = 86_400
_ROWS = 5000
_FILE_COLUMNS = "id, lfn, filesize, events, dataset_algo, block_id, status, in_phedex, workflow, LastModificationDate"


@dataclass(frozen=True)
class Generated:
    """What was written.

    files:          all files, inputs of no workflow among them
    eligible_files: those of families in which nothing stands in a cleanup's way
    eligible_names: the workflow names of these families
    """

    files: int
    eligible_files: int
    workflows: int
    names: int
    eligible_names: tuple[str, ...]
    blocks: int
    parents: int
    runlumis: int


def generate(
    settings: DatabaseSettings,
    files: int,
    seed: int,
    *,
    eligible: float = 0.9,
    runlumis_per_file: int = 10,
    end: int = END,
    days: int = 120,
) -> Generated:
    """Fill an empty agent's database; the same arguments give the same rows.

    eligible:          share of the files that are in families with nothing in a cleanup's way
    runlumis_per_file: the mean; inputs have none
    end, days:         the agent's life ends at this time (seconds since 1970) after so many days
    """
    life = AgentLife(files, seed, eligible, end - days * _DAY, end)
    with _open(settings) as connection, _open(settings) as second, ThreadPoolExecutor(1) as worker:
        keys = {table: _drop_keys(connection, table) for table in _LARGE}
        parents = _write_files(connection, life)
        _write_lists(connection, life)
        runlumis = worker.submit(_write_runlumis, second, seed, runlumis_per_file, keys.pop(_RUNLUMIS))
        _write_checksums_and_locations(connection)
        for table, definitions in keys.items():
            _add_keys(connection, table, definitions)
        written = runlumis.result()
        # The optimizer's statistics would follow some time later.
        analyzed = (*_LARGE, "dbsbuffer_workflow", "dbsbuffer_block", "wmbs_file_details")
        connection.query(f"ANALYZE TABLE {', '.join(analyzed)}")
    return Generated(
        files=files,
        eligible_files=life.eligible_files,
        workflows=len(life.workflows),
        names=len({row.name for row in life.workflows}),
        eligible_names=tuple(sorted(life.eligible_names)),
        blocks=len(life.blocks),
        parents=parents,
        runlumis=written,
    )


def _open(settings: DatabaseSettings) -> Connection:
    connection = connect(settings, statement_timeout=600, read_only=False)
    connection.execute("SET SESSION foreign_key_checks=0, unique_checks=0")
    return connection


def _drop_keys(connection: Connection, table: str) -> list[str]:
    """Drop all keys but the primary one and return their definitions: made at the end they cost half as much."""
    definition = connection.query(f"SHOW CREATE TABLE {table}")[0][1]
    keys = re.findall(r"^  ((?:UNIQUE )?KEY `\w+` .*?),?$", definition, re.MULTILINE)
    drops = ", ".join(f"DROP INDEX `{key.split('`')[1]}`" for key in keys)
    connection.execute(f"ALTER TABLE {table} {drops}")
    return keys


def _add_keys(connection: Connection, table: str, keys: list[str]) -> None:
    connection.execute(f"ALTER TABLE {table} {', '.join(f'ADD {key}' for key in keys)}")


def _write_files(connection: Connection, life: AgentLife) -> int:
    """Write them and their parents; how many parents."""
    files = life.files()
    written = 0
    while part := list(islice(files, _ROWS)):
        # No value has a quote: text is quicker than placeholders.
        texts = [
            f"({file.id},'{file.lfn}',2000000000,1000,{file.dataset_algo},{_number(file.block_id)},'{file.status}',"
            f"{file.in_phedex},{_number(file.workflow)},{_number(file.modified)})"
            for file, _ in part
        ]
        connection.execute(f"INSERT INTO dbsbuffer_file ({_FILE_COLUMNS}) VALUES {','.join(texts)}")
        links = [f"({link.child},{link.parent})" for _, parents in part for link in parents]
        if links:
            connection.execute(f"INSERT INTO dbsbuffer_file_parent (child, parent) VALUES {','.join(links)}")
        written += len(links)
    return written


def _number(value: int | None) -> int | str:
    return "NULL" if value is None else value


def _write_lists(connection: Connection, life: AgentLife) -> None:
    _insert(connection, "dbsbuffer_workflow (id, name, task, completed)", life.workflows)
    _insert(connection, "dbsbuffer_dataset (id, path, processing_ver)", [(*row, 1) for row in life.datasets])
    _insert(connection, "dbsbuffer_algo (id, app_name)", [(1, "cmsRun")])
    assocs = [(row.id, 1, row.id, int(row.id != BOGUS)) for row in life.datasets]
    _insert(connection, "dbsbuffer_algo_dataset_assoc (id, algo_id, dataset_id, in_dbs)", assocs)
    subscriptions = "dbsbuffer_dataset_subscription (id, dataset_id, site, subscribed, delete_blocks)"
    _insert(connection, subscriptions, life.subscriptions)
    locations = [(number, f"T{1 + number % 2}_XX_Site{number}_Disk") for number in range(1, LOCATIONS + 1)]
    _insert(connection, "dbsbuffer_location (id, pnn)", locations)
    blocks = "dbsbuffer_block (id, dataset_id, blockname, location, create_time, status, deleted, rule_id)"
    _insert(connection, blocks, life.blocks.values())
    owner = wmbs_owner(connection)
    wmbs = [("spec.pkl", row.name, row.task, owner, 0, 1) for row in life.wmbs_workflows]
    _insert(connection, "wmbs_workflow (spec, name, task, owner, alt_fs_close, injected)", wmbs)
    _insert(connection, "wmbs_file_details (lfn, merged)", [(lfn, 1) for lfn in life.wmbs_lfns])
    put_into_fileset(connection)
    # WMCore leaves the row of each file that a merge job wrote behind for good, used by nothing.
    connection.execute(
        "INSERT INTO wmbs_file_details (lfn, merged) SELECT f.lfn, 1 FROM dbsbuffer_file f WHERE f.status = 'InDBS' "
        "AND f.lfn NOT LIKE '%unmerged%' AND NOT EXISTS (SELECT 1 FROM wmbs_file_details w WHERE w.lfn = f.lfn)"
    )


def _insert(connection: Connection, head: str, rows: Iterable[Sequence[Any]]) -> None:
    rows = list(rows)
    for first in range(0, len(rows), _ROWS):
        part = rows[first : first + _ROWS]
        places = f"({', '.join(['%s'] * len(part[0]))})"
        connection.execute(
            f"INSERT INTO {head} VALUES {', '.join([places] * len(part))}", [value for row in part for value in row]
        )


def _write_runlumis(connection: Connection, seed: int, per_file: int, keys: list[str]) -> int:
    """The server makes them from the files; how many."""
    most = 2 * per_file - 1
    written = 0
    if per_file:
        # One statement into an empty table: MariaDB then writes no undo log.
        written = connection.execute(
            f"INSERT INTO {_RUNLUMIS} (filename, run, lumi, num_events) "
            f"SELECT STRAIGHT_JOIN f.id, 1, f.id * {most} + n.seq, 100 FROM dbsbuffer_file f JOIN seq_1_to_{most} n "
            f"WHERE f.status <> 'GLOBAL' AND n.seq <= 1 + CRC32(CONCAT(f.id, '-{seed}')) MOD {most}"
        )
    _add_keys(connection, _RUNLUMIS, keys)
    return written


def _write_checksums_and_locations(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO dbsbuffer_file_checksums (fileid, typeid, cksum) SELECT STRAIGHT_JOIN f.id, n.seq, "
        "HEX(CRC32(CONCAT(f.lfn, n.seq))) FROM dbsbuffer_file f JOIN seq_1_to_2 n WHERE f.status <> 'GLOBAL'"
    )
    connection.execute(
        "INSERT INTO dbsbuffer_file_location (filename, location) "
        f"SELECT f.id, 1 + COALESCE(f.block_id, f.id) MOD {LOCATIONS} FROM dbsbuffer_file f WHERE f.status <> 'GLOBAL'"
    )
