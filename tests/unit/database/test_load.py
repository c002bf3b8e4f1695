# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a server's load, without a server."""

from __future__ import annotations

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database import load as load_module
from ansible_collections.dmwm.wmagent.plugins.module_utils._database import oracle_rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.h2 import structure_of_statements
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.load import (
    _ACTIVE_SESSIONS,
    Load,
    MariaDBLoad,
    OracleLoad,
    load_reader,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

REPLICAS = [DatabaseSettings("mariadb", "watcher", "s3cret", host=host) for host in ("near", "far")]


class Session:
    """Gives prepared answers."""

    def __init__(self, rows=(), *, dialect="mariadb", settings=None, error=None) -> None:
        self.rows = rows
        self.dialect = dialect
        self.database = "WMA"
        self.settings = settings
        self.error = error
        self.asked: list[str] = []
        self.closed = False

    def query(self, sql, params=()):
        self.asked.append(sql)
        if self.error:
            raise self.error
        return list(self.rows)

    query_named = query

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.closed = True


def source(lag, io="Yes", sql="Yes"):
    return {"Seconds_Behind_Master": lag, "Slave_IO_Running": io, "Slave_SQL_Running": sql}


@pytest.fixture
def replicas(monkeypatch):
    """Sessions by host; connecting gives them."""
    sessions = {settings.host: Session([source(0)], settings=settings) for settings in REPLICAS}
    opened = []

    def connect(settings, timeout):
        opened.append(settings.host)
        return sessions[settings.host]

    monkeypatch.setattr(load_module, "connect", connect)
    yield sessions
    assert len(opened) == len(set(opened)), "each replica has one session"


def test_threads_running_without_the_session_that_asks():
    for told, expected in (("1", 0), ("4", 3), ("0", 0)):
        assert MariaDBLoad(Session([("Threads_running", told)]))() == Load(expected, None, replica="")


def test_a_server_that_tells_no_threads_running():
    with pytest.raises(WMAgentError, match="load is unknown"):
        MariaDBLoad(Session([]))()


def test_the_slowest_source_of_the_slowest_replica_counts(replicas):
    replicas["far"].rows = [source(3), source(7)]
    with MariaDBLoad(Session([("Threads_running", "1")]), REPLICAS) as read:
        assert read() == Load(0, 7.0, replica="MariaDB at far:3306")
        replicas["near"].rows = [source(20)]
        assert read() == Load(0, 20.0, replica="MariaDB at near:3306")
        assert not replicas["near"].closed
    assert replicas["near"].closed and replicas["far"].closed


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([source(None, sql="No")], "Slave_SQL_Running: No"),
        ([source(5), source(None, io="Connecting")], "Slave_IO_Running: Connecting"),
        ([], "replicates nothing"),
    ],
)
def test_a_lag_that_nobody_knows_is_an_error(replicas, rows, said):
    replicas["far"].rows = rows
    with MariaDBLoad(Session([("Threads_running", "1")]), REPLICAS) as read:
        with pytest.raises(WMAgentError, match=said) as error:
            read()
        assert "MariaDB at far:3306" in str(error.value) and "s3cret" not in str(error.value)
        with pytest.raises(WMAgentError, match=said):
            read()
    assert replicas["far"].closed


def test_a_replica_that_cannot_be_reached_is_an_error_each_time(monkeypatch):
    def connect(settings, timeout):
        raise WMAgentError(f"{settings.where} cannot be reached")

    monkeypatch.setattr(load_module, "connect", connect)
    read = MariaDBLoad(Session([("Threads_running", "1")]), REPLICAS)
    for _ in range(2):
        with pytest.raises(WMAgentError, match="near:3306 cannot be reached"):
            read()


def test_active_sessions_of_oracle_without_the_one_that_asks():
    notes = []
    read = OracleLoad(Session([(8,)], dialect="oracle"), notes.append)
    assert read() == Load(7, None, "active sessions")
    assert notes == []


@pytest.mark.parametrize("code", ["ORA-00942: table or view does not exist", "ORA-01031: insufficient privileges"])
def test_an_oracle_account_that_may_not_see_sessions_is_told_once(code):
    notes = []
    session = Session(dialect="oracle", error=WMAgentError(f"Oracle cms answered with an error: {code}"))
    read = OracleLoad(session, notes.append)
    assert [read().threads_running, read().threads_running] == [None, None]
    assert len(session.asked) == 1
    assert len(notes) == 1
    assert "WMA" in notes[0] and "grant" in notes[0]


def test_any_other_error_of_oracle_is_one():
    session = Session(dialect="oracle", error=WMAgentError("Oracle cms closed the connection (DPY-4011)"))
    with pytest.raises(WMAgentError, match="closed"):
        OracleLoad(session, pytest.fail)()


def test_the_reader_of_a_dialect():
    assert isinstance(load_reader(Session(), pytest.fail, REPLICAS), MariaDBLoad)
    assert isinstance(load_reader(Session(dialect="oracle"), pytest.fail), OracleLoad)
    with pytest.raises(WMAgentError, match="MariaDB only"):
        load_reader(Session(dialect="oracle"), pytest.fail, REPLICAS)


def test_the_statement_for_oracle_is_taken_by_the_rules_and_by_h2():
    assert oracle_rules.problems(_ACTIVE_SESSIONS) == []
    columns = "type VARCHAR2(10), status VARCHAR2(8), state VARCHAR2(19), wait_class VARCHAR2(64)"
    rows = [
        ("USER", "ACTIVE", "WAITED KNOWN TIME", "Idle"),  # on the CPU
        ("USER", "ACTIVE", "WAITING", "User I/O"),
        ("USER", "ACTIVE", "WAITING", "Idle"),
        ("USER", "INACTIVE", "WAITED SHORT TIME", "Network"),
        ("BACKGROUND", "ACTIVE", "WAITING", "User I/O"),
    ]
    inserts = [f"INSERT INTO v$session VALUES ('{a}', '{b}', '{c}', '{d}')" for a, b, c, d in rows]
    # The division fails unless two are counted.
    check = f"INSERT INTO answer SELECT 1 / (CASE WHEN n = 2 THEN 1 ELSE 0 END) FROM (SELECT ({_ACTIVE_SESSIONS}) n)"
    made = structure_of_statements(
        [f"CREATE TABLE v$session ({columns})", *inserts, "CREATE TABLE answer (n NUMBER(1))", check]
    )
    assert set(made) == {"v$session", "answer"}
