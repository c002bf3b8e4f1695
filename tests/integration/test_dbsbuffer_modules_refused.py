# SPDX-License-Identifier: GPL-3.0-or-later
"""What the DBSBuffer modules refuse, in one line each and with nothing changed, on a real MariaDB."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer
from support.dbsbuffer.fixtures import mariadb_agent
from support.dbsbuffer.modules import (
    CLEANUP,
    INFO,
    RESTORE,
    Task,
    assert_refused,
    fill,
    login,
    now_in,
    opened,
    played,
    rows,
    task,
    tried,
)
from support.dbsbuffer.rows import load
from support.mariadb import create_database, run_script

pytestmark = pytest.mark.usefixtures("no_certificates")


@pytest.fixture(scope="module")
def shared(mariadb_server) -> Iterator[DatabaseSettings]:
    with mariadb_agent(mariadb_server) as settings:
        yield settings


@pytest.fixture
def database(shared: DatabaseSettings) -> DatabaseSettings:
    fill(shared)
    return shared


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_what_is_refused_is_one_line_and_changes_nothing(database, tmp_path, mariadb_server):
    # Those that come as far as the lock of a cleanup have a database of their own.
    with ExitStack() as stack:
        alone = [stack.enter_context(mariadb_agent(mariadb_server)) for _ in range(3)]
        for one in alone:
            with opened(one) as connection:
                load(connection, rows())
        refused(database, alone, tmp_path, mariadb_server)


def refused(
    database: DatabaseSettings, alone: list[DatabaseSettings], tmp_path: Path, mariadb_server: MariaDBServer
) -> None:
    before = now_in(database)
    own = [login(one) for one in alone]
    file = tmp_path / "a-file"
    file.write_text("")
    good = login(database)
    down = free_port()
    bad: dict[str, tuple[Task, str]] = {
        "negative retention": (good | {"retention": "-1d"}, "retention is '-1d'"),
        "retention in words": (good | {"retention": "soon"}, "retention is 'soon'"),
        "max_rows below 0": (good | {"max_rows": -1}, "max_rows is -1"),
        "abort below pause": (good | {"threads_running_pause": 50, "threads_running_abort": 10}, "makes no sense"),
        "a step of no time": (good | {"step_seconds": 0}, "must be more than 0"),
        "wrong password": (good | {"login_password": "wrong-word"}, "refuses user wmagent with this password"),
        "server down": (good | {"login_port": down}, "cannot be reached"),
        "no such database": (good | {"database_name": "nowhere"}, "no access to database nowhere"),
        "archive folder missing": (good | {"archive": str(tmp_path / "missing")}, "cannot be made"),
        "archive folder not writable": (own[0] | {"archive": str(file)}, "cannot be made"),
        "unknown replica": (own[1] | {"replicas": [f"127.0.0.1:{down}"]}, "cannot be reached"),
        "replica that is none": (good | {"replicas": ["a:b:c"]}, "replicas is wrong"),
        "server that replicates nothing": (own[2] | {"replicas": [f"127.0.0.1:{database.port}"]}, "SLAVE MONITOR"),
        "a share of 30": (good | {"minimum_fragmentation": 30}, "it is a share"),
        "no secrets": ({"secrets": str(tmp_path / "missing")}, str(tmp_path / "missing")),
    }
    with accounts(database, mariadb_server) as (reader, empty, lacking):
        bad |= {
            "SELECT only": (reader, f"lets user {reader['login_user']} not do that"),
            "no tables": (empty, "table dbsbuffer_file"),
            "a column less": (lacking, "column dbsbuffer_block.rule_id"),
        }
        also_checked = ("abort below pause", "max_rows below 0", "a share of 30", "a column less")
        found = tried(
            tmp_path,
            {name: (CLEANUP, arguments) for name, (arguments, _) in bad.items()}
            | {f"check {name}": (f"{CLEANUP} check", bad[name][0]) for name in also_checked}
            | {f"info {name}": (INFO, bad[name][0]) for name in ("no tables",)}
            | {"read info": (INFO, reader), "read check": (f"{CLEANUP} check", reader)},
        )
    for name, (_, said) in bad.items():
        assert_refused(found[name], said, name)
        for where in ("check", "info"):
            if f"{where} {name}" in found:
                assert_refused(found[f"{where} {name}"], said, f"{where} {name}")
    assert found["read info"]["eligible"]["files"] and found["read check"]["changed"]
    assert all(now_in(one) == before for one in (database, *alone))


@contextmanager
def accounts(database: DatabaseSettings, server: MariaDBServer) -> Iterator[tuple[Task, Task, Task]]:
    """An account that may only read, a database without any table, and one with a column less."""
    name, reader = f"without_tables_{os.getpid()}", f"reader_{os.getpid()}"
    create_database(server, name)
    with connect(server.root_settings(), read_only=False) as root, mariadb_agent(server) as lacking:
        root.execute(f"CREATE USER '{reader}'@'127.0.0.1' IDENTIFIED BY 'reader-word'")
        root.execute(f"GRANT SELECT ON {database.name}.* TO '{reader}'@'127.0.0.1'")
        run_script(lacking, "ALTER TABLE dbsbuffer_block DROP COLUMN rule_id")
        try:
            yield (
                login(replace(database, user=reader, password="reader-word")),
                login(server.settings(name)),
                login(lacking),
            )
        finally:
            root.execute(f"DROP USER '{reader}'@'127.0.0.1'")
            root.execute(f"DROP DATABASE {name}")


def test_a_server_that_takes_no_writes(database, tmp_path, mariadb_server):
    before = now_in(database)
    with connect(mariadb_server.root_settings(), read_only=False) as root:
        root.execute("SET GLOBAL read_only = 1")
        try:
            found, _ = played(
                tmp_path,
                task("check", CLEANUP, login(database), check_mode=True, diff=True),
                task("real", CLEANUP, login(database)),
            )
        finally:
            root.execute("SET GLOBAL read_only = 0")
    assert found["check"]["changed"]
    assert_refused(found["real"], "takes no writes", "read_only")
    assert now_in(database) == before


def test_others_at_the_same_time(database, tmp_path, mariadb_server):
    """Another cleanup, and for a rebuild any session."""
    before = now_in(database)
    with mariadb_agent(mariadb_server) as other, opened(other) as session, opened(database):
        load(session, rows())
        assert session.query("SELECT GET_LOCK(%s, 0)", (f"dmwm.wmagent.{other.name}",)) == [(1,)]
        found = tried(
            tmp_path,
            {
                "rebuild": (CLEANUP, login(database) | {"method": "rebuild"}),
                "check": (f"{CLEANUP} check", login(other)),
                "delete": (CLEANUP, login(other)),
                "auto": (CLEANUP, login(other) | {"method": "auto"}),
            },
        )
        assert_refused(found["rebuild"], "is connected to", "session open")
        assert found["check"]["changed"]
        for name in ("delete", "auto"):
            assert_refused(found[name], "another cleanup", name)
        assert now_in(database) == now_in(other) == before


def test_a_restore_while_another_runs(database, tmp_path):
    cleaned, _ = played(tmp_path, task("clean", CLEANUP, login(database) | {"archive": str(tmp_path)}))
    before = now_in(database)
    restore = login(database) | {"archive": cleaned["clean"]["archive"]}
    with opened(database) as session:
        assert session.query("SELECT GET_LOCK(%s, 0)", (f"dmwm.wmagent.{database.name}",)) == [(1,)]
        found = tried(tmp_path, {"check": (f"{RESTORE} check", restore), "real": (RESTORE, restore)})
    assert found["check"]["changed"]
    assert_refused(found["real"], "another cleanup or restore of database", "restore")
    assert now_in(database) == before
