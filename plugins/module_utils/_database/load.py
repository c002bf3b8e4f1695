# SPDX-License-Identifier: GPL-3.0-or-later
"""How busy a database server is, and a guard that lets it breathe between two steps of work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    MARIADB,
    Connection,
    DatabaseSettings,
    Queries,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits

LOAD = "load"

_THREADS_RUNNING = "SHOW GLOBAL STATUS LIKE 'Threads_running'"
# Every MariaDB knows this spelling, and it shows all sources of a replica that has several.
_REPLICATION = "SHOW ALL SLAVES STATUS"
# A session on the CPU still shows what it waited for last, so a wait counts only while it lasts.
_ACTIVE_SESSIONS = """
    SELECT COUNT(*) FROM v$session s
    WHERE s.type = 'USER' AND s.status = 'ACTIVE' AND (s.state <> 'WAITING' OR s.wait_class <> 'Idle')"""
_NOT_FOR_THIS_ACCOUNT = ("ORA-00942", "ORA-01031")


@dataclass(frozen=True)
class Load:
    """How busy the server is.

    threads_running: statements at work, without the session that asks; None where nobody may know
    replica_lag:     seconds that the slowest replica is behind; None where none is watched
    counted:         what threads_running counts, in the server's words
    replica:         where the slowest replica is
    """

    threads_running: int | None
    replica_lag: float | None
    counted: str = "Threads_running"
    replica: str = "a replica"


class LoadReader:
    """Reads a server's load; a context manager that closes the sessions it opened for that."""

    def __call__(self) -> Load:
        """The load now. Raises WMAgentError."""
        raise NotImplementedError

    def close(self) -> None:
        """End the sessions that reading opened."""

    def __enter__(self) -> LoadReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MariaDBLoad(LoadReader):
    """Reads a MariaDB server's load, and how far its replicas are behind.

    connection: a session with the server; threads that feed replicas count as running too
    replicas:   servers whose lag counts, with accounts that have SLAVE MONITOR
    timeout:    seconds for each answer of a replica

    Reading raises WMAgentError where a replica does not answer, replicates nothing or does not run: a lag that nobody
    knows is never 0.
    """

    def __init__(self, connection: Queries, replicas: Sequence[DatabaseSettings] = (), timeout: float = 10) -> None:
        self._connection = connection
        self._replicas = tuple(replicas)
        self._timeout = timeout
        self._sessions: list[Connection] = []
        self._closing = ExitStack()

    def __call__(self) -> Load:
        """The load now. Raises WMAgentError."""
        running = self._threads_running()
        for settings in self._replicas[len(self._sessions) :]:
            self._sessions.append(self._closing.enter_context(connect(settings, self._timeout)))
        lags = [(_lag(session), session.settings.where) for session in self._sessions]
        lag, replica = max(lags, default=(None, ""))
        return Load(running, lag, replica=replica)

    def _threads_running(self) -> int:
        rows = self._connection.query(_THREADS_RUNNING)
        if len(rows) != 1:
            raise WMAgentError("the database server does not tell its Threads_running, so its load is unknown")
        return max(int(rows[0][1]) - 1, 0)

    def close(self) -> None:
        """End the sessions with the replicas."""
        self._sessions.clear()
        self._closing.close()


def _lag(session: Connection) -> float:
    where = session.settings.where
    sources = session.query_named(_REPLICATION)
    if not sources:
        raise WMAgentError(f"{where} replicates nothing; name it no more as a replica, or set up its replication")
    for source in sources:
        if source["Seconds_Behind_Master"] is None:
            raise WMAgentError(
                f"replication to {where} is not running (Slave_IO_Running: {source['Slave_IO_Running']}, "
                f"Slave_SQL_Running: {source['Slave_SQL_Running']}), so its lag is unknown; "
                "start it, or name it no more as a replica"
            )
    return max(float(source["Seconds_Behind_Master"]) for source in sources)


class OracleLoad(LoadReader):
    """Reads the load of the Oracle instance that a session is on, where the account may see ``v$session``.

    note: is told once, in a line for the user, that it may not
    """

    def __init__(self, connection: Queries, note: Callable[[str], None]) -> None:
        self._connection = connection
        self._note = note
        self._visible = True

    def __call__(self) -> Load:
        """The load now. Raises WMAgentError."""
        return Load(self._active_sessions() if self._visible else None, None, counted="active sessions")

    def _active_sessions(self) -> int | None:
        try:
            rows = self._connection.query(_ACTIVE_SESSIONS)
        except WMAgentError as error:
            if not any(code in str(error) for code in _NOT_FOR_THIS_ACCOUNT):
                raise
            self._visible = False
            self._note(
                f"Oracle account {self._connection.database} may not see v$session, so this does not slow down for the "
                "server's load; grant it SELECT on v_$session"
            )
            return None
        return max(int(rows[0][0]) - 1, 0)


def load_reader(
    connection: Queries, note: Callable[[str], None], replicas: Sequence[DatabaseSettings] = ()
) -> LoadReader:
    """The reader for a session's server.

    note: is told, in a line for the user, what of the load nobody can see

    Raises WMAgentError for replicas of an Oracle database, whose lag is not read.
    """
    if connection.dialect == MARIADB:
        return MariaDBLoad(connection, replicas)
    if replicas:
        raise WMAgentError("the lag of replicas is read on MariaDB only; name none for an Oracle database")
    return OracleLoad(connection, note)


class LoadGuard:
    """Stands between two steps: waits while the server is busy, and ends the work where it is too busy.

    read:     the load now
    pause_at, abort_at:         Threads_running (Oracle: active sessions) from which to pause, and to end
    lag_pause_at, lag_abort_at: the same for the lag of replicas, seconds
    poll:     seconds between two looks during a pause
    max_pause: seconds that one pause may last before the work ends

    throttled_seconds: time spent in pauses so far
    why:      what ``wait`` pauses for or gave up for (``Threads_running 71 >= 50``), '' where nothing is in the way

    Raises WMAgentError where the limits make no sense.
    """

    def __init__(
        self,
        read: Callable[[], Load],
        pause_at: int,
        abort_at: int,
        lag_pause_at: float,
        lag_abort_at: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        poll: float = 0.5,
        max_pause: float = 600,
    ) -> None:
        for what, pause, abort in (("load", pause_at, abort_at), ("replica lag", lag_pause_at, lag_abort_at)):
            if not 0 < pause <= abort:
                raise WMAgentError(
                    f"{what}: pausing at {pause} and ending at {abort} makes no sense; "
                    "the first must be more than 0, the second not less than the first"
                )
        if not (poll > 0 and max_pause >= 0):
            raise WMAgentError(
                f"poll is {poll} s, it must be more than 0; max_pause is {max_pause} s, it must be 0 or more"
            )
        self.throttled_seconds = 0.0
        self.why = ""
        self._read = read
        self._pause = (pause_at, lag_pause_at)
        self._abort = (abort_at, lag_abort_at)
        self._clock = clock
        self._sleep = sleep
        self._poll = poll
        self._max_pause = max_pause

    def wait(self, limits: Limits) -> str:
        """Return '' once the next step may run; 'load', 'max_runtime', 'stop_file' or 'max_rows' where it may not.

        Call it with no transaction open: a pause would hold its locks. Raises WMAgentError where the load is unknown.
        """
        load = self._read()
        started = last = self._clock()
        while True:
            if why := _reached(load, *self._abort):
                self.why = why
                return LOAD
            self.why = why = _reached(load, *self._pause)
            if not why:
                return ""
            if reason := limits.reason(rows_done=0):
                return reason
            left = started + self._max_pause - last
            if left <= 0:
                self.why = f"{why} for {last - started:.0f} s"
                return LOAD
            seconds_left = limits.seconds_left()
            self._sleep(min(self._poll, left, self._poll if seconds_left is None else seconds_left))
            load = self._read()
            now = self._clock()
            self.throttled_seconds += now - last
            last = now


def _reached(load: Load, running: int, lag: float) -> str:
    if load.threads_running is not None and load.threads_running >= running:
        return f"{load.counted} {load.threads_running} >= {running}"
    if load.replica_lag is not None and load.replica_lag >= lag:
        return f"{load.replica} lags {load.replica_lag:g} s >= {lag:g} s"
    return ""
