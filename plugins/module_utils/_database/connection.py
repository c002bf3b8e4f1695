# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions with an agent's database: MariaDB through PyMySQL, Oracle through python-oracledb (thin) or cx_Oracle."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from ansible_collections.dmwm.wmagent.plugins.module_utils._database import driver_errors
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

MARIADB = "mariadb"
ORACLE = "oracle"

_MARIADB_PORT = 3306
_STREAMED = 1000
_HOST_AND_PORT = re.compile(r"^(?P<host>\[[^\]]+\]|[^:]+)(?::(?P<port>\d+))?$")


@dataclass(frozen=True)
class DatabaseSettings:
    """How to reach an agent's database.

    dialect:  ``mariadb`` or ``oracle``
    user, password: the agent's own account; the password never appears in ``repr``
    name:     MariaDB: the database (schema); Oracle: the connect string or TNS alias
    host, port: MariaDB over TCP; unused for Oracle
    socket:   MariaDB's UNIX socket, used instead of host and port where given
    tls_ca:   MariaDB: file with the CA that the server's certificate must chain to; empty for no demand
    """

    dialect: str
    user: str
    password: str = field(repr=False)
    name: str = ""
    host: str = ""
    port: int = _MARIADB_PORT
    socket: str = ""
    tls_ca: str = ""

    @property
    def where(self) -> str:
        """The server in words, without user or password."""
        if self.dialect == ORACLE:
            return f"Oracle {self.name}"
        return f"MariaDB at {self.socket or f'{self.host}:{self.port}'}"


def settings_from_secrets(secrets: Mapping[str, str], database: str = "wmagent") -> DatabaseSettings:
    """Database settings out of ``WMAgent.secrets``.

    secrets:  keys MDB_USER MDB_PASS MDB_HOST, optional MDB_PORT, MDB_SOCK (or MDB_UNIX_SOCKET), MDB_SSL_CA; the
              older MYSQL_USER MYSQL_PASS MYSQL_HOST …; or ORACLE_USER ORACLE_PASS ORACLE_TNS.
    database: MariaDB database name; Oracle needs none.

    Raises WMAgentError that names the missing key.
    """
    if secrets.get("ORACLE_USER"):
        return DatabaseSettings(
            dialect=ORACLE,
            user=secrets["ORACLE_USER"],
            password=_need(secrets, "ORACLE_PASS"),
            name=_need(secrets, "ORACLE_TNS"),
        )
    family = "MDB" if secrets.get("MDB_USER") else "MYSQL" if secrets.get("MYSQL_USER") else ""
    if not family:
        raise WMAgentError("WMAgent.secrets names no database account; set MDB_USER and MDB_PASS, or ORACLE_USER")
    host, port = _host_and_port(secrets, family)
    return DatabaseSettings(
        dialect=MARIADB,
        user=secrets[f"{family}_USER"],
        password=_need(secrets, f"{family}_PASS"),
        name=database,
        host=host,
        port=port,
        socket=secrets.get(f"{family}_SOCK") or secrets.get(f"{family}_UNIX_SOCKET") or "",
        tls_ca=secrets.get(f"{family}_SSL_CA", ""),
    )


def _need(secrets: Mapping[str, str], key: str) -> str:
    if value := secrets.get(key):
        return value
    raise WMAgentError(f"WMAgent.secrets has no {key}; fill it in")


def _host_and_port(secrets: Mapping[str, str], family: str) -> tuple[str, int]:
    port = secrets.get(f"{family}_PORT") or str(_MARIADB_PORT)
    return host_and_port(
        secrets.get(f"{family}_HOST") or "127.0.0.1", f"WMAgent.secrets: {family}_HOST or {family}_PORT", port
    )


def host_and_port(text: str, what: str, default_port: str = str(_MARIADB_PORT)) -> tuple[str, int]:
    """``host`` or ``host:port`` taken apart. what: where it stands, for the message. Raises WMAgentError."""
    match = _HOST_AND_PORT.match(text)
    port = (match and match["port"]) or default_port
    if not match or not port.isdigit() or not 0 < int(port) < 65536:
        raise WMAgentError(f"{what} is wrong; write host, or host:port")
    return match["host"].strip("[]"), int(port)


class Queries(Protocol):
    """What the readers of structure and records need of a session."""

    @property
    def dialect(self) -> str:
        """``mariadb`` or ``oracle``."""

    @property
    def database(self) -> str:
        """The MariaDB database, or the Oracle account that owns the tables."""

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement."""


class Connection:
    """One session; a context manager that closes it.

    Placeholders are ``%s`` in either dialect (a literal percent sign is ``%%`` where parameters are given). Every
    statement has the time limit given to :func:`connect`; what it runs into is a WMAgentError.
    """

    def __init__(self, settings: DatabaseSettings, driver: Any, session: Any, timeout: float, read_only: bool) -> None:
        self.settings = settings
        self._driver = driver
        self._session = session
        self._timeout = timeout
        self._read_only = read_only

    @property
    def dialect(self) -> str:
        """``mariadb`` or ``oracle``."""
        return self.settings.dialect

    @property
    def read_only(self) -> bool:
        """Whether the session refuses every write."""
        return self._read_only

    @property
    def database(self) -> str:
        """The MariaDB database, or the Oracle account that owns the tables."""
        return self.settings.user.upper() if self.dialect == ORACLE else self.settings.name

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement. Raises WMAgentError."""
        with self._cursor(sql, params) as cursor:
            return [tuple(row) for row in cursor.fetchall()]

    def query_named(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """All rows of one statement, each with its columns by name as the server writes them. Raises WMAgentError.

        For statements whose columns nobody can choose (``SHOW …``): servers add some between others.
        """
        with self._cursor(sql, params) as cursor:
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def stream(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """The rows of one statement as they come, never all in memory; read to the end before the next statement.

        Raises WMAgentError.
        """
        # PyMySQL's own cursor holds the whole result; SSCursor, which it has for this, leaves it with the server.
        kind = (self._driver.cursors.SSCursor,) if self.dialect == MARIADB else ()
        with self._cursor(sql, (), *kind) as cursor:
            while rows := self._fetched(cursor):
                yield from (tuple(row) for row in rows)

    def _fetched(self, cursor: Any) -> list[tuple[Any, ...]]:
        try:
            return list(cursor.fetchmany(_STREAMED))
        except Exception as error:
            raise self._translated(error) from None

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Run one statement and return how many rows it changed. Raises WMAgentError."""
        with self._cursor(sql, params) as cursor:
            return int(cursor.rowcount)

    def _cursor(self, sql: str, params: Sequence[Any], *kind: Any) -> Any:
        cursor = self._session.cursor(*kind)
        try:
            if params and self.dialect == ORACLE:
                cursor.execute(_oracle_placeholders(sql), list(params))
            elif params:
                cursor.execute(sql, list(params))
            else:
                cursor.execute(sql)
        except Exception as error:
            cursor.close()
            raise self._translated(error) from None
        return cursor

    def begin(self) -> None:
        """Open a transaction; MariaDB sessions commit each statement by themselves otherwise."""
        if self.dialect == MARIADB:
            self.execute("START TRANSACTION")

    def begin_snapshot(self) -> None:
        """Open a transaction whose statements all see the data of this moment; end it with ``rollback``."""
        if self.dialect == MARIADB:
            self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        elif not self._read_only:  # a read-only session is in such a transaction already
            self.execute("SET TRANSACTION READ ONLY")

    def commit(self) -> None:
        """Make the changes of the open transaction last. Raises WMAgentError."""
        self._end("commit")

    def rollback(self) -> None:
        """Undo the open transaction; the next statement sees the data of its own time. Raises WMAgentError."""
        self._end("rollback")

    def _end(self, how: str) -> None:
        try:
            getattr(self._session, how)()
        except Exception as error:
            raise self._translated(error) from None
        if self._read_only and self.dialect == ORACLE:
            self.execute("SET TRANSACTION READ ONLY")

    def _translated(self, error: Exception) -> WMAgentError:
        if not isinstance(error, (self._driver.Error, OSError)):
            raise error
        return driver_errors.translate(self.settings, error, self._timeout)

    def close(self) -> None:
        """End the session; an open transaction is undone by the server."""
        try:
            self._session.close()
        except (self._driver.Error, OSError):  # the server is gone: nothing is left to close
            return

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _oracle_placeholders(sql: str) -> str:
    parts = sql.replace("%%", "\0").split("%s")
    text = parts[0] + "".join(f":{number}{part}" for number, part in enumerate(parts[1:], start=1))
    return text.replace("\0", "%")


def connect(
    settings: DatabaseSettings,
    timeout: float = 10,
    *,
    read_only: bool = True,
    statement_timeout: float | None = None,
) -> Connection:
    """Open a session.

    timeout:           seconds to connect, and the default for
    statement_timeout: seconds that one statement may take
    read_only:         the session refuses every write (MariaDB: ``SET SESSION TRANSACTION READ ONLY``; Oracle: a
                       read-only transaction, which sees the data as of its begin until ``rollback()``)

    Raises WMAgentError: refused, wrong password, unknown database, driver missing, timeout, TLS.
    """
    statement_timeout = timeout if statement_timeout is None else statement_timeout
    opener = {MARIADB: _open_mariadb, ORACLE: _open_oracle}.get(settings.dialect)
    if opener is None:
        raise WMAgentError(f"no such database dialect: {settings.dialect!r}; it is mariadb or oracle")
    driver = driver_errors.driver(settings.dialect)
    try:
        session = opener(driver, settings, timeout, statement_timeout)
    except (driver.Error, OSError, RuntimeError) as error:
        raise driver_errors.translate(settings, error, timeout) from None
    connection = Connection(settings, driver, session, statement_timeout, read_only)
    try:
        _prepare_session(connection, statement_timeout, read_only)
    except WMAgentError:
        connection.close()
        raise
    return connection


def _prepare_session(connection: Connection, statement_timeout: float, read_only: bool) -> None:
    if connection.dialect == ORACLE:
        if read_only:
            connection.execute("SET TRANSACTION READ ONLY")
        return
    seconds = max(1, int(statement_timeout))
    # Without these a waiting metadata lock (an ALTER somewhere) would hold a query for a day.
    connection.execute(f"SET SESSION lock_wait_timeout={seconds}, innodb_lock_wait_timeout={seconds}")
    # The server's own limit answers a second before the socket's, so the message can say what happened.
    connection.execute(f"SET SESSION max_statement_time={max(0.5, statement_timeout - 1)}")
    if read_only:
        connection.execute("SET SESSION TRANSACTION READ ONLY")


def _open_mariadb(driver: Any, settings: DatabaseSettings, timeout: float, statement_timeout: float) -> Any:
    options: dict[str, Any] = (
        {"unix_socket": settings.socket}
        if settings.socket
        else {
            "host": settings.host,
            "port": settings.port,
        }
    )
    if settings.tls_ca:
        options |= {"ssl_ca": settings.tls_ca, "ssl_verify_cert": True, "ssl_verify_identity": True}
    return driver.connect(
        user=settings.user,
        password=settings.password,
        database=settings.name or None,
        charset="utf8mb4",
        autocommit=True,
        connect_timeout=max(1, int(timeout)),
        read_timeout=statement_timeout,
        write_timeout=statement_timeout,
        **options,
    )


def _open_oracle(driver: Any, settings: DatabaseSettings, timeout: float, statement_timeout: float) -> Any:
    options: dict[str, Any] = {}
    if driver.__name__ == "oracledb":
        # Only thin mode has this limit of its own; cx_Oracle takes it from sqlnet.ora.
        options = {"tcp_connect_timeout": timeout}
    session = driver.connect(user=settings.user, password=settings.password, dsn=settings.name, **options)
    session.call_timeout = int(statement_timeout * 1000)
    return session
