# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes that a module leaves in a database for its next run, in ``_local`` documents, which nothing replicates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of

PREFIX = "_local/dmwm.wmagent."


def read_note(client: CouchClient, database: str, name: str) -> dict[str, Any]:
    """What was noted, ``{}`` where nothing was. Raises CouchError, also where the database does not exist."""
    path = path_of(database, PREFIX + name)
    found = client.find(path)
    if found is None:
        client.get(path_of(database))  # a database that is missing is an error, a note is not
        return {}
    return {key: value for key, value in found.items() if not key.startswith("_")}


def write_note(client: CouchClient, database: str, name: str, note: Mapping[str, Any]) -> None:
    """Note this in the place of what was noted. Raises CouchError."""
    path = path_of(database, PREFIX + name)
    found = client.find(path)
    client.put(path, {**note, **({"_rev": found["_rev"]} if found else {})})


def remove_note(client: CouchClient, database: str, name: str) -> None:
    """Note nothing any more. Raises CouchError."""
    path = path_of(database, PREFIX + name)
    found = client.find(path)
    if found:
        client.delete(f"{path}?rev={found['_rev']}")
