# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules dbsbuffer_info, dbsbuffer_cleanup and dbsbuffer_restore through Ansible, on a real MariaDB."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    DatabaseSettings,
)
from support.dbsbuffer.brute_force import deletable
from support.dbsbuffer.fixtures import mariadb_agent
from support.dbsbuffer.generator import generate
from support.dbsbuffer.modules import (
    CLEANUP,
    INFO,
    RESTORE,
    by_secrets,
    fill,
    login,
    now_in,
    opened,
    played,
    task,
)
from support.dbsbuffer.random_rows import CUTOFF
from support.dbsbuffer.rebuilding import schema

pytestmark = pytest.mark.usefixtures("no_certificates")


@pytest.fixture(scope="module")
def shared(mariadb_server) -> Iterator[DatabaseSettings]:
    with mariadb_agent(mariadb_server) as settings:
        yield settings


@pytest.fixture
def database(shared: DatabaseSettings) -> DatabaseSettings:
    fill(shared)
    return shared


def lines(text: str) -> dict[str, int]:
    return {table: int(count.split()[0]) for table, count in (line.split(": ") for line in text.splitlines())}


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
