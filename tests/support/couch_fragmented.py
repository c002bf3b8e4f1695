# SPDX-License-Identifier: GPL-3.0-or-later
"""A database of which most is unused, for tests of compaction."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of
from support.couch_servers import couch_database, delete, stand_in, write
from wmagent_lab.couch_routes import Couch

VIEW = {"language": "javascript", "views": {"all": {"map": "function (doc) { emit(doc.workflow, doc.text); }"}}}


@contextlib.contextmanager
def faulty() -> Iterator[tuple[Couch, CouchClient, str]]:
    """A stand-in whose faults are at hand, and a database with something to gain."""
    with stand_in() as (settings, couch), couch_database(settings) as name:
        client = CouchClient(settings)
        fragment(client, name)
        yield couch, client, name


def fragment(client: CouchClient, database: str) -> None:
    """Fill a database and its view, then have most of it unused."""
    client.put(path_of(database, "_design/Jobs"), VIEW)
    for first in range(0, 600, 100):
        # Random, since CouchDB compresses what it writes.
        write(client, database, range(first, first + 100), text=random.Random(first).randbytes(500).hex())
        client.get(path_of(database, "_design/Jobs/_view/all?limit=1"))
    delete(client, database, range(550))
    client.get(path_of(database, "_design/Jobs/_view/all?limit=1"))
