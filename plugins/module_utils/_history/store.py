# SPDX-License-Identifier: GPL-3.0-or-later
"""The history: one SQLite file on the controller, with measures and events of all agents.

Several controllers' processes may write at once (WAL and a busy timeout). A file that cannot be used is never changed.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

VERSION = 1
_APPLICATION = 0x574D4148  # "WMAH"
_TRUST_WITHIN = 30 * 86400
_TRUST_DAYS = 3
"""The clock is believed, for what to forget, once measures of so many days lie in the last 30."""

SeriesKey = tuple[str, str, str]
"""Kind, name and quantity."""

_SCHEMA = f"""
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, quantity TEXT NOT NULL,
    UNIQUE (agent, kind, name, quantity)
);
CREATE TABLE measures (
    series INTEGER NOT NULL REFERENCES series (id), time INTEGER NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (series, time)
) WITHOUT ROWID;
CREATE INDEX measures_time ON measures (time);
CREATE TABLE events (
    agent TEXT NOT NULL, time INTEGER NOT NULL, kind TEXT NOT NULL, details TEXT NOT NULL,
    PRIMARY KEY (agent, time, kind, details)
) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION}
"""
_ADD_MEASURE = """INSERT OR IGNORE INTO measures (series, time, value)
SELECT id, ?, ? FROM series WHERE agent = ? AND kind = ? AND name = ? AND quantity = ?"""
_FIND_MEASURE = """SELECT 1 FROM measures JOIN series ON id = series
WHERE time = ? AND agent = ? AND kind = ? AND name = ? AND quantity = ?"""
_FIND_EVENT = "SELECT 1 FROM events WHERE agent = ? AND kind = ? AND time = ? AND details = ?"
_READ_MEASURES = """SELECT kind, name, quantity, time, value FROM series JOIN measures ON series = id
WHERE agent = ? AND time >= ? ORDER BY kind, name, quantity, time"""
_READ_EVENTS = "SELECT time, kind, details FROM events WHERE agent = ? AND time >= ? ORDER BY time, kind, details"


@dataclass(frozen=True)
class Measure:
    """One figure of one thing of an agent.

    time:     UNIX seconds
    kind:     ``disk``, ``database``, ``table``, ``couchdb`` or ``view``
    quantity: ``bytes``, ``rows``, ``total`` …
    """

    time: float
    agent: str
    kind: str
    name: str
    quantity: str
    value: float


@dataclass(frozen=True)
class Event:
    """What was done to an agent or seen of it. Equal ones are one event, however often they are told."""

    time: float
    agent: str
    kind: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The details as they are kept: the same ones always look the same."""
        return json.dumps(self.details, sort_keys=True, default=str)


@dataclass(frozen=True)
class Recorded:
    """How many measures and events were new, and how many were too old to be kept longer."""

    added: int
    pruned: int


class History:
    """The file, opened anew for each piece of work.

    All methods raise WMAgentError where it cannot be read or written, is damaged, or of a newer version.
    """

    def __init__(self, file: Path, timeout: float = 30) -> None:
        """timeout: seconds to wait for other writers."""
        self.file = file
        self._timeout = timeout

    def record(self, measures: Sequence[Measure], events: Sequence[Event], keep: float, now: float) -> Recorded:
        """Add what is not there yet and forget what is older than ``keep`` seconds: both or neither."""
        oldest = now - keep
        with self._told(), closing(self._opened_to_write()) as connection, _transaction(connection):
            if not _tables(connection):
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
            added = _add_measures(connection, [one for one in measures if one.time >= oldest])
            added += _add_events(connection, [one for one in events if one.time >= oldest])
            return Recorded(added, _prune(connection, oldest, now))

    def missing(self, measures: Sequence[Measure], events: Sequence[Event], keep: float, now: float) -> int:
        """How many of them ``record`` would add. Changes nothing."""
        together: list[Measure | Event] = [*measures, *events]
        wanted = [one for one in together if one.time >= now - keep]
        with self._reading() as connection:
            if connection is None:
                return len(wanted)
            return sum(not _is_there(connection, one) for one in wanted)

    def series(self, agents: Iterable[str], since: float) -> dict[str, dict[SeriesKey, list[list[float]]]]:
        """For each agent its series, each as [UNIX seconds, value] by time; empty where nothing was recorded."""
        found: dict[str, dict[SeriesKey, list[list[float]]]] = {agent: {} for agent in agents}
        with self._reading() as connection:
            for agent in found:
                for kind, name, quantity, at, value in _query(connection, _READ_MEASURES, agent, since):
                    found[agent].setdefault((kind, name, quantity), []).append([at, value])
        return found

    def events(self, agents: Iterable[str], since: float) -> dict[str, list[Event]]:
        """For each agent its events by time."""
        found: dict[str, list[Event]] = {agent: [] for agent in agents}
        with self._reading() as connection:
            for agent in found:
                rows = _query(connection, _READ_EVENTS, agent, since)
                found[agent] = [Event(at, agent, kind, json.loads(details)) for at, kind, details in rows]
        return found

    def set_aside(self, now: float) -> Path | None:
        """Rename a damaged file, so that a new one can be begun. Returns its new name, None where it is not damaged."""
        try:
            with self._reading() as connection:
                sound = connection is None or connection.execute("PRAGMA quick_check").fetchone()[0] == "ok"
        except DamagedError:
            sound = False
        if sound:
            return None
        aside = self.file.with_name(f"{self.file.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}")
        if aside.exists():
            raise WMAgentError(f"{aside} is there already; look at it and move it away")
        for suffix in ("-wal", "-shm", ""):  # they belong together
            part = self.file.with_name(self.file.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        return aside

    def _opened_to_write(self) -> sqlite3.Connection:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WMAgentError(
                f"{self.file.parent} cannot be made ({error.strerror}); set wmagent_state_dir to a folder that can"
            ) from None
        connection = self._connected("rwc")
        try:
            self._check_version(connection)
            self._use_wal(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """None where there is no history yet."""
        with self._told():
            if not self.file.exists():
                yield None
                return
            with closing(self._connected("ro")) as connection:
                self._check_version(connection)
                yield connection if _tables(connection) else None

    def _connected(self, mode: str) -> sqlite3.Connection:
        address = f"{self.file.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(address, uri=True, timeout=self._timeout, isolation_level=None)

    def _check_version(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = _tables(connection)
        if not tables and not version and not application:
            return
        if application != _APPLICATION:
            raise WMAgentError(f"{self.file} is no history of this collection; set wmagent_state_dir to another folder")
        if version != VERSION:
            raise WMAgentError(
                f"history {self.file} is of version {version}, this collection knows version {VERSION}; "
                "install the collection that wrote it"
            )

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Two that begin a file at once refuse each other this, without waiting."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors, as a person is told them."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise WMAgentError(f"history {self.file} {_explain(str(error), self._timeout)}") from None
        except (sqlite3.DatabaseError, json.JSONDecodeError) as error:
            raise DamagedError(
                f"history {self.file} is damaged ({error}); it was left as it is. To put it aside and begin a new one: "
                "-e wmagent_history_damaged=aside"
            ) from None


class DamagedError(WMAgentError):
    """The file is no whole SQLite database."""


def _explain(error: str, timeout: float) -> str:
    if "full" in error:
        return "was not written, since its disk is full; free some of it and run this again"
    if "locked" in error:
        return f"was in use for {timeout:g} s; see what else writes it"
    return f"cannot be used ({error}); see to the mode of the file and its folder and to the disk"


def _query(connection: sqlite3.Connection | None, statement: str, *values: Any) -> Iterable[tuple[Any, ...]]:
    """Rows; none without a file."""
    return connection.execute(statement, values) if connection else ()


def _tables(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return count


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a full disk has ended the transaction already
            connection.execute("ROLLBACK")
        raise


def _add_measures(connection: sqlite3.Connection, measures: Sequence[Measure]) -> int:
    names = {(one.agent, one.kind, one.name, one.quantity) for one in measures}
    connection.executemany("INSERT OR IGNORE INTO series (agent, kind, name, quantity) VALUES (?, ?, ?, ?)", names)
    rows = [(int(one.time), one.value, one.agent, one.kind, one.name, one.quantity) for one in measures]
    return connection.executemany(_ADD_MEASURE, rows).rowcount if rows else 0


def _add_events(connection: sqlite3.Connection, events: Sequence[Event]) -> int:
    rows = [(one.agent, int(one.time), one.kind, one.text()) for one in events]
    return connection.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)", rows).rowcount if rows else 0


def _is_there(connection: sqlite3.Connection, one: Measure | Event) -> bool:
    if isinstance(one, Measure):
        values = (int(one.time), one.agent, one.kind, one.name, one.quantity)
        return connection.execute(_FIND_MEASURE, values).fetchone() is not None
    values_of_event = (one.agent, one.kind, int(one.time), one.text())
    return connection.execute(_FIND_EVENT, values_of_event).fetchone() is not None


def _prune(connection: sqlite3.Connection, oldest: float, now: float) -> int:
    """Forget what is older. A clock that is wrong for a day or two forgets nothing."""
    days = "SELECT count(DISTINCT time / 86400) FROM measures WHERE time > ? AND time <= ?"
    if connection.execute(days, (now - _TRUST_WITHIN, now)).fetchone()[0] < _TRUST_DAYS:
        return 0
    gone: int = connection.execute("DELETE FROM measures WHERE time < ?", (oldest,)).rowcount
    gone += connection.execute("DELETE FROM events WHERE time < ?", (oldest,)).rowcount
    if gone:
        connection.execute("DELETE FROM series WHERE id NOT IN (SELECT DISTINCT series FROM measures)")
    return gone
