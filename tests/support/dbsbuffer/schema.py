# SPDX-License-Identifier: GPL-3.0-or-later
"""WMCore's own schema files, as wmcoredb carries them, run on a test's database."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import wmcoredb
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.h2 import split_statements

FILES = (
    ("wmbs", "create_wmbs_tables.sql"),
    ("wmbs", "create_wmbs_indexes.sql"),
    ("wmbs", "initial_wmbs_data.sql"),
    ("agent", "create_agent.sql"),
    ("dbs3buffer", "create_dbs3buffer.sql"),
    ("bossair", "create_bossair.sql"),
    ("resourcecontrol", "create_resourcecontrol.sql"),
)
"""What an agent's database is made of, in the order in which ``wmcore-db-init`` runs it."""

CLEARED = (
    "dbsbuffer_file_parent",
    "dbsbuffer_file_runlumi_map",
    "dbsbuffer_file_location",
    "dbsbuffer_file_checksums",
    "dbsbuffer_file",
    "dbsbuffer_block",
    "dbsbuffer_workflow",
    "dbsbuffer_dataset_subscription",
    "dbsbuffer_algo_dataset_assoc",
    "dbsbuffer_algo",
    "dbsbuffer_dataset",
    "dbsbuffer_location",
    "wmbs_workflow",
    "wmbs_job_assoc",
    "wmbs_file_parent",
    "wmbs_fileset_files",
    "wmbs_fileset",
    "wmbs_file_details",
)
"""The tables that :func:`clear` empties, children first; the checksum types stay."""

_COMMENT = re.compile(r"--[^\n]*")


def create_mariadb(settings: DatabaseSettings) -> None:
    """All tables of an agent in an empty MariaDB database."""
    with connect(settings, timeout=60, read_only=False) as connection:
        for statement in _statements("mariadb"):
            connection.execute(statement)


def create_oracle(connection: Connection) -> None:
    """All tables of an agent in an empty Oracle account, by the unmodified files."""
    for statement in _statements("oracle"):
        connection.execute(statement)
    connection.commit()


def clear(connection: Connection) -> None:
    """Empty what a test has filled; quick for small contents."""
    connection.begin()
    for table in CLEARED:
        connection.execute(f"DELETE FROM {table}")
    connection.commit()


@cache
def _statements(dialect: str) -> tuple[str, ...]:
    statements: list[str] = []
    for module, name in FILES:
        text = Path(wmcoredb.get_sql_file(module, name, dialect)).read_text(encoding="utf-8")
        if dialect == "oracle":
            statements += split_statements(text)
        else:
            statements += [part.strip() for part in _COMMENT.sub("", text).split(";") if part.strip()]
    return tuple(statements)
