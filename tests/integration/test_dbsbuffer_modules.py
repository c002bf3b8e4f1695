# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules dbsbuffer_info, dbsbuffer_cleanup and dbsbuffer_restore through Ansible, on a real MariaDB."""

from __future__ import annotations

import itertools
import os
import random
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer
from support.dbsbuffer.agent_at_work import contents
from support.dbsbuffer.brute_force import deletable
from support.dbsbuffer.fixtures import mariadb_agent
from support.dbsbuffer.generator import generate
from support.dbsbuffer.random_rows import CUTOFF
from support.dbsbuffer.rebuilding import schema
from support.dbsbuffer.rows import Checksum, FileLocation, Parent, Rows, load, read
from support.dbsbuffer.schema import clear
from support.mariadb import create_database, run_script
from support.playbook import Outcome, run_tasks
from support.secrets import write_secrets

_numbers = itertools.count(1)
CLEANUP, INFO, RESTORE = (f"dmwm.wmagent.dbsbuffer_{name}" for name in ("cleanup", "info", "restore"))
Task = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def no_certificates() -> Iterator[None]:
    """PyMySQL reads the system's certificates for every session, which takes longer than all a session does here."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", os.devnull)
        yield


def rows() -> Rows:
    """Of everything something; placeholders have rows and links of either kind."""
    some = contents(random.Random(3))
    inputs = [file.id for file in some.files if file.status == "GLOBAL"]
    going = next(file.id for file in some.files if file.workflow == 1)
    return replace(
        some,
        file_locations=[*some.file_locations, *(FileLocation(number, 1) for number in inputs)],
        checksums=[*some.checksums, *(Checksum(number, 1, "abc") for number in inputs)],
        parents=[*some.parents, Parent(inputs[0], going)],
    )


@pytest.fixture(scope="module")
def shared(mariadb_server) -> Iterator[DatabaseSettings]:
    with mariadb_agent(mariadb_server) as settings:
        yield settings


@pytest.fixture
def database(shared: DatabaseSettings) -> DatabaseSettings:
    with opened(shared) as connection:
        clear(connection)
        load(connection, rows())
    return shared


def opened(settings: DatabaseSettings) -> Connection:
    return connect(settings, 60, read_only=False)


def now_in(settings: DatabaseSettings) -> Rows:
    with connect(settings, 60) as connection:
        return read(connection)


def login(settings: DatabaseSettings) -> Task:
    return {
        "login_user": settings.user,
        "login_password": settings.password,
        "login_host": settings.host,
        "login_port": settings.port,
        "database_name": settings.name,
    }


def by_secrets(folder: Path, settings: DatabaseSettings) -> Task:
    return {
        "secrets": str(write_secrets(folder / "WMAgent.secrets", settings)),
        "database_name": settings.name,
    }


def task(name: str, module: str, arguments: Task, **keywords: Any) -> Task:
    return {"name": name, module: arguments, "ignore_errors": True, **keywords}


def played(folder: Path, *tasks: Task, options: tuple[str, ...] = ()) -> tuple[dict[str, Task], Outcome]:
    """What each task returned."""
    hosts = {"agent": {"ansible_python_interpreter": sys.executable}}
    outcome = run_tasks(folder / f"play{next(_numbers)}", list(tasks), hosts, *options)
    assert set(outcome.results.get("agent", {})) == {one["name"] for one in tasks}, outcome.output
    return outcome.results["agent"], outcome


def tried(folder: Path, cases: dict[str, tuple[str, Task]]) -> dict[str, Task]:
    """What modules returned in each case, ``module`` or ``module check``; several at a time, as on several hosts."""
    hosts = {
        name.replace(" ", "-"): {"ansible_python_interpreter": sys.executable, "kind": kind, "arguments": arguments}
        for name, (kind, arguments) in cases.items()
    }
    tasks = []
    for kind in sorted({kind for kind, _ in cases.values()}):
        module, *check = kind.split()
        one = task(kind, module, {}, check_mode=bool(check), when=f"kind == '{kind}'")
        tasks.append(one | {module: "{{ arguments }}"})
    outcome = run_tasks(folder / f"play{next(_numbers)}", tasks, hosts)
    for _, arguments in cases.values():
        assert str(arguments.get("login_password", "no password")) not in outcome.output
    return {name: outcome.results[name.replace(" ", "-")][kind] for name, (kind, _) in cases.items()}


def lines(text: str) -> dict[str, int]:
    return {table: int(count.split()[0]) for table, count in (line.split(": ") for line in text.splitlines())}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process_list_watched(word: str) -> Iterator[list[str]]:
    """Command lines that hold a word while the context lasts; what is looked at, is counted as the last entry."""
    found: list[str] = []
    looks = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal looks
        while not ended.wait(0.01):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                looks += "dbsbuffer" in line or "AnsiballZ" in line
                if word in line:
                    found.append(line)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
    assert looks, "no module was seen to run"


def test_check_mode_tells_what_the_run_does(database, tmp_path):
    """All the way: looked at, checked, cleaned, cleaned again, restored; by secrets and by parameters."""
    archives = tmp_path / "archives"
    archives.mkdir()
    secrets, direct = by_secrets(tmp_path, database), login(database)
    before, before_schema = now_in(database), schema(database)
    expected = deletable(before, CUTOFF + 10**9, 30 * 86400)

    found, _ = played(
        tmp_path,
        task("info", INFO, secrets),
        task("check", CLEANUP, secrets | {"archive": str(archives)}, check_mode=True, diff=True),
        task("check rebuild", CLEANUP, direct | {"method": "rebuild"}, check_mode=True, diff=True),
    )
    assert now_in(database) == before and schema(database) == before_schema and not [*archives.iterdir()]
    info, check = found["info"], found["check"]
    assert not info["changed"] and check["changed"]
    assert {name: info[name] for name in ("eligible", "held_back")} == check["planned"]
    assert check["planned"] == found["check rebuild"]["planned"]
    assert (info["eligible"]["files"], info["eligible"]["placeholders"], info["eligible"]["blocks"]) == (
        len(expected.files),
        len(expected.placeholders),
        len(expected.blocks),
    )
    assert info["tables"]["dbsbuffer_file"]["rows"] == len(before.files)
    assert check["method"] == "none" and check["deleted"] == {} and check["archive"] == ""
    assert check["statements"][:2] == [
        "DELETE FROM dbsbuffer_file_runlumi_map WHERE filename BETWEEN :first AND :last",
        "DELETE FROM dbsbuffer_file_checksums WHERE fileid BETWEEN :first AND :last",
    ]

    done, _ = played(
        tmp_path,
        task("real", CLEANUP, secrets | {"archive": str(archives)}, diff=True),
        task("again", CLEANUP, direct, diff=True),
        task("info", INFO, direct | {"before": {"time": info["time"], "tables": info["tables"]}}),
    )
    real, again = done["real"], done["again"]
    assert real["changed"] and real["method"] == "delete" and real["stopped_by"] == "" and real["resume"] == {}
    assert real["planned"] == check["planned"] and real["statements"] == check["statements"]
    assert real["diff"]["before"] == check["diff"]["before"] == found["check rebuild"]["diff"]["before"]
    assert lines(real["diff"]["after"]) == lines(check["diff"]["after"])
    assert lines(found["check rebuild"]["diff"]["after"]) == lines(check["diff"]["after"])
    left = now_in(database)
    counts = lines(real["diff"]["after"])
    assert counts["dbsbuffer_file"] == len(left.files) and counts["dbsbuffer_file_parent"] == len(left.parents)
    gone = expected.files | expected.placeholders
    assert {row.id for row in left.files} == {row.id for row in before.files} - gone
    assert real["deleted"]["dbsbuffer_file"] == len(gone)
    assert not again["changed"] and again["method"] == "none" and again["diff"]["before"] == again["diff"]["after"]
    growth = done["info"]["growth"]
    assert growth["days"] > 0 and growth["tables"]["dbsbuffer_file"]["rows"] < 0
    assert done["info"]["eligible"]["files"] == 0 and done["info"]["held_back"]["workflows"]

    archive = real["archive"]
    assert [archive] == [str(file) for file in archives.iterdir()]
    back, _ = played(
        tmp_path,
        task("check", RESTORE, secrets | {"archive": archive}, check_mode=True, diff=True),
        task("restore", RESTORE, secrets | {"archive": archive}, diff=True),
        task("again", RESTORE, secrets | {"archive": archive}),
    )
    assert now_in(database) == before and schema(database) == before_schema
    assert back["check"]["restored"] == back["restore"]["restored"] == real["deleted"]
    assert back["check"]["diff"] == back["restore"]["diff"]
    assert back["restore"]["changed"] and back["check"]["changed"] and not back["again"]["changed"]
    assert lines(back["restore"]["diff"]["after"]) == lines(real["diff"]["before"])


def test_a_rebuild_by_the_module_leaves_the_same(database, tmp_path):
    before_schema, before = schema(database), now_in(database)
    expected = deletable(before, CUTOFF + 10**9, 30 * 86400)
    done, _ = played(
        tmp_path,
        task("rebuild", CLEANUP, login(database) | {"method": "rebuild"}, diff=True),
        task("again", CLEANUP, login(database) | {"method": "rebuild"}),
    )
    left = now_in(database)
    assert done["rebuild"]["changed"] and done["rebuild"]["method"] == "rebuild", done["rebuild"]
    assert lines(done["rebuild"]["diff"]["after"])["dbsbuffer_file"] == len(left.files)
    gone = expected.files | expected.placeholders
    assert {row.id for row in left.files} == {row.id for row in before.files} - gone
    assert {row.id for row in left.blocks} == {row.id for row in before.blocks} - expected.blocks
    assert {row.id for row in left.workflows} == {row.id for row in before.workflows} - expected.workflows
    assert not done["again"]["changed"] and schema(database) == before_schema


def test_the_password_is_shown_nowhere(database, tmp_path):
    with process_list_watched(database.password) as shown:
        _, outcome = played(
            tmp_path,
            task("by parameters", CLEANUP, login(database), diff=True),
            task("by secrets", INFO, by_secrets(tmp_path, database)),
            task("wrong", INFO, login(replace(database, password="wrong-word"))),
            options=("-vvv",),
        )
    assert shown == []
    assert database.password not in outcome.output and "wrong-word" not in outcome.output
    assert database.password not in str(outcome.results)


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
    name, reader = f"wmagent_{os.getpid()}_{next(_numbers)}", f"reader_{os.getpid()}"
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


def assert_refused(result: Task, said: str, name: str) -> None:
    assert "msg" in result and "planned" not in result and "eligible" not in result, f"{name}: {result}"
    assert said in result["msg"] and "\n" not in result["msg"], f"{name}: {result['msg']}"
    assert len(result["msg"]) > 20 and "Traceback" not in str(result), name
    assert not result.get("changed"), name


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


def test_limits_end_a_run_and_the_next_goes_on(database, tmp_path):
    before = now_in(database)
    stop = tmp_path / "stop"
    stop.touch()
    found, _ = played(
        tmp_path,
        task("stopped", CLEANUP, login(database) | {"stop_file": str(stop)}),
        task("some rows", CLEANUP, login(database) | {"max_rows": 40}),
        task("the rest", CLEANUP, login(database)),
    )
    assert found["stopped"]["stopped_by"] == "stop_file" and found["stopped"]["deleted"] == {}
    assert found["some rows"]["stopped_by"] == "max_rows" and found["some rows"]["resume"]["files_left"] > 0
    assert found["the rest"]["stopped_by"] == "" and found["the rest"]["resume"] == {}
    expected = deletable(before, CUTOFF + 10**9, 30 * 86400)
    gone = expected.files | expected.placeholders
    assert {row.id for row in now_in(database).files} == {row.id for row in before.files} - gone


def test_recovery_alone_deletes_nothing(database, tmp_path):
    """As before the components are started: however old all is, only an interrupted rebuild's tables go."""
    before, before_schema = now_in(database), schema(database)
    with opened(database) as session:
        session.execute("CREATE TABLE dbsbuffer_file__new LIKE dbsbuffer_file")
    recover = login(database) | {"method": "recover", "retention": "0", "archive": str(tmp_path)}
    found, _ = played(
        tmp_path,
        task("check", CLEANUP, recover, check_mode=True, diff=True),
        task("real", CLEANUP, recover),
        task("again", CLEANUP, recover),
    )
    assert [found[name]["changed"] for name in ("check", "real", "again")] == [True, True, False]
    assert found["real"]["left_by_a_rebuild"] == ["dropped dbsbuffer_file__new"] and found["real"]["deleted"] == {}
    assert found["real"]["summary"] == "dropped dbsbuffer_file__new"
    assert now_in(database) == before and schema(database) == before_schema


@pytest.fixture(scope="module")
def large(mariadb_server) -> Iterator[DatabaseSettings]:
    with mariadb_agent(mariadb_server) as settings:
        generate(settings, 18_000, seed=5, runlumis_per_file=10)
        yield settings


def test_auto_takes_what_is_possible_and_cheaper(large, tmp_path):
    """Small steps that are archived one by one are slow, so that copying the tenth that stays is the cheaper way."""
    auto = login(large) | {"method": "auto", "retention": "0", "step_seconds": 0.005, "archive": str(tmp_path)}
    with opened(large):
        found, _ = played(tmp_path, task("busy", CLEANUP, auto | {"max_runtime": "0.5s"}))
    busy = found["busy"]
    assert busy["method"] == "delete" and "is connected to" in busy["choice"]["reason"], busy
    assert busy["stopped_by"] == "max_runtime" and busy["resume"]["files_left"] > 10_000
    before_schema = schema(large)
    found, _ = played(tmp_path, task("alone", CLEANUP, auto), task("again", CLEANUP, auto, check_mode=True))
    alone = found["alone"]
    seconds = alone["choice"]["seconds"]
    print(alone["choice"])
    assert alone["method"] == min(seconds, key=seconds.get) == "rebuild", alone
    assert alone["stopped_by"] == "" and alone["resume"] == {}
    assert not found["again"]["changed"] and schema(large) == before_schema
