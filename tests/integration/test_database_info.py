# SPDX-License-Identifier: GPL-3.0-or-later
"""Module database_info on a real MariaDB, with the tables of a real agent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.modules import database_info
from support.dbsbuffer.fixtures import mariadb_agent
from support.secrets import write_secrets

pytestmark = pytest.mark.usefixtures("no_certificates")
_numbers = itertools.count(1)


@pytest.fixture
def database(mariadb_server) -> Iterator[DatabaseSettings]:
    with mariadb_agent(mariadb_server) as settings:
        yield settings


def ask(folder: Path, database: DatabaseSettings) -> dict[str, Any]:
    secrets = write_secrets(folder / f"WMAgent.secrets{next(_numbers)}", database)
    return database_info.run({"secrets": str(secrets), "database_name": database.name, "timeout": 20})


def test_what_was_written_shows_in_its_table_and_in_all(database: DatabaseSettings, tmp_path: Path) -> None:
    before = ask(tmp_path, database)
    with connect(database, 60, read_only=False) as connection:
        connection.execute("CREATE TABLE much (id INT PRIMARY KEY, text VARCHAR(3000)) ENGINE=InnoDB")
        connection.execute("INSERT INTO much SELECT seq, REPEAT('x', 3000) FROM seq_1_to_3000")
        connection.query("ANALYZE TABLE much")
    after = ask(tmp_path, database)
    assert before["dialect"] == "mariadb"
    assert {"wmbs_job", "dbsbuffer_file"} <= before["tables"].keys()
    assert after["tables"].keys() == before["tables"].keys() | {"much"}
    assert after["tables"]["much"]["rows"] == pytest.approx(3000, rel=0.3)
    assert after["tables"]["much"]["bytes"] > 9e6
    assert after["bytes"] == before["bytes"] + after["tables"]["much"]["bytes"]


def test_a_database_without_tables_is_no_small_one(agent_database: DatabaseSettings, tmp_path: Path) -> None:
    with pytest.raises(WMAgentError, match="has no table; check the account and database_name"):
        ask(tmp_path, agent_database)
