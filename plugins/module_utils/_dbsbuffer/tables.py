# SPDX-License-Identifier: GPL-3.0-or-later
"""DBSBuffer's tables, as far as cleaning them goes (wmcoredb ``sql/*/dbs3buffer/create_dbs3buffer.sql``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Queries
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

FILE = "dbsbuffer_file"
BLOCK = "dbsbuffer_block"
WORKFLOW = "dbsbuffer_workflow"
PARENT = "dbsbuffer_file_parent"

CHILDREN = (
    ("dbsbuffer_file_runlumi_map", ("filename",)),
    ("dbsbuffer_file_checksums", ("fileid",)),
    ("dbsbuffer_file_location", ("filename",)),
    (PARENT, ("child", "parent")),
)
"""Tables whose rows belong to a file, in the order of deletion, each with the columns that name the file."""

CLEANED = (*(table for table, _ in CHILDREN), FILE, BLOCK, WORKFLOW)
"""All tables that rows are deleted from, children first. Every other table is only read."""

NEEDED = {
    FILE: (
        "id",
        "lfn",
        "dataset_algo",
        "block_id",
        "status",
        "in_phedex",
        "workflow",
        "lastmodificationdate",
    ),
    BLOCK: ("id", "dataset_id", "create_time", "status", "deleted", "rule_id"),
    WORKFLOW: ("id", "name", "completed"),
    **{table: columns for table, columns in CHILDREN},
    "dbsbuffer_algo_dataset_assoc": ("id", "dataset_id"),
    "dbsbuffer_dataset_subscription": ("dataset_id", "subscribed", "delete_blocks"),
    "wmbs_workflow": ("name",),
    "wmbs_file_details": ("id", "lfn"),
    "wmbs_fileset_files": ("fileid",),
    "wmbs_job_assoc": ("fileid",),
    "wmbs_file_parent": ("parent",),
}
"""Columns that the rules and statements name."""

NEVER_REGISTERED = ("%unmerged%", "MCFakeFile%", "%BACKFILL%", "/store/user%")
"""LFNs of files that RucioInjector never registers, as SQL patterns (WMComponent DBS3Buffer CountPhedexNotUploaded)."""

USED_IN_WMBS = """(EXISTS (SELECT 1 FROM wmbs_fileset_files x WHERE x.fileid = w.id)
    OR EXISTS (SELECT 1 FROM wmbs_job_assoc x WHERE x.fileid = w.id)
    OR EXISTS (SELECT 1 FROM wmbs_file_parent x WHERE x.parent = w.id))"""
"""A row ``w`` of wmbs_file_details that JobAccountant may still come to as a parent.

WMCore's Subscription.deleteEverything leaves the row of each file that a merge job wrote behind for good: the file is
in the job group's fileset and in the merged one, and each is a reason not to delete it with the other.
"""

WMBS_FILES_IN_USE = """(SELECT x.fileid FROM wmbs_fileset_files x
    UNION SELECT x.fileid FROM wmbs_job_assoc x
    UNION SELECT x.parent FROM wmbs_file_parent x)"""
"""The ids of the same rows, of which there are far fewer than are left behind: for a look at all of them."""

_LIST = 1000
"""Values in one list: Oracle takes no more (ORA-01795)."""


def check_schema(connection: Queries) -> None:
    """Raise WMAgentError that names every table or column that is needed and missing."""
    found = _columns(connection)
    missing = []
    for table, columns in NEEDED.items():
        if table not in found:
            missing.append(f"table {table}")
        else:
            missing += [f"column {table}.{column}" for column in columns if column not in found[table]]
    if missing:
        raise WMAgentError(
            f"database {connection.database} is no agent's, or of a release that is not known here: it lacks "
            f"{', '.join(missing)}; check wmagent_database_name"
        )


def _columns(connection: Queries) -> dict[str, set[str]]:
    if connection.dialect == MARIADB:
        rows = connection.query(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s",
            (connection.database,),
        )
    else:
        rows = connection.query("SELECT table_name, column_name FROM user_tab_columns")
    found: dict[str, set[str]] = {}
    for table, column in rows:
        found.setdefault(str(table).lower(), set()).add(str(column).lower())
    return found


def in_list(column: str, ids: Iterable[int]) -> str:
    """``column IN (1, 2, …)`` in pieces that either dialect takes; false for no ids."""
    numbers = [str(int(number)) for number in ids]
    if not numbers:
        return "1 = 0"
    parts = [f"{column} IN ({', '.join(numbers[at : at + _LIST])})" for at in range(0, len(numbers), _LIST)]
    return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"


@dataclass(frozen=True)
class Chosen:
    """Files that go, for conditions on their ids.

    ids:     in order
    staying: every other id that stands between the first and the last of them; None where that is not known
    """

    ids: Sequence[int]
    staying: Sequence[int] | None = None

    def among(self, column: str) -> str:
        """A condition that holds for a column with one of the ids.

        One range and a filter where that is the shorter way: for each of many ranges the server looks into its indexes
        before it begins. ``+ 0`` keeps it from making ranges of the filter.
        """
        if not self.ids:
            return "1 = 0"
        if self.staying is None or len(self.staying) > len(self.ids):
            return in_list(column, self.ids)
        within = f"{column} BETWEEN {self.ids[0]} AND {self.ids[-1]}"
        return f"{within} AND NOT {in_list(f'{column} + 0', self.staying)}" if self.staying else within
