# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence that no record of an agent's database was touched: read while the agent is stopped, compared later.

Two readings that compare as equal prove that no row of any table was inserted, updated or deleted and no table was
changed in between. What cannot be told counts as a difference. docs/evidence.md tells what each database gives.

A reading is plain data that JSON can hold::

    {"dialect": "mariadb", "database": "wmagent", "server": {…}, "tables": {"wmbs_job": {…}, …}, "taken": 1790000000.0}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database import mariadb_evidence, oracle_evidence
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import ORACLE, Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

Records = dict[str, Any]

_COMPARED = ("dialect", "database", "server", "tables")


def read_records(connection: Connection, *, lock_wait: float = 5) -> Records:
    """A reading of all tables, consistent and settled: whatever is committed afterwards makes a later one differ.

    The tables are locked against writers for the moment of the reading (normally a few milliseconds, at most about a
    second where something was written just before). A read-only session is enough.

    lock_wait: seconds to wait for transactions that are still writing.

    Raises WMAgentError: open transactions, missing rights, a server that cannot give this evidence.
    """
    if connection.dialect == ORACLE:
        return oracle_evidence.read(connection, lock_wait)
    return mariadb_evidence.read(connection, lock_wait)


def compare_records(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What was changed between two readings, one line each; empty only where nothing was. Pure.

    Raises WMAgentError where one of them is no reading.
    """
    for records in (before, after):
        if not isinstance(records, Mapping) or not all(records.get(key) for key in _COMPARED):
            raise WMAgentError("this is no reading of a database's records; take it with records_info")
    for key, word in (("dialect", "kind of database"), ("database", "database")):
        if before[key] != after[key]:
            return [f"the readings are of another {word}: {before[key]} and {after[key]}"]
    compare = oracle_evidence.compare if before["dialect"] == ORACLE else mariadb_evidence.compare
    return compare(before, after)


def digest(records: Mapping[str, Any]) -> str:
    """``sha256:<hex>`` of what a reading says, without when it was taken: equal where nothing happened in between."""
    said = json.dumps({key: records[key] for key in _COMPARED}, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(said.encode()).hexdigest()
