# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's database and its CouchDB together, seen only for whether any record in them changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import server as couchdb
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.evidence import (
    compare_records,
    digest,
    read_records,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


class AgentRecords:
    """Both databases of one agent. Sessions are opened once, before anything stops, and kept for all readings."""

    def __init__(self, settings: DatabaseSettings, secrets: Mapping[str, str], timeout: float = 30) -> None:
        self._settings = settings
        self._couch = settings_from_secrets(secrets)
        self._timeout = timeout
        self._session: Connection | None = None

    def check(self) -> None:
        """See that both databases answer, without a lock on anything. Raises WMAgentError."""
        self._connected().query("SELECT 1 FROM wm_components WHERE 1 = 0")
        couchdb.read_databases(self._couch)

    def read(self) -> dict[str, Any]:
        """A reading of both. Raises WMAgentError."""
        return {"database": read_records(self._connected()), "couchdb": couchdb.read_databases(self._couch)}

    def changes(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
        """One line for each table or database that changed in between."""
        return [
            *compare_records(before["database"], after["database"]),
            *couchdb.compare_databases(before["couchdb"], after["couchdb"]),
        ]

    def summary(self, reading: Mapping[str, Any]) -> str:
        """How much was compared."""
        tables = len(reading["database"]["tables"])
        return f"{tables} tables, {couchdb.describe(reading['couchdb'])} unchanged"

    def digest(self, reading: Mapping[str, Any]) -> str:
        """``sha256:<hex>`` of the database's reading, for the ledger: equal where nothing happened in between."""
        return digest(reading["database"])

    def _connected(self) -> Connection:
        if self._session is None:
            self._session = connect(self._settings, self._timeout)
            return self._session
        try:
            self._session.query("SELECT 1 FROM wm_components WHERE 1 = 0")
        except WMAgentError:
            self._session = connect(self._settings, self._timeout)
        return self._session
