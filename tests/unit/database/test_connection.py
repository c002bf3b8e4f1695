# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings out of the secrets, and what drivers' errors are told as."""

from __future__ import annotations

import sys

import pymysql
import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    DatabaseSettings,
    _oracle_placeholders,
    connect,
    settings_from_secrets,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.driver_errors import DatabaseBusyError, translate
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

MARIADB = DatabaseSettings("mariadb", "wma", "s3cret-word", "wmagent", "db.example", 3307)
ORACLE = DatabaseSettings("oracle", "wma", "s3cret-word", "cms_tns")


@pytest.mark.parametrize(
    ("secrets", "host", "port", "socket"),
    [
        ({"MDB_USER": "u", "MDB_PASS": "p", "MDB_HOST": "127.0.0.1"}, "127.0.0.1", 3306, ""),
        ({"MDB_USER": "u", "MDB_PASS": "p"}, "127.0.0.1", 3306, ""),
        ({"MDB_USER": "u", "MDB_PASS": "p", "MDB_HOST": "db:3307"}, "db", 3307, ""),
        ({"MDB_USER": "u", "MDB_PASS": "p", "MDB_HOST": "db", "MDB_PORT": "3308"}, "db", 3308, ""),
        ({"MDB_USER": "u", "MDB_PASS": "p", "MDB_HOST": "db:3307", "MDB_PORT": "3308"}, "db", 3307, ""),
        ({"MDB_USER": "u", "MDB_PASS": "p", "MDB_HOST": "[::1]:3307"}, "::1", 3307, ""),
        ({"MDB_USER": "u", "MDB_PASS": "p", "MDB_SOCK": "/s"}, "127.0.0.1", 3306, "/s"),
        ({"MDB_USER": "u", "MDB_PASS": "p", "MDB_UNIX_SOCKET": "/s"}, "127.0.0.1", 3306, "/s"),
        ({"MYSQL_USER": "u", "MYSQL_PASS": "p", "MYSQL_HOST": "old"}, "old", 3306, ""),
    ],
)
def test_mariadb_settings(secrets, host, port, socket):
    settings = settings_from_secrets(secrets, "mine")
    assert (settings.dialect, settings.user, settings.password, settings.name) == ("mariadb", "u", "p", "mine")
    assert (settings.host, settings.port, settings.socket) == (host, port, socket)


def test_oracle_settings():
    settings = settings_from_secrets({"ORACLE_USER": "u", "ORACLE_PASS": "p", "ORACLE_TNS": "tns"}, "ignored")
    assert (settings.dialect, settings.user, settings.password, settings.name) == ("oracle", "u", "p", "tns")


@pytest.mark.parametrize(
    ("secrets", "word"),
    [
        ({}, "MDB_USER"),
        ({"MDB_USER": "u"}, "MDB_PASS"),
        ({"MYSQL_USER": "u"}, "MYSQL_PASS"),
        ({"ORACLE_USER": "u"}, "ORACLE_PASS"),
        ({"ORACLE_USER": "u", "ORACLE_PASS": "p"}, "ORACLE_TNS"),
        ({"MDB_USER": "u", "MDB_PASS": "p", "MDB_HOST": "db:port"}, "MDB_HOST"),
        ({"MDB_USER": "u", "MDB_PASS": "p", "MDB_HOST": "db", "MDB_PORT": "99999"}, "MDB_PORT"),
    ],
)
def test_what_is_missing_is_named(secrets, word):
    with pytest.raises(WMAgentError, match=word):
        settings_from_secrets(secrets)


def test_the_password_is_in_no_text():
    assert "s3cret-word" not in repr(MARIADB)
    assert "s3cret-word" not in MARIADB.where
    error = translate(MARIADB, pymysql.OperationalError(9999, "tried s3cret-word"), 1)
    assert "s3cret-word" not in str(error)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        (MARIADB, pymysql.OperationalError(1045, "Access denied"), "check the user and password"),
        (MARIADB, pymysql.OperationalError(1049, "Unknown database"), "has no database wmagent"),
        (MARIADB, pymysql.OperationalError(1044, "denied"), "no access to database wmagent"),
        (
            MARIADB,
            pymysql.OperationalError(2003, "Can't connect (Connection refused)"),
            "cannot be reached",
        ),
        (MARIADB, pymysql.OperationalError(2003, "Can't connect (timed out)"), "within 7 s"),
        (MARIADB, pymysql.OperationalError(2013, "Lost connection (The read operation timed out)"), "within 7 s"),
        (MARIADB, pymysql.OperationalError(2013, "Lost connection"), "closed the connection"),
        (MARIADB, pymysql.OperationalError(1969, "max_statement_time exceeded"), "within 7 s"),
        (MARIADB, pymysql.OperationalError(2026, "SSL is required"), "no TLS session"),
        (MARIADB, pymysql.OperationalError(2003, "certificate verify failed"), "no TLS session"),
        (MARIADB, pymysql.ProgrammingError(1146, "Table 'x' doesn't exist"), "Table 'x'"),
        (MARIADB, RuntimeError("'cryptography' package is required"), "cryptography"),
        (ORACLE, RuntimeError("ORA-01017: invalid username/password"), "check the user and password"),
        (ORACLE, RuntimeError("DPY-6005: cannot connect\n[Errno 111] Connection refused"), "cannot be reached"),
        (ORACLE, RuntimeError('DPY-6001: Service "x" is not registered. (similar to ORA-12514)'), "has no database"),
        (ORACLE, RuntimeError("DPY-4024: call timeout of 7000 ms exceeded"), "within 7 s"),
        (ORACLE, RuntimeError("ORA-00942: table does not exist Help: https://docs.example/ORA-00942"), "ORA-00942"),
    ],
)
def test_errors_in_one_line(settings, error, said):
    text = str(translate(settings, error, 7))
    assert said in text
    assert text.startswith(settings.where)
    assert "\n" not in text and "Help:" not in text


def test_a_lock_that_is_held_has_its_own_error():
    assert isinstance(translate(MARIADB, pymysql.OperationalError(1205, "Lock wait timeout"), 1), DatabaseBusyError)
    assert isinstance(translate(ORACLE, RuntimeError("ORA-00054: resource busy"), 1), DatabaseBusyError)


def test_a_missing_driver_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(WMAgentError, match="install PyMySQL"):
        connect(MARIADB)
    monkeypatch.setitem(sys.modules, "oracledb", None)
    monkeypatch.setitem(sys.modules, "cx_Oracle", None)
    with pytest.raises(WMAgentError, match="install python-oracledb"):
        connect(ORACLE)


def test_placeholders_for_oracle():
    assert _oracle_placeholders("a = %s AND b LIKE 'x%%' AND c = %s") == "a = :1 AND b LIKE 'x%' AND c = :2"
