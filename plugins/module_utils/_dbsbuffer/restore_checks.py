# SPDX-License-Identifier: GPL-3.0-or-later
"""May a row of an archive come back? What is looked at in the database before it does; all of it only reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.archive import (
    REFERENCES,
    REFERRING,
    plain,
    read_columns,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.archive_reader import Contents, read_rows
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import (
    BLOCK,
    FILE,
    PARENT,
    WORKFLOW,
    in_list,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

KEYS = {
    WORKFLOW: ("id",),
    BLOCK: ("id",),
    FILE: ("id",),
    "dbsbuffer_file_checksums": ("fileid", "typeid"),
    "dbsbuffer_file_location": ("filename", "location"),
    PARENT: ("child", "parent"),
}
"""What tells one row from another; dbsbuffer_file_runlumi_map has nothing that does."""

NAMES = {WORKFLOW: ("name", "task"), BLOCK: ("blockname", "location"), FILE: ("lfn",)}
"""The other unique keys."""

OWNERS = {FILE: {"workflow": WORKFLOW, "block_id": BLOCK}, PARENT: {"child": FILE, "parent": FILE}}
"""Columns that refer to rows which a cleanup deletes too."""

_NAMES_A_STATEMENT = 200


def check_columns(connection: Connection, contents: Contents) -> None:
    """Raise WMAgentError unless the database is of the archive's kind and has each column that it has values for."""
    if contents.dialect != connection.dialect:
        raise WMAgentError(
            f"{contents.file} is of a database in {contents.dialect}, this one is in {connection.dialect}; "
            "name the secrets of the agent that it is of"
        )
    there = read_columns(connection)
    missing = [
        f"{table}.{column}"
        for table, columns in contents.columns.items()
        for column in columns
        if column not in there.get(table, ())
    ]
    if missing:
        raise WMAgentError(
            f"database {connection.database} has no column {', '.join(missing)}, which {contents.file} has values for; "
            "is it the agent that the archive is of, in the same release?"
        )


class References:
    """Datasets, algos, locations and checksum types: the same ids must still stand for the same things.

    An agent that was deployed again has other ids for the same names, and rows put back there would be wrong.
    """

    def __init__(self, connection: Connection, contents: Contents) -> None:
        self._contents = contents
        self._database = connection.database
        self._now: dict[str, dict[int, list[Any]]] = {}
        self._then: dict[str, dict[int, list[Any]]] = {}
        for table, query in REFERENCES.items():
            self._now[table] = {int(row[0]): [plain(value) for value in row[1:]] for row in connection.query(query)}
            archived = (row for batch in read_rows(contents, contents.about, table) for row in batch)
            self._then[table] = {row[0]: row[1:] for row in archived}

    def check(self, table: str, rows: Iterable[dict[str, Any]]) -> None:
        """Raise WMAgentError where rows refer to what is not there, or is something else now."""
        for column, other in REFERRING.get(table, {}).items():
            for number in {row[column] for row in rows}:
                now = self._now[other].get(number)
                if now is None or self._then[other].get(number, now) != now:
                    raise WMAgentError(self._problem(table, column, other, number, now))

    def _problem(self, table: str, column: str, other: str, number: int, now: list[Any] | None) -> str:
        found = "does not have" if now is None else f"has as {_words(now)}"
        then = _words(self._then[other].get(number, ["?"]))
        return (
            f"{self._contents.file}: {table}.{column} refers to row {number} of {other} ({then}), which database "
            f"{self._database} {found}; is it the agent that the archive is of, and not deployed again since?"
        )


def missing_rows(
    connection: Connection, file: Path, table: str, rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Rows of the archive that the database lacks; those that it has are the same in every column.

    Raises WMAgentError where a row has the key or the name of one, and is another.
    """
    keys = KEYS[table]
    wanted = {tuple(row[key] for key in keys): row for row in rows}
    columns = list(rows[0])
    found = connection.query(
        f"SELECT {', '.join(columns)} FROM {table} WHERE {in_list(keys[0], sorted({key[0] for key in wanted}))}"
    )
    for values in found:
        row = dict(zip(columns, map(plain, values), strict=True))
        archived = wanted.pop(tuple(row[key] for key in keys), row)
        if archived != row:
            different = next(column for column in columns if archived[column] != row[column])
            raise WMAgentError(
                f"{file}: {_key(table, row)} is in database {connection.database} with other contents: {different} is "
                f"{row[different]!r}, in the archive {archived[different]!r}; nothing is overwritten, look into it"
            )
    missing = list(wanted.values())
    if table in NAMES:
        _check_names(connection, file, table, missing)
    return missing


def _check_names(connection: Connection, file: Path, table: str, rows: Sequence[dict[str, Any]]) -> None:
    names = NAMES[table]
    named = [row for row in rows if all(row[name] is not None for name in names)]
    both = " AND ".join(f"{name} = %s" for name in names)
    for at in range(0, len(named), _NAMES_A_STATEMENT):
        part = named[at : at + _NAMES_A_STATEMENT]
        taken = connection.query(
            f"SELECT id, {', '.join(names)} FROM {table} WHERE {' OR '.join([f'({both})'] * len(part))}",
            [row[name] for row in part for name in names],
        )
        if taken:
            number, *values = taken[0]
            raise WMAgentError(
                f"{file}: {table} has {_words(values)} in database {connection.database} as row {int(number)}, in the "
                "archive it has another id; nothing is overwritten, look into it"
            )


def check_owners(connection: Connection, table: str, column: str, owner: str, ids: Iterable[int]) -> None:
    """Raise WMAgentError unless all these rows of another cleaned table are there."""
    wanted = sorted(ids)
    if not wanted:
        return
    there = {int(row[0]) for row in connection.query(f"SELECT id FROM {owner} WHERE {in_list('id', wanted)}")}
    if missing := [number for number in wanted if number not in there]:
        raise WMAgentError(
            f"{table}.{column} refers to row {missing[0]} of {owner}, which is neither in database "
            f"{connection.database} nor in this archive; restore the later archives of this database first"
        )


def _key(table: str, row: dict[str, Any]) -> str:
    return f"the row of {table} with {', '.join(f'{key} {row[key]}' for key in KEYS[table])}"


def _words(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)
