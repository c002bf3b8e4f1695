# SPDX-License-Identifier: GPL-3.0-or-later
"""The load of real MariaDB servers: sessions at work, and a replica that falls behind or stands still."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.load import LoadGuard, MariaDBLoad, load_reader
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.steps import StepSize, retried
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer, throwaway_mariadb
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits

NO_LIMITS = Limits(None, None, None)
SLEEPERS = 6
BUSY = f"SELECT SLEEP(120) /* {__name__} */"


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to this in time"
        time.sleep(0.05)


@dataclass
class Sleepers:
    """Sessions that run one long statement each."""

    root: Connection

    def at_work(self) -> list[int]:
        return [
            int(number)
            for number, statement in self.root.query("SELECT id, info FROM information_schema.processlist")
            if statement == BUSY
        ]

    def wake(self) -> None:
        for number in self.at_work():
            self.root.execute(f"KILL QUERY {number}")
        until(lambda: not self.at_work())


@contextmanager
def sleepers(server: MariaDBServer, database: DatabaseSettings) -> Iterator[Sleepers]:
    def sleep() -> None:
        with (
            connect(database, statement_timeout=150) as session,
            pytest.raises(WMAgentError, match="Query execution was interrupted"),
        ):
            session.query(BUSY)

    with connect(server.root_settings()) as root, ThreadPoolExecutor(SLEEPERS) as pool:
        busy = Sleepers(root)
        futures = [pool.submit(sleep) for _ in range(SLEEPERS)]
        try:
            until(lambda: len(busy.at_work()) == SLEEPERS)
            yield busy
        finally:
            busy.wake()
        for future in futures:
            future.result()


def test_sessions_at_work_are_counted_and_the_guard_waits_for_them(mariadb_server, agent_database):
    with connect(agent_database) as connection, load_reader(connection, pytest.fail) as read:
        assert read().threads_running < SLEEPERS
        with sleepers(mariadb_server, agent_database) as busy:
            assert read().threads_running >= SLEEPERS
            looks = []

            def sleep(seconds: float) -> None:
                looks.append(guard.why)
                time.sleep(0.05)
                if len(looks) == 3:
                    busy.wake()

            guard = LoadGuard(read, SLEEPERS, 500, 60, 600, sleep=sleep)
            assert guard.wait(NO_LIMITS) == ""
        assert len(looks) >= 3 and looks[0].startswith("Threads_running ")
        assert guard.throttled_seconds > 0.1 and guard.why == ""


def test_the_guard_gives_up_at_the_upper_limit_and_at_the_end_of_the_time(mariadb_server, agent_database):
    with (
        connect(agent_database) as connection,
        MariaDBLoad(connection) as read,
        sleepers(mariadb_server, agent_database),
    ):
        guard = LoadGuard(read, 1, SLEEPERS, 60, 600)
        assert guard.wait(NO_LIMITS) == "load"
        assert guard.why.endswith(f" >= {SLEEPERS}")
        guard = LoadGuard(read, 1, 500, 60, 600, poll=0.05)
        assert guard.wait(Limits(0.3, None, None)) == "max_runtime"
        assert 0.2 < guard.throttled_seconds < 30


def test_the_account_of_an_agent_needs_no_right_of_its_own(agent_database):
    with connect(agent_database) as connection:
        load = MariaDBLoad(connection)()
    assert load.threads_running >= 0 and load.replica_lag is None


def test_a_row_that_another_session_holds_halves_the_step(agent_database):
    with connect(agent_database, read_only=False) as holder, connect(agent_database, read_only=False) as cleaner:
        holder.execute("CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB")
        holder.execute("INSERT INTO t SELECT seq FROM seq_1_to_100")
        holder.begin()
        holder.execute("UPDATE t SET id = 1000 WHERE id = 60")
        cleaner.execute("SET SESSION innodb_lock_wait_timeout = 1")

        def step(ids: int) -> int:
            cleaner.begin()
            try:
                done = cleaner.execute("DELETE FROM t WHERE id <= 10")
                done += cleaner.execute("DELETE FROM t WHERE id BETWEEN 11 AND %s", [ids])
                cleaner.commit()
            except WMAgentError:
                cleaner.rollback()
                raise
            return done

        size = StepSize(start=80)
        assert retried(step, size, sleep=lambda seconds: None) == 40
        assert size.size == 40
        holder.rollback()
        assert holder.query("SELECT COUNT(*) FROM t") == [(60,)]


@dataclass
class Pair:
    """A server and its replica, both with root's sessions, and how the replica is watched."""

    primary: Connection
    replica: Connection
    server: MariaDBServer
    watched: DatabaseSettings

    def insert(self) -> None:
        self.primary.execute("INSERT INTO wmagent.t VALUES (NULL)")

    def has_all(self) -> bool:
        count = "SELECT COUNT(*) FROM wmagent.t"
        return self.replica.query(count) == self.primary.query(count)


@pytest.fixture(scope="module")
def pair(mariadb_template: Path) -> Iterator[Pair]:
    with (
        throwaway_mariadb(template=mariadb_template, options=["--server-id=1", "--log-bin=primary"]) as one,
        throwaway_mariadb(template=mariadb_template, options=["--server-id=2"]) as two,
        connect(one.root_settings(), read_only=False) as primary,
        connect(two.root_settings(), read_only=False) as replica,
    ):
        user = "'copier'@'127.0.0.1'"
        primary.execute(f"CREATE USER {user} IDENTIFIED BY '{one.password}'")
        primary.execute(f"GRANT REPLICATION SLAVE ON *.* TO {user}")
        replica.execute(f"CREATE USER 'watcher'@'127.0.0.1' IDENTIFIED BY '{two.password}'")
        replica.execute("GRANT SLAVE MONITOR ON *.* TO 'watcher'@'127.0.0.1'")
        # Both servers made their accounts by themselves: the copy starts after that.
        (at,) = primary.query_named("SHOW MASTER STATUS")
        replica.execute(
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={one.port}, MASTER_USER='copier', "
            f"MASTER_PASSWORD='{one.password}', MASTER_LOG_FILE='{at['File']}', MASTER_LOG_POS={at['Position']}"
        )
        replica.execute("START SLAVE")
        primary.execute("CREATE TABLE wmagent.t (id INT AUTO_INCREMENT PRIMARY KEY)")
        until(lambda: bool(replica.query("SHOW TABLES FROM wmagent LIKE 't'")))
        yield Pair(primary, replica, two, replace(two.settings(""), user="watcher"))


def test_a_replica_that_keeps_up(pair: Pair):
    pair.insert()
    until(pair.has_all)
    with MariaDBLoad(pair.primary, [pair.watched]) as read:
        until(lambda: read().replica_lag == 0)
        assert read().replica == pair.watched.where
        assert LoadGuard(read, 100, 200, 1, 2).wait(NO_LIMITS) == ""


def test_the_guard_waits_for_a_replica_that_is_behind(pair: Pair):
    with MariaDBLoad(pair.primary, [pair.watched]) as read:
        pair.replica.execute("LOCK TABLES wmagent.t WRITE")
        try:
            pair.insert()
            until(lambda: (read().replica_lag or 0) >= 1)
            guard = LoadGuard(read, 100, 200, 0.5, 1)
            assert guard.wait(NO_LIMITS) == "load"
            assert guard.why.startswith(f"{pair.watched.where} lags ")
            looks = []

            def sleep(seconds: float) -> None:
                looks.append(guard.why)
                if len(looks) == 2:
                    pair.replica.execute("UNLOCK TABLES")
                time.sleep(0.1)

            guard = LoadGuard(read, 100, 200, 1, 600, sleep=sleep)
            assert guard.wait(NO_LIMITS) == ""
        finally:
            pair.replica.execute("UNLOCK TABLES")
        assert len(looks) >= 2 and "lags" in looks[0]
        assert guard.throttled_seconds > 0.1
    until(pair.has_all)


@pytest.mark.parametrize("thread", ["SQL_THREAD", "IO_THREAD"])
def test_a_replica_that_stands_still_is_an_error(pair: Pair, thread: str):
    with MariaDBLoad(pair.primary, [pair.watched]) as read:
        guard = LoadGuard(read, 100, 200, 5, 10)
        pair.replica.execute(f"STOP SLAVE {thread}")
        try:
            with pytest.raises(WMAgentError, match=rf"is not running .*Slave_{thread[:-7]}_Running: No"):
                guard.wait(NO_LIMITS)
        finally:
            pair.replica.execute(f"START SLAVE {thread}")
        until(lambda: _known(read))
        assert guard.wait(NO_LIMITS) == ""


def _known(read: MariaDBLoad) -> bool:
    try:
        return read().replica_lag == 0
    except WMAgentError:
        return False


def test_a_server_that_is_no_replica_and_an_account_without_the_right(pair: Pair, mariadb_server):
    with (
        MariaDBLoad(pair.primary, [mariadb_server.root_settings()]) as read,
        pytest.raises(WMAgentError, match="replicates nothing"),
    ):
        read()
    with (
        MariaDBLoad(pair.primary, [pair.server.settings()]) as read,
        pytest.raises(WMAgentError, match="SLAVE MONITOR"),
    ):
        read()
