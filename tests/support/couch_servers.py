# SPDX-License-Identifier: GPL-3.0-or-later
"""CouchDB servers for tests: the lab's stand-in, and a real one where COUCHDB_URL names one."""

from __future__ import annotations

import itertools
import os
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchSettings
from support.agent import processes  # noqa: F401 - makes the lab's own package importable
from wmagent_lab.couch_standin import Couch, serving
from wmagent_lab.couch_store import Store

KINDS = ["stand-in", *(["real"] if os.environ.get("COUCHDB_URL") else [])]
"""What a test's ``kind`` is parametrised with."""

_numbers = itertools.count(1)


@contextmanager
def couch_server(kind: str) -> Iterator[CouchSettings]:
    """A server of that kind."""
    if kind == "stand-in":
        with serving(Couch(Store(None, 1)), "u", "couch-word") as port:
            yield CouchSettings("127.0.0.1", port, "u", "couch-word")
    else:
        url = urllib.parse.urlsplit(os.environ["COUCHDB_URL"].split()[0])
        words = [urllib.parse.unquote(word or "") for word in (url.username, url.password)]
        yield CouchSettings(url.hostname or "", url.port or 5984, *words, url.scheme == "https")


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
