# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent's empty database for one test or a group of tests; context managers, to make fixtures of any scope with."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer
from support.dbsbuffer.oracle import OracleDatabase, oracle_database
from support.dbsbuffer.schema import create_mariadb, create_oracle
from support.mariadb import create_database

_numbers = itertools.count(1)


@contextmanager
def mariadb_agent(server: MariaDBServer) -> Iterator[DatabaseSettings]:
    """A database of its own on a running server, with all tables of an agent; dropped afterwards."""
    name = f"dbsbuffer_{os.getpid()}_{next(_numbers)}"
    create_database(server, name)
    try:
        settings = server.settings(name)
        create_mariadb(settings)
        yield settings
    finally:
        with connect(server.root_settings(), timeout=60, read_only=False) as root:
            root.execute(f"DROP DATABASE {name}")


@contextmanager
def mariadb_session(server: MariaDBServer, *, timeout: float = 30) -> Iterator[Connection]:
    """A session that may write, with such a database. timeout: seconds for a statement."""
    with mariadb_agent(server) as settings, connect(settings, timeout, read_only=False) as connection:
        yield connection


@contextmanager
def oracle_agent() -> Iterator[OracleDatabase]:
    """An Oracle account of its own with all tables of an agent; gone afterwards."""
    with oracle_database() as database:
        with database.session() as connection:
            create_oracle(connection)
        yield database


@contextmanager
def oracle_session() -> Iterator[Connection]:
    """A session that may write, with such an account."""
    with oracle_agent() as database, database.session() as connection:
        yield connection
