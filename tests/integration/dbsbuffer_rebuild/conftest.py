# SPDX-License-Identifier: GPL-3.0-or-later
"""A database with some of everything for tests of a rebuild."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer
from support.dbsbuffer.fixtures import mariadb_agent
from support.dbsbuffer.rebuilding import contents, fill, session


@pytest.fixture(scope="module", autouse=True)
def _quick_sessions(no_certificates: None) -> None:
    """A rebuild opens eight."""


@pytest.fixture(scope="module")
def shared(mariadb_server: MariaDBServer) -> Iterator[DatabaseSettings]:
    with mariadb_agent(mariadb_server) as found:
        yield found


@pytest.fixture
def agent(shared: DatabaseSettings) -> DatabaseSettings:
    """A database with some of everything."""
    fill(shared, contents())
    return shared


@pytest.fixture
def connection(agent: DatabaseSettings) -> Iterator[Connection]:
    with session(agent) as found:
        yield found


@pytest.fixture
def root(mariadb_server: MariaDBServer) -> Iterator[Connection]:
    """An administrator without a database, whom the agent's account does not see."""
    with connect(mariadb_server.root_settings(), statement_timeout=60, read_only=False) as found:
        yield found
