# SPDX-License-Identifier: GPL-3.0-or-later
"""Have CouchDB bring an index up to date: whoever asks a view waits for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchLostError
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of


def view_of(database: str, document: Mapping[str, Any]) -> str | None:
    """The path of one row of a design document's first view, None where it has none: all its views share an index."""
    view = next(iter(sorted(document.get("views") or {})), None)
    if view is None:
        return None
    design = quote(str(document["_id"]).removeprefix("_design/"), safe="")
    return path_of(database, "_design", design, "_view", quote(view, safe="")) + "?limit=1&reduce=false"


def follow(client: CouchClient, view: str, go_on: Callable[[], bool]) -> bool:
    """Ask a view until it answers; False where go_on said no after an answer that took too long. Raises CouchError."""
    while True:
        try:
            client.get(view)
            return True
        except CouchLostError as error:
            # The server goes on with an index whose reader did not wait for it.
            if not error.timed_out:
                raise
        if not go_on():
            return False
