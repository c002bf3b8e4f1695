# SPDX-License-Identifier: GPL-3.0-or-later
"""Private MariaDB servers for tests, with production's settings."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import (
    MariaDBServer,
    install_data_directory,
    throwaway_mariadb,
)

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def mariadb_template(tmp_path_factory: pytest.TempPathFactory):
    """A fresh data directory to copy: quicker than making one for each server."""
    return install_data_directory(tmp_path_factory.mktemp("mariadb") / "template")


@pytest.fixture(scope="session")
def mariadb_server(mariadb_template) -> Iterator[MariaDBServer]:
    """One server for the whole test session; give each test its own database with ``agent_database``."""
    with throwaway_mariadb(template=mariadb_template) as server:
        yield server


@pytest.fixture(scope="module")
def no_certificates() -> Iterator[None]:
    """PyMySQL reads the system's certificates for every session, which takes longer than a test's session does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        yield


@pytest.fixture
def agent_database(mariadb_server: MariaDBServer) -> Iterator[DatabaseSettings]:
    """An empty database of its own; the account has all rights on it and no other."""
    name = f"wmagent_{os.getpid()}_{next(_numbers)}"
    create_database(mariadb_server, name)
    yield mariadb_server.settings(name)
    with connect(mariadb_server.root_settings(), read_only=False) as root:
        root.execute(f"DROP DATABASE {name}")


def create_database(server: MariaDBServer, name: str) -> None:
    """A database on which the account ``wmagent`` has all rights."""
    with connect(server.root_settings(), read_only=False) as root:
        root.execute(f"CREATE DATABASE {name}")
        for host in ("127.0.0.1", "localhost"):
            root.execute(f"GRANT ALL ON {name}.* TO 'wmagent'@'{host}'")


def run_script(settings: DatabaseSettings, script: str) -> None:
    """Run the statements of a script, split at semicolons."""
    with connect(settings, timeout=60, read_only=False) as connection:
        for statement in script.split(";"):
            if statement.strip():
                connection.execute(statement)
