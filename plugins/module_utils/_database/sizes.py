# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tables of an agent's database take, as the server itself has it noted."""

from __future__ import annotations

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_MARIADB = """
    SELECT table_name, data_length + index_length + data_free, table_rows FROM information_schema.tables
    WHERE table_schema = %s AND table_type = 'BASE TABLE'"""
_ORACLE = """
    SELECT t.table_name, SUM(s.bytes), MAX(t.num_rows) FROM user_tables t
    LEFT JOIN (SELECT segment_name AS belongs_to, bytes FROM user_segments WHERE segment_type LIKE 'TABLE%'
        UNION ALL SELECT i.table_name, x.bytes FROM user_indexes i
        INNER JOIN user_segments x ON x.segment_name = i.index_name) s ON s.belongs_to = t.table_name
    GROUP BY t.table_name"""


def read_table_sizes(connection: Connection) -> dict[str, dict[str, int | None]]:
    """Table → ``bytes`` of data, indexes and what is free in its file, and ``rows`` as the optimizer estimates them.

    None where the server does not tell. Raises WMAgentError, also where there is no table: an account without rights
    on any sees an empty database.
    """
    if connection.dialect == MARIADB:
        rows = connection.query(_MARIADB, (connection.database,))
    else:
        rows = connection.query(_ORACLE)
    if not rows:
        raise WMAgentError(
            f"{connection.settings.where}: {connection.database} has no table; check the account and database_name"
        )
    return {
        str(table).lower(): {"bytes": _number(size), "rows": _number(count)}
        for table, size, count in sorted(rows, key=lambda row: str(row[0]))
    }


def _number(value: object) -> int | None:
    return None if value is None else int(str(value))
