# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence that no record was touched, on a real MariaDB: whatever is written shows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database import mariadb_evidence
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.evidence import (
    compare_records,
    digest,
    read_records,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer, throwaway_mariadb
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.mariadb import create_database, run_script

TABLES = """
CREATE TABLE parent (id INT PRIMARY KEY AUTO_INCREMENT, v INT);
CREATE TABLE child (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES parent(id) ON DELETE CASCADE);
CREATE TABLE grandchild (child INT, FOREIGN KEY (child) REFERENCES child(id) ON DELETE CASCADE);
CREATE TABLE lost (parent INT NULL, FOREIGN KEY (parent) REFERENCES parent(id) ON DELETE SET NULL);
CREATE TABLE alone (a INT, b VARCHAR(20));
CREATE TABLE `odd name` (a INT);
CREATE TABLE parts (a INT PRIMARY KEY) PARTITION BY HASH (a) PARTITIONS 3;
INSERT INTO parent VALUES (1, 1), (2, 2);
INSERT INTO child VALUES (10, 1), (20, 2);
INSERT INTO grandchild VALUES (10), (20);
INSERT INTO lost VALUES (1), (2);
INSERT INTO alone VALUES (1, 'x'), (2, 'y');
INSERT INTO `odd name` VALUES (1);
INSERT INTO parts VALUES (1), (2);
"""


@pytest.fixture
def database(agent_database: DatabaseSettings) -> DatabaseSettings:
    run_script(agent_database, TABLES)
    return agent_database


@pytest.fixture
def reader(database: DatabaseSettings) -> Iterator[Connection]:
    """As the modules read: a read-only session with rights on this database alone."""
    with connect(database, timeout=20) as connection:
        yield connection


def write(database: DatabaseSettings, *statements: str) -> None:
    with connect(database, timeout=20, read_only=False) as connection:
        for statement in statements:
            connection.execute(statement)


WRITES = {
    "INSERT INTO parent (v) VALUES (5)": {"parent"},
    "UPDATE parent SET v = v + 1 WHERE id = 1": {"parent"},
    "DELETE FROM alone WHERE a = 1": {"alone"},
    "UPDATE alone SET b = 'z' WHERE a = 2": {"alone"},
    "DELETE FROM parent WHERE id = 1": {"parent", "child", "grandchild", "lost"},
    "DELETE FROM child WHERE id = 10": {"child", "grandchild"},
    "INSERT INTO `odd name` VALUES (2)": {"odd name"},
    "INSERT INTO parts VALUES (7)": {"parts"},
    "TRUNCATE TABLE grandchild": {"grandchild"},
    "TRUNCATE TABLE alone": {"alone"},
    "INSERT INTO alone SELECT a, b FROM alone": {"alone"},
    "REPLACE INTO child VALUES (10, 2)": {"child", "grandchild"},
    "ALTER TABLE parent ADD COLUMN w INT": {"parent"},
    "CREATE INDEX i ON alone (a)": {"alone"},
    "CREATE TABLE another (a INT)": {"another"},
    "DROP TABLE grandchild": {"grandchild"},
    "RENAME TABLE alone TO renamed": {"alone", "renamed"},
}


def read_around(database: DatabaseSettings, statement: str) -> tuple[dict, dict]:
    """Readings before and after a statement."""
    run_script(database, TABLES)
    with connect(database, timeout=20) as connection:
        before = read_records(connection)
        # At once: the reading has to have waited until a write can be told from those of its own second.
        write(database, statement)
        return before, read_records(connection)


SIZES = pytest.mark.parametrize("small", [mariadb_evidence.SMALL, 0], ids=["small", "large"])
"""Tables small enough for a checksum, and tables taken for too large for one."""


@pytest.fixture(scope="module", params=[mariadb_evidence.SMALL, 0], ids=["small", "large"])
def readings(request: pytest.FixtureRequest, mariadb_server: MariaDBServer):
    """Each statement in a database of its own, all at the same time: most of it is waiting."""
    names = {text: f"writes_{os.getpid()}_{request.param}_{number}" for number, text in enumerate(WRITES)}
    for name in names.values():
        create_database(mariadb_server, name)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(names)) as pool:
        patch.setattr(mariadb_evidence, "SMALL", request.param)
        jobs = {text: pool.submit(read_around, mariadb_server.settings(name), text) for text, name in names.items()}
        return {statement: job.result() for statement, job in jobs.items()}


@pytest.mark.parametrize("statement", WRITES)
def test_any_write_shows_in_its_tables(readings, statement):
    before, after = readings[statement]
    assert {line.partition(":")[0] for line in compare_records(before, after)} == WRITES[statement]
    assert digest(before) != digest(after)


def test_nothing_shows_where_nothing_was_changed(database, reader):
    before = read_records(reader)
    write(
        database,
        "SELECT * FROM parent",
        "UPDATE parent SET v = v",
        "UPDATE parent SET v = 9 WHERE id = 99",
        "DELETE FROM child WHERE id = 99",
        "START TRANSACTION",
        "INSERT INTO parent VALUES (50, 1)",
        "DELETE FROM child",
        "ROLLBACK",
        "ANALYZE TABLE parent",
    )
    after = read_records(reader)
    assert compare_records(before, after) == []
    assert digest(before) == digest(after)


def test_the_reading_itself_leaves_no_trace_and_no_lock(database, reader):
    first = read_records(reader)
    assert compare_records(first, read_records(reader)) == []
    with pytest.raises(WMAgentError, match="read-only"):
        reader.execute("INSERT INTO parent VALUES (3, 3)")
    write(database, "SET SESSION lock_wait_timeout = 1", "INSERT INTO parent VALUES (3, 3)")


@SIZES
def test_writes_in_the_same_second_show_every_time(database, reader, small, monkeypatch):
    monkeypatch.setattr(mariadb_evidence, "SMALL", small)
    for number in range(2):
        write(database, f"INSERT INTO alone VALUES ({number}, 'q')", f"INSERT INTO parent (v) VALUES ({number})")
        before = read_records(reader)
        write(database, f"UPDATE parent SET v = v + 10 WHERE v = {number}")
        lines = compare_records(before, read_records(reader))
        assert [line.partition(":")[0] for line in lines] == ["parent"]


@pytest.mark.parametrize("first", ["INSERT INTO parent (v) VALUES (7)", "SELECT COUNT(*) FROM parent"])
def test_an_open_transaction_is_an_error_that_names_its_table(database, reader, first):
    with connect(database, timeout=20, read_only=False) as other:
        other.begin()
        other.execute(first)
        with pytest.raises(WMAgentError, match=r"open transactions still use .*parent"):
            read_records(reader, lock_wait=1)
        other.rollback()
    assert read_records(reader)["tables"]


def test_an_open_transaction_that_ends_in_time_is_waited_for(database, reader):
    with connect(database, timeout=20, read_only=False) as other:
        other.begin()
        other.execute("INSERT INTO parent (v) VALUES (7)")
        timer = threading.Timer(1.5, lambda: (other.commit(), other.close()))
        timer.start()
        before = read_records(reader)
        timer.join()
    assert before["sessions"] == []
    assert compare_records(before, read_records(reader)) == []


@SIZES
def test_a_snapshot_from_before_the_reading_cannot_write_unseen(database, reader, small, monkeypatch):
    monkeypatch.setattr(mariadb_evidence, "SMALL", small)
    write(database, "INSERT INTO parent (v) VALUES (7)")
    with connect(database, timeout=20, read_only=False) as other:
        # InnoDB will note this transaction's begin, the very second of the write above.
        other.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        before = read_records(reader)
        other.execute("UPDATE parent SET v = 8 WHERE v = 7")
        other.commit()
    lines = compare_records(before, read_records(reader))
    assert len(lines) == 1
    # Of a small table the checksum is another; a large one shows the same time as before, but for the open session.
    assert ("parent: its rows have another checksum" if small else "cannot be told; end that session") in lines[0] or (
        "parent: was written" in lines[0]
    )


def test_a_restart_cannot_be_told_from_a_change(mariadb_template):
    with throwaway_mariadb(template=mariadb_template) as server:
        run_script(server.settings(), TABLES)
        with connect(server.settings()) as connection:
            before = read_records(connection)
        server.restart()
        with connect(server.settings()) as connection:
            lines = compare_records(before, read_records(connection))
    assert len(lines) == 1
    assert "restarted" in lines[0] and "cannot be told" in lines[0]


def test_an_empty_database_gives_no_evidence(agent_database):
    with connect(agent_database) as connection, pytest.raises(WMAgentError, match="holds no table"):
        read_records(connection)


def test_the_account_has_no_rights_beyond_its_own_database(database, mariadb_server: MariaDBServer):
    with connect(database) as connection:
        grants = [row[0] for row in connection.query("SHOW GRANTS")]
    assert not [line for line in grants if "*.*" in line and "USAGE" not in line]


def test_a_small_table_written_just_now_need_not_be_waited_for(database, reader):
    read_records(reader)
    write(database, "UPDATE parent SET v = 100")
    start = time.monotonic()
    reading = read_records(reader)
    assert time.monotonic() - start < 0.5
    assert reading["unsettled"] == ["parent"]


def test_many_rows_cost_nothing(database, reader):
    write(database, "INSERT INTO child SELECT seq + 100, 1 FROM seq_1_to_200000")
    before = read_records(reader)
    start = time.monotonic()
    after = read_records(reader)
    assert time.monotonic() - start < 0.5
    assert compare_records(before, after) == []
