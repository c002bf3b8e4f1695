# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of a CouchDB: each test runs against the lab's stand-in and, where COUCHDB_URL names one, a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchSettings
from support.couch_servers import KINDS, couch_database, couch_server


@pytest.fixture(params=KINDS)
def couch(request) -> Iterator[CouchSettings]:
    """How to reach the server."""
    with couch_server(request.param) as settings:
        yield settings


@pytest.fixture
def couch_client(couch) -> CouchClient:
    return CouchClient(couch)


@pytest.fixture
def couch_db(couch) -> Iterator[str]:
    """The name, with a slash, of an empty database."""
    with couch_database(couch) as name:
        yield name
