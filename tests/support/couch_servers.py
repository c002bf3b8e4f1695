# SPDX-License-Identifier: GPL-3.0-or-later
"""CouchDB servers for tests: the lab's stand-in, and a real one where COUCHDB_URL names one."""

from __future__ import annotations

import itertools
import json
import os
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings
from support.agent import processes  # noqa: F401 - makes the lab's own package importable
from support.secrets import write_secrets
from wmagent_lab.couch_standin import VERSION, Couch, serving
from wmagent_lab.couch_store import Store

KINDS = ["stand-in", *(["real"] if os.environ.get("COUCHDB_URL") else [])]
"""What a test's ``kind`` is parametrised with."""

_numbers = itertools.count(1)


@contextmanager
def couch_server(kind: str) -> Iterator[CouchSettings]:
    """A server of that kind."""
    if kind == "stand-in":
        with stand_in() as (settings, _):
            yield settings
    else:
        url = urllib.parse.urlsplit(os.environ["COUCHDB_URL"].split()[0])
        words = [urllib.parse.unquote(word or "") for word in (url.username, url.password)]
        yield CouchSettings(url.hostname or "", url.port or 5984, *words, url.scheme == "https")


@contextmanager
def stand_in(version: str = VERSION) -> Iterator[tuple[CouchSettings, Couch]]:
    """The lab's stand-in, and what makes things go wrong in it (``couch.faults``)."""
    couch = Couch(Store(None, 1), version=version)
    with serving(couch, "u", "couch-word") as port:
        yield CouchSettings("127.0.0.1", port, "u", "couch-word"), couch


@contextmanager
def couch_database(settings: CouchSettings) -> Iterator[str]:
    """The name, with a slash as jobdump's have, of an empty database; dropped afterwards."""
    name = f"test{os.getpid()}_{next(_numbers)}/jobs"
    client = CouchClient(settings)
    path = "/" + urllib.parse.quote(name, safe="")
    client.request("PUT", path)
    try:
        yield name
    finally:
        client.request("DELETE", path)


NO_DATABASE = DatabaseSettings("mariadb", "nobody", "db-word", "wmagent", "127.0.0.1", 1)


def secrets_of(server: CouchSettings, folder: Path) -> str:
    """The path of a WMAgent.secrets that leads to this server."""
    secrets = write_secrets(folder / "WMAgent.secrets", NO_DATABASE, server.port)
    text = secrets.read_text().replace("COUCH_USER=u\n", f"COUCH_USER={server.user}\n")
    secrets.write_text(text.replace("COUCH_PASS=couch-word\n", f"COUCH_PASS={server.password}\n"))
    return str(secrets)


def write(client: CouchClient, database: str, numbers: Iterable[int], **more: Any) -> None:
    """New documents with these ids."""
    documents = [{"_id": str(number), "workflow": f"w{number % 3}", "text": "x" * 500} | more for number in numbers]
    client.post(path_of(database, "_bulk_docs"), {"docs": documents})


def delete(client: CouchClient, database: str, numbers: Iterable[int]) -> None:
    """Tombstones in the place of these documents."""
    rows = client.post(path_of(database, "_all_docs"), {"keys": [str(number) for number in numbers]})["rows"]
    gone = [{"_id": row["id"], "_rev": row["value"]["rev"], "_deleted": True} for row in rows]
    client.post(path_of(database, "_bulk_docs"), {"docs": gone})


def add_leaf(client: CouchClient, database: str, name: str, revision: str, deleted: bool = False) -> None:
    """A leaf of its own of a document: a conflict, or one that lost against a tombstone or was deleted."""
    number, _, digest = revision.partition("-")
    document = {"_id": name, "_rev": revision, "_revisions": {"start": int(number), "ids": [digest]}}
    documents = [document | ({"_deleted": True} if deleted else {"text": revision})]
    client.post(path_of(database, "_bulk_docs"), {"docs": documents, "new_edits": False})


def live(client: CouchClient, database: str) -> dict[str, tuple[frozenset[str], str]]:
    """Id -> all leaf revisions and the winner's body as text, of each live document."""
    rows = client.get(path_of(database, "_changes?style=all_docs&include_docs=true"))["results"]
    return {
        row["id"]: (frozenset(leaf["rev"] for leaf in row["changes"]), json.dumps(row["doc"], sort_keys=True))
        for row in rows
        if not row.get("deleted")
    }
