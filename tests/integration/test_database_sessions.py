# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions with a real MariaDB: what goes wrong is one line, and a read-only session writes nothing."""

from __future__ import annotations

import dataclasses
import socket
import time
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import throwaway_mariadb
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def refused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_queries_and_parameters(agent_database: DatabaseSettings):
    with connect(agent_database, read_only=False) as connection:
        connection.execute("CREATE TABLE t (a INT, b VARCHAR(20))")
        assert connection.execute("INSERT INTO t VALUES (%s, %s), (2, 'x%%')", [1, "it's"]) == 2
        assert connection.query("SELECT a, b FROM t WHERE b LIKE %s ORDER BY a", ["%"]) == [(1, "it's"), (2, "x%")]
        connection.begin()
        connection.execute("DELETE FROM t")
        connection.rollback()
        assert connection.query("SELECT COUNT(*) FROM t") == [(2,)]
        assert connection.database == agent_database.name


def test_production_settings(agent_database: DatabaseSettings):
    with connect(agent_database) as connection:
        said = connection.query("SELECT @@tx_isolation, @@character_set_server, @@global.sql_mode")
    assert said == [("READ-COMMITTED", "latin1", "STRICT_TRANS_TABLES")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": "wrong-word"}, "refuses user wmagent with this password"),
        ({"user": "nobody"}, "refuses user nobody"),
        ({"name": "no_such_database"}, "no access to database no_such_database"),
        ({"port": None}, "cannot be reached"),
        ({"host": "no.such.host.invalid"}, "cannot be reached"),
        ({"socket": "/nonexistent/socket"}, "cannot be reached"),
        ({"tls_ca": "/etc/ssl/certs/ca-certificates.crt"}, "no TLS session"),
        ({"tls_ca": "/nonexistent/ca.pem"}, "no TLS session"),
        ({"dialect": "postgres"}, "no such database dialect"),
    ],
)
def test_what_goes_wrong_is_one_line(agent_database: DatabaseSettings, change, said):
    if change.get("port", 0) is None:
        change = {"port": refused_port()}
    with pytest.raises(WMAgentError) as error:
        connect(dataclasses.replace(agent_database, **change), timeout=5)
    text = str(error.value)
    assert said in text
    assert "\n" not in text and agent_database.password not in text and "wrong-word" not in text


def test_an_unknown_database_for_an_account_that_may_see_it(mariadb_server):
    with pytest.raises(WMAgentError, match="has no database nowhere"):
        connect(mariadb_server.root_settings("nowhere"))


def test_a_server_that_says_nothing():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        settings = DatabaseSettings("mariadb", "u", "p", "d", "127.0.0.1", listener.getsockname()[1])
        start = time.monotonic()
        with pytest.raises(WMAgentError, match="within 1 s"):
            connect(settings, timeout=1)
        assert time.monotonic() - start < 5


def test_a_read_only_session_writes_nothing(agent_database: DatabaseSettings):
    with connect(agent_database) as connection:
        for statement in ("CREATE TABLE t (a INT)", "DROP DATABASE " + agent_database.name):
            with pytest.raises(WMAgentError, match="read-only session"):
                connection.execute(statement)


def test_a_statement_has_a_time_limit(agent_database: DatabaseSettings):
    with connect(agent_database, statement_timeout=2) as connection:
        start = time.monotonic()
        with pytest.raises(WMAgentError, match="did not answer within 2 s"):
            connection.query("SELECT COUNT(MD5(a.seq * b.seq)) FROM seq_1_to_100000 a, seq_1_to_100000 b")
        assert time.monotonic() - start < 4


def test_a_server_that_goes_away(mariadb_template: Path):
    with throwaway_mariadb(template=mariadb_template) as server:
        with connect(server.settings()) as connection:
            server.stop(kill=True)
            with pytest.raises(WMAgentError, match="closed the connection"):
                connection.query("SELECT 1")
        assert not server.process


def test_passwords_of_a_private_server_are_on_no_command_line(mariadb_server):
    command = Path(f"/proc/{mariadb_server.process.pid}/cmdline").read_text()
    assert mariadb_server.password not in command and mariadb_server.root_password not in command
    assert mariadb_server.password not in repr(mariadb_server)
    init_file = mariadb_server.folder / "init.sql"
    assert init_file.stat().st_mode & 0o077 == 0


def test_two_private_servers_side_by_side(mariadb_template: Path):
    with throwaway_mariadb(template=mariadb_template) as one, throwaway_mariadb(template=mariadb_template) as two:
        assert one.port != two.port
        for server in (one, two):
            with connect(server.settings()) as connection:
                assert connection.query("SELECT @@port") == [(server.port,)]
        folders = [one.folder, two.folder]
    assert not any(folder.exists() for folder in folders)
