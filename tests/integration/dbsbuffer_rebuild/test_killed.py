# SPDX-License-Identifier: GPL-3.0-or-later
"""A rebuild of DBSBuffer's tables that is killed: no row is lost that stays, and the next one puts all in order."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer, throwaway_mariadb
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import make_plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild import clean_up, why_not
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_guard import Guards
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_recovery import (
    definition,
    finish,
    leftovers,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_tables import (
    REBUILT,
    create_bare,
    drop,
    renamed,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.dbsbuffer.fixtures import mariadb_agent
from support.dbsbuffer.rebuilding import RULES, STEPS, after, cleaned, contents, fill, schema, session, untouched
from support.dbsbuffer.rows import RunLumi, read

SEED = int(os.environ.get("KILL_SEED", "20260101"))
SERVER_KILLS = 6


@pytest.fixture(scope="module")
def shared(mariadb_server: MariaDBServer) -> Iterator[DatabaseSettings]:
    with mariadb_agent(mariadb_server) as found:
        with session(found) as connection:
            # One foreign key whose name does not follow its table.
            connection.execute("ALTER TABLE dbsbuffer_file_parent DROP FOREIGN KEY dbsbuffer_file_parent_ibfk_2")
            connection.execute(
                "ALTER TABLE dbsbuffer_file_parent ADD CONSTRAINT by_hand FOREIGN KEY (parent) "
                "REFERENCES dbsbuffer_file (id) ON DELETE CASCADE"
            )
        yield found


@pytest.fixture
def agent(shared: DatabaseSettings) -> Iterator[DatabaseSettings]:
    """A database with some of everything; whatever a test leaves is dropped."""
    fill(shared, contents())
    yield shared
    with session(shared) as connection:
        finish(connection, leftovers(connection))


def work(agent: DatabaseSettings, steps) -> None:
    """What the process to be killed does."""
    with session(agent) as connection:
        cleaned(connection, placeholders=True, progress=steps.send)


def kill_at(agent: DatabaseSettings, step: str, delay: float) -> bool:
    """Start a rebuild and kill it this long after it has begun a step; False where it was faster. In seconds."""
    # A fork of this process has all modules already.
    processes = multiprocessing.get_context("fork")
    ours, theirs = processes.Pipe(duplex=False)
    process = processes.Process(target=work, args=(agent, theirs))
    process.start()
    theirs.close()
    try:
        while ours.recv() != step:
            continue
        time.sleep(delay)
    finally:
        process.kill()
        process.join()
    return process.exitcode != 0


def assert_in_service(agent: DatabaseSettings) -> None:
    """What was there before, or what should be left, and nothing in between."""
    with session(agent) as connection:
        plan = make_plan(connection, RULES)
        rows = read(connection)
        if plan.files:
            assert rows == contents().as_stored("mariadb")
        else:
            assert len(rows.files) == 22


def assert_put_right(agent: DatabaseSettings, before: str) -> None:
    """The next run, whatever is left, comes to the right end."""
    assert_in_service(agent)
    with session(agent) as connection:
        clean_up(connection)
        assert not leftovers(connection).found
    assert_in_service(agent)
    assert schema(agent) == before
    with session(agent) as connection:
        cleaned(connection, placeholders=True)
        plan = type("Plan", (), {"workflows": {1, 2, 4}})
        assert read(connection) == after(contents(), plan, placeholders=True)
    assert schema(agent) == before


POINTS = [*STEPS, *["swap", "drop the old tables"] * 3, "verify", "plan"]


def test_a_process_killed_at_any_point_loses_nothing(agent: DatabaseSettings):
    before = schema(agent)
    chance = random.Random(SEED)
    killed, swapped = 0, 0
    for step in POINTS:
        fill(agent, contents())
        killed += kill_at(agent, step, chance.uniform(0, 0.02))
        with session(agent) as connection:
            swapped += bool(leftovers(connection).old)
        assert_put_right(agent, before)
    assert killed >= 15
    print(f"{killed} of {len(POINTS)} killed, {swapped} between swap and drop")


def test_a_server_killed_in_the_swap_has_swapped_all_or_nothing(mariadb_template, monkeypatch):
    chance = random.Random(SEED)
    found = set()
    with (
        throwaway_mariadb(template=mariadb_template, options=["--innodb-flush-log-at-trx-commit=1"]) as server,
        mariadb_agent(server) as agent,
    ):
        fill(agent, contents())
        before = schema(agent)
        killers: list[threading.Thread] = []
        wait = Guards._wait_until_wanted

        def wait_and_kill(guards: Guards, table: str, renaming) -> None:
            wait(guards, table, renaming)
            if killers and table == max(REBUILT):  # the RENAME has all other tables and begins
                killers[0].start()

        monkeypatch.setattr(Guards, "_wait_until_wanted", wait_and_kill)
        for number in range(SERVER_KILLS):
            # MariaDB 10.11 may fail to recover from a second kill before it has made a checkpoint after the first.
            server.restart()
            fill(agent, contents())
            delay = chance.uniform(number, number + 1) * 0.03 / SERVER_KILLS
            killers[:] = [threading.Thread(target=lambda delay=delay: (time.sleep(delay), server.stop(kill=True)))]
            with session(agent) as connection, suppress(WMAgentError):
                cleaned(connection, placeholders=True)
            killers.pop().join()
            server.start()
            with session(agent) as connection:
                left = leftovers(connection)
                assert not left.missing and not (left.new and left.old)
                found.add("not swapped" if left.new else "swapped" if left.old else "nothing left")
            assert_put_right(agent, before)
    print(f"after {SERVER_KILLS} kills: {', '.join(sorted(found))}")


def swapped(connection: Connection) -> None:
    """Leave all as it is when a process is killed right after the swap."""

    class Killed(BaseException):
        pass

    def progress(step: str) -> None:
        if step == STEPS[-1]:
            raise Killed

    with pytest.raises(Killed):
        cleaned(connection, progress=progress)
    assert leftovers(connection).old == REBUILT


def test_nothing_is_done_where_nothing_is_left(agent: DatabaseSettings, connection: Connection):
    assert clean_up(connection) == []
    assert untouched(agent)


@pytest.mark.parametrize("made", [1, 3, 5])
def test_copies_that_were_not_swapped_are_dropped(agent: DatabaseSettings, connection: Connection, made: int):
    for table in REBUILT[:made]:
        connection.execute(create_bare(renamed(definition(connection, table))))
    assert "clean up first" in why_not(connection)[0]
    assert clean_up(connection) == ["dropped " + ", ".join(f"{table}__new" for table in REBUILT[:made])]
    assert untouched(agent)


@pytest.mark.parametrize("dropped", [0, 1, 4, 5])
def test_what_is_left_to_do_after_the_swap_is_done(agent: DatabaseSettings, connection: Connection, dropped: int):
    before = schema(agent)
    swapped(connection)
    for statement in drop("__old")[:dropped]:
        connection.execute(statement)
    left = [f"{table}__old" for table in REBUILT[: len(REBUILT) - dropped]]
    assert "clean up first" in why_not(connection)[0]
    assert clean_up(connection) == [
        *([f"dropped {', '.join(left)}"] if left else []),
        "named by_hand of dbsbuffer_file_parent again",
    ]
    assert schema(agent) == before
    assert len(read(connection).files) == 24 and len(read(connection).runlumis) == 84
    assert why_not(connection) == []


def test_rows_that_came_after_the_swap_are_no_obstacle(agent: DatabaseSettings, connection: Connection):
    swapped(connection)
    connection.execute("INSERT INTO dbsbuffer_file (id, lfn, dataset_algo, workflow) VALUES (900, 'late', 1, 3)")
    connection.execute("INSERT INTO dbsbuffer_file_runlumi_map VALUES (900, 1, 1, NULL), (41, 1, 1, NULL)")
    connection.execute("DELETE FROM dbsbuffer_workflow WHERE id = 1")
    assert len(clean_up(connection)) == 2
    assert RunLumi(41, 1, 1, None) in read(connection).runlumis


def test_another_session_may_be_a_rebuild_under_way(agent: DatabaseSettings, connection: Connection):
    connection.execute("CREATE TABLE dbsbuffer_file__new (a INT)")
    with session(agent), pytest.raises(WMAgentError, match="may belong to a rebuild that is under way"):
        clean_up(connection, patience=0.1)
    assert leftovers(connection).new == ("dbsbuffer_file",)
    assert clean_up(connection, patience=0.1)


CHANGED = [
    ("dbsbuffer_file__old", ["DELETE FROM dbsbuffer_file WHERE id = 41"]),
    ("dbsbuffer_file__old", ["DELETE FROM dbsbuffer_file WHERE id = 61"]),
    ("dbsbuffer_file__old", ["UPDATE dbsbuffer_file__old SET status = 'NOTUPLOADED' WHERE id = 1"]),
    ("dbsbuffer_file__old", ["UPDATE dbsbuffer_file__old SET status = NULL WHERE id = 1"]),
    ("dbsbuffer_file__old", ["UPDATE dbsbuffer_file__old SET in_phedex = 0 WHERE id = 1"]),
    ("dbsbuffer_file__old", ["UPDATE dbsbuffer_file__old SET workflow = NULL WHERE id = 1"]),
    ("dbsbuffer_file__old", ["UPDATE dbsbuffer_workflow SET completed = 0 WHERE id = 1"]),
    ("dbsbuffer_file__old", ["UPDATE dbsbuffer_workflow SET completed = NULL WHERE id = 1"]),
    ("dbsbuffer_file__old", ["UPDATE dbsbuffer_file SET in_phedex = 1 WHERE id = 41"]),
    ("dbsbuffer_file__old", ["UPDATE dbsbuffer_file SET lfn = UPPER(lfn) WHERE id = 41"]),
    ("runlumi_map__old", ["DELETE FROM dbsbuffer_file_runlumi_map WHERE filename = 41 AND lumi = 1 LIMIT 1"]),
    ("runlumi_map__old", ["UPDATE dbsbuffer_file_runlumi_map SET num_events = 0 WHERE num_events IS NULL"]),
    ("checksums__old", ["UPDATE dbsbuffer_file_checksums SET cksum = 'x' WHERE cksum IS NULL LIMIT 1"]),
    ("file_location__old", ["DELETE FROM dbsbuffer_file_location WHERE filename = 61 AND location = 1"]),
    ("file_parent__old", ["DELETE FROM dbsbuffer_file_parent WHERE child = 50"]),
    ("they have other columns", ["ALTER TABLE dbsbuffer_file__old ADD COLUMN more INT"]),
    ("file__old is missing", ["SET foreign_key_checks = 0", "DROP TABLE dbsbuffer_file__old"]),
    ("dbsbuffer_file_parent__new", ["CREATE TABLE dbsbuffer_file_parent__new (a INT)"]),
]


@pytest.mark.parametrize(("named", "statements"), CHANGED)
def test_what_is_not_as_a_rebuild_leaves_it_is_left_alone(connection: Connection, named: str, statements: list[str]):
    swapped(connection)
    for statement in statements:
        connection.execute(statement)
    there = leftovers(connection)
    tables = {name: connection.query(f"SELECT COUNT(*) FROM {name}") for name in there.names}
    with pytest.raises(WMAgentError, match=r"nothing was touched\. Compare them by hand") as error:
        clean_up(connection)
    assert named in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(WMAgentError, match="nothing was touched"):
        cleaned(connection)
    assert leftovers(connection) == there
    assert {name: connection.query(f"SELECT COUNT(*) FROM {name}") for name in there.names} == tables


def test_a_table_that_is_missing_is_named(agent: DatabaseSettings, connection: Connection):
    swapped(connection)
    connection.execute("RENAME TABLE dbsbuffer_file_location TO elsewhere")
    with pytest.raises(WMAgentError, match="dbsbuffer_file_location is missing"):
        clean_up(connection)
    connection.execute("RENAME TABLE elsewhere TO dbsbuffer_file_location")
    assert len(clean_up(connection)) == 2
