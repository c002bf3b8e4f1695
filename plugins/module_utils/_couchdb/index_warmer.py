# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a database's indexes close to its purges.

An index that falls more than ``purged_infos_limit`` purges behind is built anew from nothing, and until it has caught
up a compaction keeps every purge (CouchDB's documentation of clustered purge).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, read_view
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.indexes import follow, view_of


class Warmer:
    """Has all indexes of a database follow its purges, while the next ones are sent.

    limit, shards: the database's ``purged_infos_limit``, which holds for each of its shards, and how many it has
    go_on:         asked again and again while an index takes long
    """

    def __init__(
        self, client: CouchClient, database: str, limit: int, shards: int, go_on: Callable[[], bool] = lambda: True
    ) -> None:
        self._client = client
        self._go_on = go_on
        self._views = _one_view_each(client, database)
        # One stretch is followed while the next is purged; shards do not get exactly the same number.
        self.stretch = max(1, int(0.4 * limit * shards)) if self._views else 10_000
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="warm")
        self._following: Future[None] | None = None

    def __enter__(self) -> Warmer:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def purged(self) -> None:
        """Have the indexes follow another stretch, once they have followed the one before. Raises WMAgentError."""
        self.wait()
        if self._views:
            self._following = self._thread.submit(self._follow)

    def wait(self) -> None:
        """Until the indexes have followed what was noted. Raises WMAgentError."""
        if self._following:
            self._following.result()
            self._following = None

    def _follow(self) -> None:
        for view in self._views:
            if self._go_on():
                follow(self._client, view, self._go_on)


def _one_view_each(client: CouchClient, database: str) -> list[str]:
    """A view of each design document whose index exists: one that was never built has no purge to follow."""
    rows = client.get(path_of(database, "_design_docs?include_docs=true"))["rows"]
    found = []
    for document in (row["doc"] for row in rows):
        view = view_of(database, document)
        if view and read_view(client, database, document["_id"].removeprefix("_design/")).update_seq:
            found.append(view)
    return found
