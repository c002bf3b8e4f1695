# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of a cleanup, or of its database server, at any moment: nothing is lost, and the next run ends it."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.steps import StepSize
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import throwaway_mariadb
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import cleanup as cleanups
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.archive_reader import read_contents
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.cleanup import Cleanup, Request
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_guard import wait_until_alone
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_recovery import leftovers
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.restore import restore
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.dbsbuffer.fixtures import mariadb_agent
from support.dbsbuffer.generator import END, generate
from support.dbsbuffer.rebuilding import RULES, schema
from support.dbsbuffer.rows import Rows, read

SEED = os.environ.get("KILL_SEED", "1")
KILLS, REBUILD_KILLS, SERVER_KILLS = (int(n) for n in os.environ.get("KILLS", "16 3 3").split())
FILES = 300

_numbers = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Sessions that read no certificates, and steps so small that there are many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        patch.setattr(cleanups, "StepSize", lambda target, minimum: StepSize(target, 20, 20, 20))
        yield


@dataclass(frozen=True)
class Killable:
    """A database with an agent's rows, and how it is cleaned."""

    database: DatabaseSettings
    rows: Rows
    left: Rows
    schema: str
    folder: Path

    def request(self, method: str) -> tuple[Request, Path]:
        """With an archive in a folder of its own."""
        folder = self.folder / str(next(_numbers))
        folder.mkdir()
        return Request(replace(RULES, now=END), method, step_seconds=0.005, archive=folder, optimize=False), folder

    def read(self) -> Rows:
        with connect(self.database, 30) as connection:
            return read(connection)

    def wait(self) -> None:
        """Until the server has noticed that a process is gone."""
        with connect(self.database, 30) as connection:
            assert wait_until_alone(connection, 20) == []


STATEMENT, COMMIT = "statement", "commit"


class Trigger:
    """Counts a process's statements and commits, and does something at one of them; never at number 0.

    at:    a moment after the n-th statement was begun, or right after the n-th commit was made
    delay: that moment, in seconds
    """

    def __init__(self, at: tuple[str, int], delay: float, action: Callable[[], object]) -> None:
        self.counts = Counter({STATEMENT: 0, COMMIT: 0})
        self._at = at
        self._timer = threading.Timer(delay, action)
        self._action = action
        self._patches = ExitStack()

    def __enter__(self) -> Trigger:
        cursor, end = Connection._cursor, Connection._end

        def counted(connection: Connection, *arguments: Any) -> Any:
            if self._is_due(STATEMENT):
                self._timer.start()
            return cursor(connection, *arguments)

        def ended(connection: Connection, how: str) -> None:
            end(connection, how)
            if how == COMMIT and self._is_due(COMMIT):
                self._action()

        self._patches.enter_context(patch.object(Connection, "_cursor", counted))
        self._patches.enter_context(patch.object(Connection, "_end", ended))
        return self

    def _is_due(self, what: str) -> bool:
        self.counts[what] += 1
        return (what, self.counts[what]) == self._at

    def __exit__(self, *_: object) -> None:
        self._patches.close()
        if self._timer.is_alive():
            self._timer.join()


def moments(chance: random.Random, counts: Counter[str], number: int) -> Iterator[tuple[tuple[str, int], float]]:
    """So many, spread over a run of which this many statements and commits are known; each with a delay."""
    for at in range(number):
        what = (STATEMENT, COMMIT)[at % 2]
        yield (what, 1 + int(counts[what] * (at + chance.random()) / number)), chance.uniform(0, 0.004)


def clean(database: DatabaseSettings, request: Request, at: tuple[str, int], delay: float, says: Pipe) -> None:
    """What the process to be killed does."""
    run = Cleanup(database, request, note=lambda text: None)
    run.look()
    with Trigger(at, delay, lambda: os.kill(os.getpid(), signal.SIGKILL)) as trigger:
        run.run()
    says.send(trigger.counts)


def killed(
    killable: Killable, request: Request, at: tuple[str, int] = (STATEMENT, 0), delay: float = 0
) -> tuple[bool, Counter[str]]:
    """Whether a run was killed at a moment; else what it counted."""
    # A fork of this process has all modules already.
    processes = multiprocessing.get_context("fork")
    ours, theirs = processes.Pipe(duplex=False)
    process = processes.Process(target=clean, args=(killable.database, request, at, delay, theirs))
    process.start()
    theirs.close()
    process.join()
    return process.exitcode == -signal.SIGKILL, ours.recv() if process.exitcode == 0 else Counter()


def finish(killable: Killable, method: str) -> Path:
    """The next run; the folder of its archive."""
    request, folder = killable.request(method)
    run = Cleanup(killable.database, request, note=lambda text: None)
    run.look()
    run.run()
    assert run.stopped_by == "" and not run.unfinished
    again = Cleanup(killable.database, request, note=lambda text: None)
    again.look()
    assert not again.due
    return folder


def assert_whole(now: Rows, before: Rows) -> None:
    """Every file that is there has all its rows and links, and no other row is there."""
    files = {row.id for row in now.files}
    assert set(now.files) <= set(before.files)
    assert [row for row in before.runlumis if row.filename in files] == now.runlumis
    assert [row for row in before.checksums if row.fileid in files] == now.checksums
    assert [row for row in before.file_locations if row.filename in files] == now.file_locations
    assert [row for row in before.parents if {row.child, row.parent} <= files] == now.parents
    assert {row.workflow for row in now.files} - {None} <= {row.id for row in now.workflows}
    assert {row.block_id for row in now.files} - {None} <= {row.id for row in now.blocks}
    assert set(now.workflows) <= set(before.workflows) and set(now.blocks) <= set(before.blocks)


def put_back(killable: Killable, *folders: Path) -> None:
    """Archives, from the newest, and the database hold every row."""
    with connect(killable.database, 30, read_only=False) as connection:
        for archive in (file for folder in folders for file in folder.iterdir()):
            try:
                contents = read_contents(archive)
            except WMAgentError as error:
                assert "cut short before its first step" in str(error)
                continue
            restore(connection, contents)
    assert killable.read() == killable.rows


@pytest.fixture(scope="module")
def killable(mariadb_server, tmp_path_factory) -> Iterator[Killable]:
    with mariadb_agent(mariadb_server) as database:
        yield prepared(database, tmp_path_factory.mktemp("archives"))


def prepared(database: DatabaseSettings, folder: Path) -> Killable:
    """Fill it, and clean it once to see what is left."""
    generate(database, FILES, seed=1, runlumis_per_file=3)
    with connect(database, 30) as connection:
        rows = read(connection)
    killable = Killable(database, rows, rows, schema(database), folder)
    kept = finish(killable, "delete")
    left = killable.read()
    assert len(left.files) < len(rows.files) / 5 and len(left.blocks) < len(rows.blocks)
    put_back(killable, kept)
    return replace(killable, left=left)


def check(killable: Killable, method: str, first: Path) -> int:
    """After a kill; how many files were gone."""
    now = killable.read()
    assert_whole(now, killable.rows)
    if method == "delete":
        assert without_next_ids(schema(killable.database)) == without_next_ids(killable.schema)
    second = finish(killable, method)
    assert killable.read() == killable.left
    assert without_next_ids(schema(killable.database)) == without_next_ids(killable.schema)
    put_back(killable, second, first)
    return len(killable.rows.files) - len(now.files)


def without_next_ids(dump: str) -> str:
    """A killed MariaDB may have forgotten some of them; that a cleanup leaves them is tested without a kill."""
    return re.sub(r" AUTO_INCREMENT=\d+", "", dump)


@pytest.mark.parametrize(("method", "kills"), [("delete", KILLS), ("rebuild", REBUILD_KILLS)])
def test_a_killed_process_leaves_whole_files(killable: Killable, method: str, kills: int):
    chance = random.Random(f"{SEED} {method}")
    request, folder = killable.request(method)
    was_killed, counts = killed(killable, request)
    assert not was_killed
    put_back(killable, folder)
    gone, left, times = [], set(), 0
    for at, delay in moments(chance, counts, kills):
        request, first = killable.request(method)
        times += killed(killable, request, at, delay)[0]
        killable.wait()
        with connect(killable.database, 30) as connection:
            found = leftovers(connection)
            left.add("new" if found.new else "old" if found.old else "nothing")
        gone.append(check(killable, method, first))
    print(f"\n{method}: {times} of {kills} killed of {dict(counts)}; files gone: {gone}; {sorted(left)}")
    assert times >= 0.8 * kills
    if method == "delete":
        assert len(set(gone) - {0, max(gone)}) >= kills / 3


def test_a_killed_server_leaves_whole_files(mariadb_template, tmp_path):
    chance = random.Random(SEED)
    with (
        # A server dies with the thread that started it.
        ThreadPoolExecutor(1) as restarter,
        # What it has committed has to be there after a kill, what the test itself puts back as well.
        throwaway_mariadb(template=mariadb_template, options=["--innodb-flush-log-at-trx-commit=1"]) as server,
        mariadb_agent(server) as database,
    ):
        killable = prepared(database, tmp_path)
        gone, said, reconnects = [], set(), 0
        request, first = killable.request("delete")
        _, counts = killed(killable, request)
        put_back(killable, first)
        for at, delay in moments(chance, counts, SERVER_KILLS):
            request, first = killable.request("delete")
            run = Cleanup(killable.database, request, note=lambda text: None)
            run.look()
            restarts: list[Future[None]] = []

            def kill(restarts: list[Future[None]] = restarts) -> None:
                server.stop(kill=True)
                restarts.append(restarter.submit(server.start))

            with Trigger(at, delay, kill):
                try:
                    run.run()
                except WMAgentError as error:
                    assert "\n" not in str(error)
                    said.add(str(error).split("(")[0])
            for restart in restarts:
                restart.result()
            reconnects += sum(outcome.reconnects for outcome in run.outcomes)
            killable.wait()
            gone.append(check(killable, "delete", first))
    print(f"\n{SERVER_KILLS} kills of {dict(counts)}; files gone: {gone}; {sorted(said)}")
    # A server that is back soon enough goes unnoticed but for a new connection.
    assert said or reconnects
