# SPDX-License-Identifier: GPL-3.0-or-later
"""When DBSBuffer's tables are not rebuilt, and that nobody writes to the database in between, on a real MariaDB."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import rebuild as rebuild_module
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import rebuild_checks
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import make_plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild import clean_up, rebuild, why_not
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_guard import Guards, session_id
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_recovery import leftovers
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.dbsbuffer.rebuilding import (
    INPUT_ALONE,
    INPUT_GOES,
    INPUT_STAYS,
    RULES,
    STEPS,
    after,
    cleaned,
    contents,
    session,
    untouched,
)
from support.dbsbuffer.rows import Checksum, FileLocation, Parent, RunLumi, read


def test_it_is_allowed_on_a_quiet_agent(connection: Connection):
    assert why_not(connection) == []
    assert why_not(connection, Plan()) == []


def test_another_session_stands_against_it(agent: DatabaseSettings, connection: Connection):
    with session(agent):
        (line,) = why_not(connection)
        assert "stop the agent's components" in line and "wmagent@127.0.0.1" in line
        steps: list[str] = []
        with pytest.raises(WMAgentError, match="stop the agent's components"):
            cleaned(connection, progress=steps.append)
        assert steps == [STEPS[0]]  # before anything is locked
    assert untouched(agent)


BY_HAND = [
    ("CREATE VIEW v AS SELECT lfn FROM dbsbuffer_file", "DROP VIEW v", r"^view \S+\.v depends"),
    (
        "CREATE TRIGGER t BEFORE INSERT ON dbsbuffer_file_parent FOR EACH ROW SET @a = 1",
        "DROP TRIGGER t",
        "^trigger t depends",
    ),
    (
        "CREATE TABLE mine (f INT, FOREIGN KEY (f) REFERENCES dbsbuffer_file (id))",
        "DROP TABLE mine",
        r"^table \S+\.mine depends",
    ),
    (
        f"ALTER TABLE dbsbuffer_file_location ADD CONSTRAINT {'l' * 60} "
        "FOREIGN KEY (location) REFERENCES dbsbuffer_location (id)",
        f"ALTER TABLE dbsbuffer_file_location DROP FOREIGN KEY {'l' * 60}",
        "too long a name",
    ),
    (
        "ALTER TABLE dbsbuffer_file ADD COLUMN g INT AS (id + 1)",
        "ALTER TABLE dbsbuffer_file DROP COLUMN g",
        "definition that a rebuild does not know",
    ),
    ("CREATE TABLE dbsbuffer_file__new (a INT)", "DROP TABLE dbsbuffer_file__new", "clean up first"),
]


@pytest.mark.parametrize(
    ("statement", "undo", "why"), BY_HAND, ids=["view", "trigger", "table", "name", "generated", "left"]
)
def test_what_others_made_stands_against_it(connection: Connection, statement: str, undo: str, why: str):
    connection.execute(statement)
    try:
        (line,) = why_not(connection)
    finally:
        connection.execute(undo)
    assert re.search(why, line) and "\n" not in line


def test_a_disk_without_room_stands_against_it(agent: DatabaseSettings, connection: Connection, monkeypatch):
    (line,) = why_not(connection, free_bytes=1000)
    assert "0 MiB free" in line and "make room" in line
    with pytest.raises(WMAgentError, match="MiB free"):
        cleaned(connection, free_bytes=1000)
    assert why_not(connection, free_bytes=10**9) == []
    monkeypatch.setattr(rebuild_checks.socket, "gethostname", lambda: "another")
    (line,) = why_not(connection)
    assert "cannot be told from this host" in line
    assert why_not(connection, free_bytes=10**9) == []
    assert untouched(agent)


def test_less_room_is_needed_for_less_that_stays(connection: Connection):
    assert rebuild_checks.share_that_stays(connection, None) == 1
    assert rebuild_checks.share_that_stays(connection, make_plan(connection, RULES)) == pytest.approx(24 / 64)


class Answering:
    """A session that answers one question in another way."""

    def __init__(self, connection: Connection, question: str, answer: list[tuple]) -> None:
        self._connection, self._question, self._answer = connection, question, answer

    def __getattr__(self, name: str):
        return getattr(self._connection, name)

    def query(self, sql: str, params: tuple = ()):
        return self._answer if self._question in sql else self._connection.query(sql, params)


@pytest.mark.parametrize(
    ("version", "own_files", "cluster", "why"),
    [
        ("10.5.29-MariaDB-log", "ON", "OFF", r"only MariaDB from 10\.6 on"),
        ("8.0.36", "ON", "OFF", r"only MariaDB from 10\.6 on"),
        ("11.4.2-MariaDB", "OFF", "OFF", "innodb_file_per_table"),
        ("10.11.6-MariaDB", "ON", "ON", "cluster"),
    ],
)
def test_servers_that_cannot_do_it(connection: Connection, version: str, own_files: str, cluster: str, why: str):
    answer = [("version", version), ("innodb_file_per_table", own_files), ("wsrep_on", cluster)]
    (line,) = why_not(Answering(connection, "SHOW VARIABLES", answer))
    assert re.search(why, line)


def test_only_mariadb():
    (line,) = why_not(Connection(DatabaseSettings("oracle", "u", "p"), None, None, 1, False))
    assert "only MariaDB" in line


def in_thread(server: MariaDBServer, statement: str) -> threading.Thread:
    """Run a statement as root beside everything else; the agent's account does not see it."""

    def run() -> None:
        with connect(server.root_settings(), statement_timeout=60, read_only=False) as connection:
            connection.execute(statement)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def waiting(root: Connection) -> int:
    return int(
        root.query(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for table metadata%'"
        )[0][0]
    )


def test_writers_that_come_after_the_plan_wait_and_find_the_new_tables(
    mariadb_server: MariaDBServer, agent: DatabaseSettings, connection: Connection, root: Connection
):
    db = agent.name
    statements = [
        f"INSERT INTO {db}.dbsbuffer_file (id, lfn, dataset_algo, workflow) VALUES (900, 'late', 1, 3)",
        f"INSERT INTO {db}.dbsbuffer_file_runlumi_map VALUES (41, 9, 9, 9)",
        f"INSERT INTO {db}.dbsbuffer_file_checksums VALUES (41, 3, 'late')",
        f"DELETE FROM {db}.dbsbuffer_file_location WHERE filename = 41 AND location = 1",
        f"INSERT INTO {db}.dbsbuffer_file_parent VALUES (43, 41)",
        f"UPDATE {db}.dbsbuffer_workflow SET completed = 1 WHERE id = 3",
        f"DELETE FROM {db}.dbsbuffer_dataset WHERE id = 2",
    ]
    threads: list[threading.Thread] = []

    def plan_and_let_them_come(planning: Connection) -> Plan:
        plan = make_plan(planning, RULES)
        threads.extend(in_thread(mariadb_server, statement) for statement in statements)
        wait_for(lambda: waiting(root) == len(statements))
        return plan

    result = rebuild(connection, plan_and_let_them_come, placeholders=False)
    for thread in threads:
        thread.join(20)
    rows = after(contents(), result.plan, placeholders=False)
    left = read(connection)
    assert 900 in {file.id for file in left.files}
    assert set(left.runlumis) - set(rows.runlumis) == {RunLumi(41, 9, 9, 9)}
    assert set(left.checksums) - set(rows.checksums) == {Checksum(41, 3, "late")}
    assert set(rows.file_locations) - set(left.file_locations) == {FileLocation(41, 1)}
    assert Parent(43, 41) in left.parents
    assert {row.id: row.completed for row in left.workflows}[3] == 1
    assert not {INPUT_GOES, INPUT_STAYS, INPUT_ALONE} & {file.id for file in left.files}  # by the cascade


def test_a_write_in_the_very_moment_of_the_swap_is_found(
    mariadb_server: MariaDBServer, agent: DatabaseSettings, connection: Connection, root: Connection, monkeypatch
):
    statement = f"INSERT INTO {agent.name}.dbsbuffer_file_runlumi_map VALUES (41, 9, 9, 9)"
    threads: list[threading.Thread] = []
    time.sleep(1.1)  # the server notes the second of a write

    def progress(step: str) -> None:
        if step == "swap":
            threads.append(in_thread(mariadb_server, statement))
            wait_for(lambda: waiting(root) == 1)

    def too_early(guards: Guards, table: str, renaming: Future[int]) -> None:
        # What the locks are for: a table that is unlocked before the RENAME waits for it is the writer's.
        guards.held["dbsbuffer_file_runlumi_map"].execute("UNLOCK TABLES")
        threads[0].join(20)

    monkeypatch.setattr(Guards, "_wait_until_wanted", too_early)
    with pytest.raises(
        WMAgentError, match=r"wrote to dbsbuffer_file_runlumi_map in the moment .* The tables were swapped"
    ):
        cleaned(connection, progress=progress)
    threads[0].join(20)
    assert len(leftovers(connection).old) == 5
    with pytest.raises(WMAgentError, match="1 of its rows are not in dbsbuffer_file_runlumi_map as they were"):
        clean_up(connection)
    connection.execute("INSERT INTO dbsbuffer_file_runlumi_map VALUES (41, 9, 9, 9)")
    assert clean_up(connection)


def test_a_session_of_the_agent_that_comes_before_the_swap_makes_it_give_up(
    agent: DatabaseSettings, connection: Connection
):
    with ThreadPoolExecutor(1) as pool:
        writes: list[Future[None]] = []

        def write() -> None:
            with session(agent) as other:
                other.execute("INSERT INTO dbsbuffer_file_runlumi_map VALUES (41, 9, 9, 9)")

        def progress(step: str) -> None:
            if step == "verify":
                writes.append(pool.submit(write))
                time.sleep(0.3)

        with pytest.raises(WMAgentError, match=r"has connected to database .* given up and nothing was changed$"):
            cleaned(connection, progress=progress)
        writes[0].result()
    rows = contents()
    rows.runlumis.append(RunLumi(41, 9, 9, 9))
    assert untouched(agent, rows)


def test_an_open_transaction_that_wrote_is_named(agent: DatabaseSettings, connection: Connection, root: Connection):
    root.begin()
    root.execute(f"UPDATE {agent.name}.dbsbuffer_file_location SET location = 2 WHERE filename = 1 AND location = 3")
    root.execute(f"INSERT INTO {agent.name}.dbsbuffer_file_location VALUES (64, 1)")
    with pytest.raises(WMAgentError, match="open transactions still write to dbsbuffer_file_location after 1 s"):
        cleaned(connection, lock_wait=1)
    root.rollback()
    assert untouched(agent)


@pytest.mark.parametrize("table", ["dbsbuffer_file", "dbsbuffer_file_runlumi_map"])
def test_a_reader_that_does_not_end_makes_it_give_up(
    agent: DatabaseSettings, connection: Connection, root: Connection, table: str
):
    root.begin_snapshot()
    root.query(f"SELECT COUNT(*) FROM {agent.name}.{table}")
    with pytest.raises(WMAgentError, match=r"could not get a lock .* given up and nothing was changed$") as error:
        cleaned(connection, lock_wait=1)
    assert "\n" not in str(error.value)
    root.rollback()
    assert untouched(agent)
    cleaned(connection)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time that a rebuild sees, in seconds."""
    now = [0.0]
    monkeypatch.setattr(rebuild_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.mark.parametrize(
    "last", ["plan", "copy dbsbuffer_file_location", "make keys of dbsbuffer_file_parent", "verify"]
)
def test_no_step_is_begun_after_the_deadline_until_the_swap(
    agent: DatabaseSettings, connection: Connection, clock: list[float], last: str
):
    steps: list[str] = []

    def progress(step: str) -> None:
        steps.append(step)
        if step == last:
            clock[0] = 11

    until = STEPS.index(last) + 1
    with pytest.raises(WMAgentError, match=rf"^the time is up before this step of the rebuild: {STEPS[until]}"):
        cleaned(connection, progress=progress, deadline=10)
    assert tuple(steps) == STEPS[:until]
    assert untouched(agent)


def test_a_swap_is_finished_after_the_deadline(connection: Connection, clock: list[float]):
    steps: list[str] = []

    def progress(step: str) -> None:
        steps.append(step)
        if step == "swap":
            clock[0] = 11

    assert cleaned(connection, progress=progress, deadline=10).dropped["dbsbuffer_file"] == 40
    assert tuple(steps) == STEPS
    assert not leftovers(connection).found


def test_a_connection_lost_on_the_way_is_one_clear_error(
    agent: DatabaseSettings, connection: Connection, root: Connection
):
    number = session_id(connection)

    def progress(step: str) -> None:
        if step == "copy dbsbuffer_file_checksums":
            root.execute(f"KILL {number}")

    with pytest.raises(
        WMAgentError, match=r"closed the connection .*The rebuild was given up and nothing was changed$"
    ):
        cleaned(connection, progress=progress)
    assert untouched(agent)


@pytest.mark.parametrize("which", [0, 4, 5, 6])
def test_a_lock_that_is_lost_on_the_way_makes_it_give_up(
    agent: DatabaseSettings, connection: Connection, root: Connection, which: int
):
    number = session_id(connection)

    def progress(step: str) -> None:
        if step == "verify":
            rows = root.query(
                "SELECT id FROM information_schema.processlist WHERE db = %s AND id <> %s ORDER BY id",
                (agent.name, number),
            )
            assert len(rows) == 8
            root.execute(f"KILL {rows[which][0]}")

    with pytest.raises(
        WMAgentError, match=r"closed the connection .*The rebuild was given up and nothing was changed$"
    ):
        cleaned(connection, progress=progress)
    assert untouched(agent)
