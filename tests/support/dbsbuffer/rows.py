# SPDX-License-Identifier: GPL-3.0-or-later
"""A DBSBuffer database as plain data: put it into a database, read it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import ORACLE, Connection


class Workflow(NamedTuple):
    """dbsbuffer_workflow: one row for each task of a workflow's name."""

    id: int
    name: str | None
    task: str | None
    completed: int | None = 1


class Dataset(NamedTuple):
    """dbsbuffer_dataset."""

    id: int
    path: str


class Algo(NamedTuple):
    """dbsbuffer_algo."""

    id: int
    app_name: str = "cmsRun"


class Assoc(NamedTuple):
    """dbsbuffer_algo_dataset_assoc; a file's ``dataset_algo``."""

    id: int
    dataset_id: int
    algo_id: int = 1


class Subscription(NamedTuple):
    """dbsbuffer_dataset_subscription."""

    id: int
    dataset_id: int
    site: str
    subscribed: int | None = 1
    delete_blocks: int | None = None


class Location(NamedTuple):
    """dbsbuffer_location."""

    id: int
    pnn: str


class Block(NamedTuple):
    """dbsbuffer_block."""

    id: int
    dataset_id: int
    blockname: str
    location: int
    create_time: int | None = None
    status: str | None = "Closed"
    deleted: int | None = 0
    rule_id: str = "abc"


class File(NamedTuple):
    """dbsbuffer_file; ``block_id`` is no foreign key and may lead nowhere."""

    id: int
    lfn: str
    dataset_algo: int = 1
    block_id: int | None = None
    status: str | None = "InDBS"
    in_phedex: int | None = 1
    workflow: int | None = None
    modified: int | None = None


class Parent(NamedTuple):
    """dbsbuffer_file_parent."""

    child: int
    parent: int


class RunLumi(NamedTuple):
    """dbsbuffer_file_runlumi_map."""

    filename: int
    run: int
    lumi: int
    num_events: int | None = None


class FileLocation(NamedTuple):
    """dbsbuffer_file_location."""

    filename: int
    location: int


class Checksum(NamedTuple):
    """dbsbuffer_file_checksums; the types 1, 2 and 3 come with the schema."""

    fileid: int
    typeid: int
    cksum: str | None


@dataclass(frozen=True)
class Rows:
    """One database. Everything of DBSBuffer that a cleanup looks at, and from WMBS the names and the LFNs."""

    workflows: list[Workflow] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    algos: list[Algo] = field(default_factory=lambda: [Algo(1)])
    assocs: list[Assoc] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    locations: list[Location] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    parents: list[Parent] = field(default_factory=list)
    runlumis: list[RunLumi] = field(default_factory=list)
    file_locations: list[FileLocation] = field(default_factory=list)
    checksums: list[Checksum] = field(default_factory=list)
    wmbs_names: list[str] = field(default_factory=list)
    wmbs_lfns: list[str] = field(default_factory=list)

    def as_stored(self, dialect: str) -> Rows:
        """What :func:`read` gives after :func:`load`: sorted; in Oracle an empty string is NULL."""
        stored: dict[str, list[Any]] = {}
        for part in fields(self):
            rows = getattr(self, part.name)
            if dialect == ORACLE and part.name in _TABLES:
                kind = _TABLES[part.name].kind
                rows = [kind(*(None if value == "" else value for value in row)) for row in rows]
            stored[part.name] = sorted(rows, key=_order)
        return Rows(**stored)


class _Table(NamedTuple):
    kind: Any
    name: str
    columns: tuple[str, ...]
    fixed: tuple[Any, ...] = ()


def _table(kind: Any, name: str, *, fixed: dict[str, Any] | None = None, **renamed: str) -> _Table:
    columns = tuple(renamed.get(column, column) for column in kind._fields) + tuple(fixed or {})
    return _Table(kind, name, columns, tuple((fixed or {}).values()))


_TABLES = {
    "workflows": _table(Workflow, "dbsbuffer_workflow"),
    "datasets": _table(Dataset, "dbsbuffer_dataset", fixed={"processing_ver": 1}),
    "algos": _table(Algo, "dbsbuffer_algo"),
    "assocs": _table(Assoc, "dbsbuffer_algo_dataset_assoc"),
    "subscriptions": _table(Subscription, "dbsbuffer_dataset_subscription"),
    "locations": _table(Location, "dbsbuffer_location"),
    "blocks": _table(Block, "dbsbuffer_block"),
    "files": _table(File, "dbsbuffer_file", modified="LastModificationDate"),
    "parents": _table(Parent, "dbsbuffer_file_parent"),
    "runlumis": _table(RunLumi, "dbsbuffer_file_runlumi_map"),
    "file_locations": _table(FileLocation, "dbsbuffer_file_location"),
    "checksums": _table(Checksum, "dbsbuffer_file_checksums"),
}
"""In an order that foreign keys allow."""

_WMBS_USER = "/DC=test/CN=wmagent"


def load(connection: Connection, rows: Rows) -> None:
    """Put it into a database that was cleared, or never filled; commits."""
    connection.begin()
    for part, table in _TABLES.items():
        _insert(connection, table.name, table.columns, [(*row, *table.fixed) for row in getattr(rows, part)])
    if rows.wmbs_names:
        owner = wmbs_owner(connection)
        columns = ("spec", "name", "task", "owner", "alt_fs_close")
        # Each has its own spec, as WMCore gives it: to MariaDB names are the same that differ in case.
        names = [(f"{number}/spec.pkl", name, f"/{name}/Task", owner, 0) for number, name in enumerate(rows.wmbs_names)]
        _insert(connection, "wmbs_workflow", columns, names)
    _insert(connection, "wmbs_file_details", ("lfn",), [(lfn,) for lfn in rows.wmbs_lfns])
    put_into_fileset(connection)
    connection.commit()


def put_into_fileset(connection: Connection) -> None:
    """Have WMBS use all the files that it has: they are some subscription's input."""
    connection.execute("INSERT INTO wmbs_fileset (id, name, last_update) VALUES (1, 'inputs', 0)")
    connection.execute(
        "INSERT INTO wmbs_fileset_files (fileid, fileset, insert_time) SELECT w.id, 1, 0 FROM wmbs_file_details w"
    )


def read(connection: Connection) -> Rows:
    """What a database holds, sorted."""
    found: dict[str, list[Any]] = {}
    for part, table in _TABLES.items():
        columns = ", ".join(table.columns[: len(table.kind._fields)])
        answer = connection.query(f"SELECT {columns} FROM {table.name}")
        found[part] = sorted((table.kind(*row) for row in answer), key=_order)
    for part, column in (("wmbs_names", "name FROM wmbs_workflow"), ("wmbs_lfns", "lfn FROM wmbs_file_details")):
        found[part] = sorted(value for (value,) in connection.query(f"SELECT {column}"))
    return Rows(**found)


def _order(row: Any) -> Any:
    return [(value is not None, value) for value in row] if isinstance(row, tuple) else row


def _insert(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    if not rows:
        return
    head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES"
    if connection.dialect == ORACLE:
        # One round trip as in python-oracledb; the session's own interface has none for many rows.
        places = ", ".join(f":{number}" for number in range(1, len(columns) + 1))
        with connection._session.cursor() as cursor:
            cursor.executemany(f"{head} ({places})", [tuple(row) for row in rows])
        return
    places = f"({', '.join(['%s'] * len(columns))})"
    connection.execute(f"{head} {', '.join([places] * len(rows))}", [value for row in rows for value in row])


def wmbs_owner(connection: Connection) -> int:
    """The id of a user that workflows of WMBS may belong to; made where it is not there."""
    ask = "SELECT id FROM wmbs_users WHERE cert_dn = %s"
    if not connection.query(ask, [_WMBS_USER]):
        connection.execute("INSERT INTO wmbs_users (cert_dn) VALUES (%s)", [_WMBS_USER])
    return int(connection.query(ask, [_WMBS_USER])[0][0])
