# SPDX-License-Identifier: GPL-3.0-or-later
"""Oracle for tests: H2 in Oracle mode behind the collection's own ``Connection``, or a real one.

Where the environment variable ORACLE_DSN is set (``user/password@host:port/service``), tests run on that account. **Its
tables are dropped** before and after each test.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import jaydebeapi
import jpype
from ansible_collections.dmwm.wmagent.plugins.module_utils._database import oracle_rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    ORACLE,
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.h2 import H2_JAR

_ACCOUNT = "WMAGENT"
_READ_COMMITTED, _SNAPSHOT = 2, 6
_LOCK_TIMEOUT = 50200
_CODES = {
    23502: "ORA-01400",
    23503: "ORA-02292",
    23505: "ORA-00001",
    23506: "ORA-02291",
    40001: "ORA-00060",
    _LOCK_TIMEOUT: "ORA-00054",
    42101: "ORA-00955",
    42102: "ORA-00942",
    42122: "ORA-00904",
    57014: "DPY-4024",
}
"""H2's error codes in Oracle's words: driver_errors knows these."""

_STRING_OR_PLACEHOLDER = re.compile(r"'(?:[^']|'')*'|:(?P<number>\d+)")
_WAIT = re.compile(r"(?P<lock>\bFOR\s+UPDATE\b[^()]*?)\s+(?:NOWAIT|WAIT\s+(?P<seconds>\d+))\s*$", re.IGNORECASE)
_LOCK_TABLE = re.compile(r"\s*LOCK\s+TABLE\s+\w+\s+IN\s+[A-Z ]+\s+MODE(?:\s+WAIT\s+\d+)?\s*$", re.IGNORECASE)
_READ_ONLY = re.compile(r"\s*SET\s+TRANSACTION\s+READ\s+ONLY\s*$", re.IGNORECASE)
_WRITE = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|MERGE)\b|.*\bFOR\s+UPDATE\b", re.IGNORECASE | re.DOTALL)

_numbers = itertools.count(1)
_starting = threading.Lock()


class H2Error(Exception):
    """What H2 ran into, with Oracle's code."""


_DRIVER = SimpleNamespace(__name__="h2", Error=H2Error)


@dataclass(frozen=True)
class OracleDatabase:
    """One account; any number of sessions, in any number of threads."""

    settings: DatabaseSettings
    real: bool

    def session(self, *, read_only: bool = False, timeout: float = 30, lock_timeout: float = 0.2) -> Connection:
        """Open one; close it as any other.

        timeout:      seconds for a statement
        lock_timeout: H2 only: seconds until a row lock that another session holds is a DatabaseBusyError. Oracle waits
                      until ``timeout``, except for what says NOWAIT or WAIT n, which H2's sessions follow too.
        """
        if self.real:
            return connect(self.settings, timeout, read_only=read_only)
        session = _Session(self.settings, timeout, lock_timeout)
        connection = Connection(self.settings, _DRIVER, session, timeout, read_only)
        if read_only:
            connection.execute("SET TRANSACTION READ ONLY")
        return connection


@contextmanager
def oracle_database() -> Iterator[OracleDatabase]:
    """An empty account of its own, gone afterwards."""
    if os.environ.get("ORACLE_DSN"):
        database = OracleDatabase(_real_settings(os.environ["ORACLE_DSN"]), real=True)
        _drop_tables(database)
        yield database
        _drop_tables(database)
        return
    settings = DatabaseSettings(ORACLE, _ACCOUNT, f"{_ACCOUNT}-word", f"test{next(_numbers)}")
    _start_java()
    # The database is gone with its last session, which is this one.
    keeper = _jdbc(settings, "")
    with keeper.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {_ACCOUNT}")
    try:
        yield OracleDatabase(settings, real=False)
    finally:
        keeper.close()


class _Session:
    """A DB-API session, as python-oracledb's would be."""

    def __init__(self, settings: DatabaseSettings, timeout: float, lock_timeout: float) -> None:
        self._lock_timeout = int(lock_timeout * 1000)
        options = f";SCHEMA={_ACCOUNT};LOCK_TIMEOUT={self._lock_timeout};QUERY_TIMEOUT={int(timeout * 1000)}"
        self._session = _jdbc(settings, options)
        self._session.jconn.setAutoCommit(False)
        self.read_only = False

    def cursor(self) -> _Cursor:
        return _Cursor(self, self._session.cursor())

    def commit(self) -> None:
        self._end("commit")

    def rollback(self) -> None:
        self._end("rollback")

    def close(self) -> None:
        _attach()
        with _oracle_errors():
            self._session.close()

    def set_read_only(self, wanted: bool) -> None:
        """Until the transaction's end: no writes, and the data as of now."""
        self.read_only = wanted
        self._session.jconn.setTransactionIsolation(_SNAPSHOT if wanted else _READ_COMMITTED)

    @contextmanager
    def lock_timeout(self, milliseconds: int) -> Iterator[None]:
        """Another one for one statement."""
        with self._session.cursor() as cursor:
            cursor.execute(f"SET LOCK_TIMEOUT {milliseconds}")
            try:
                yield
            finally:
                cursor.execute(f"SET LOCK_TIMEOUT {self._lock_timeout}")

    def _end(self, how: str) -> None:
        _attach()
        with _oracle_errors():
            getattr(self._session, how)()
        if self.read_only:
            self.set_read_only(False)


class _Cursor:
    """A DB-API cursor; what Oracle would refuse is an AssertionError."""

    def __init__(self, session: _Session, cursor: Any) -> None:
        self._session = session
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        return int(self._cursor.rowcount)

    def execute(self, sql: str, params: Sequence[Any] = ()) -> None:
        self._check(sql)
        if _READ_ONLY.match(sql):
            self._session.set_read_only(True)
            self._cursor.execute("SELECT 1 FROM DUAL")
            return
        if _LOCK_TABLE.match(sql):  # H2 has no such statement; its transactions see each other by rows alone
            self._cursor.execute("SELECT 1 FROM DUAL")
            return
        sql = _h2_placeholders(sql)
        if wait := _WAIT.search(sql):
            seconds = wait["seconds"]
            with self._session.lock_timeout(int(seconds) * 1000 if seconds else 1), _oracle_errors(waited=seconds):
                self._cursor.execute(sql[: wait.start()] + wait["lock"], list(params))
        else:
            with _oracle_errors():
                self._cursor.execute(sql, list(params))

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._check(sql)
        with _oracle_errors():
            self._cursor.executemany(_h2_placeholders(sql), rows)

    @property
    def description(self) -> Any:
        return self._cursor.description

    def fetchall(self) -> list[tuple[Any, ...]]:
        with _oracle_errors():
            return [tuple(_python(value) for value in row) for row in self._cursor.fetchall()]

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        with _oracle_errors():
            return [tuple(_python(value) for value in row) for row in self._cursor.fetchmany(size)]

    def close(self) -> None:
        _attach()
        with _oracle_errors():
            self._cursor.close()

    def __enter__(self) -> _Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self, sql: str) -> None:
        _attach()
        if problems := _problems(sql):
            raise AssertionError(f"Oracle would refuse {' '.join(sql.split())[:300]!r}: {'; '.join(problems)}")
        if self._session.read_only and _WRITE.match(sql):
            raise H2Error("ORA-01456: may not perform insert, delete, update operation inside a READ ONLY transaction")


@lru_cache(maxsize=500)
def _problems(sql: str) -> list[str]:
    return oracle_rules.problems(sql)


def _h2_placeholders(sql: str) -> str:
    return _STRING_OR_PLACEHOLDER.sub(lambda found: f"?{found['number']}" if found["number"] else found[0], sql)


def _python(value: Any) -> Any:
    """A value as python-oracledb gives it: whole numbers are int, whatever their column's type."""
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "getSubString"):
        return str(value.getSubString(1, int(value.length())))
    if isinstance(value, int):
        return int(value)
    return int(value) if float(value).is_integer() else float(value)


@contextmanager
def _oracle_errors(waited: str | None = None) -> Iterator[None]:
    try:
        yield
    except (jpype.JException, jaydebeapi.Error) as error:
        cause = error if isinstance(error, jpype.JException) else next(iter(error.args), None)
        if not hasattr(cause, "getErrorCode"):
            raise H2Error(str(error)) from None
        code = int(cause.getErrorCode())
        # Oracle's code for a WAIT that ended without the lock is another one than NOWAIT's.
        oracle = "ORA-30006" if waited and code == _LOCK_TIMEOUT else _CODES.get(code, f"H2-{code}")
        message = str(cause.getMessage()).split("; SQL statement")[0]
        raise H2Error(f"{oracle}: {message}") from None


def _start_java() -> None:
    """One virtual machine for the process; it leaves signals alone."""
    with _starting:
        if not jpype.isJVMStarted():
            options = ["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
            jpype.startJVM(*options, classpath=[str(H2_JAR)], convertStrings=True, interrupt=False)


def _attach() -> None:
    """Java waits at its end for all threads but daemons."""
    if not jpype.java.lang.Thread.isAttached():
        jpype.java.lang.Thread.attachAsDaemon()


def _jdbc(settings: DatabaseSettings, options: str) -> Any:
    _attach()
    url = f"jdbc:h2:mem:{settings.name};MODE=Oracle{options}"
    return jaydebeapi.connect("org.h2.Driver", url, [settings.user, settings.password])


def _real_settings(dsn: str) -> DatabaseSettings:
    account, name = dsn.rsplit("@", 1)
    user, password = account.split("/", 1)
    return DatabaseSettings(ORACLE, user, password, name)


def _drop_tables(database: OracleDatabase) -> None:
    with database.session() as session:
        for (table,) in session.query("SELECT table_name FROM user_tables"):
            session.execute(f'DROP TABLE "{table}" CASCADE CONSTRAINTS PURGE')
