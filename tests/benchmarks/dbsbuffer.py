# SPDX-License-Identifier: GPL-3.0-or-later
"""Cleaning DBSBuffer, against Debian's pt-archiver on the same data, server settings and load.

BENCH_FILES (default 1,000,000) sets the size of the data, BENCH_LARGE (default 5 × that) the largest of the scaling
row, BENCH_RUNS (default 3) how many runs each median is of.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import space
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.cleanup import Cleanup, Request
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan, Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import make_plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import CHILDREN, FILE

from tests.benchmarks.dbsbuffer_data import FILES, NOW, fresh, session
from tests.benchmarks.dbsbuffer_writers import agent_at_work
from tests.benchmarks.rows import Benchmark, Row, compared, versions

LARGE = int(os.environ.get("BENCH_LARGE", str(5 * FILES)))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
LIMITS = (1000, 5000, 10_000)
"""Rows of pt-archiver's bulk deletes that are tried; the fastest counts."""
_TRIAL = min(FILES, 100_000)
_COUNTED = "a plan is part of our time, pt-archiver is given the workflows' ids"

_RULES = Rules(now=NOW, retention=86_400)


def cleanup_of(server: MariaDBServer, **request: Any) -> Cleanup:
    """A cleanup that has looked already."""
    notes: list[str] = []
    cleanup = Cleanup(server.settings(), Request(_RULES, **request), notes.append)
    cleanup.look()
    return cleanup


def files_and_children(server: MariaDBServer) -> tuple[int, ...]:
    """Rows and sum of the files' ids, of each table that hangs on files, without what the writers add."""
    with session(server) as connection:
        counts = [
            connection.query(
                "SELECT COUNT(*), SUM(f.id) FROM dbsbuffer_file f INNER JOIN dbsbuffer_workflow w ON w.id = f.workflow "
                "WHERE w.name <> 'bench'"
            )
        ]
        for table, columns in CHILDREN:
            counts.append(
                connection.query(
                    f"SELECT COUNT(*), SUM(f.id) FROM {table} c INNER JOIN dbsbuffer_file f ON f.id = c.{columns[0]} "
                    "INNER JOIN dbsbuffer_workflow w ON w.id = f.workflow WHERE w.name <> 'bench'"
                )
            )
    return tuple(int(value) for rows in counts for value in rows[0])


@dataclass(frozen=True)
class Measured:
    """One run: files per second, p99 of the writers' inserts (ms), what is left."""

    rate: float
    p99: float
    left: tuple[int, ...]


def delete_online(files: int) -> Measured:
    """Our deletion while the agent works."""
    with fresh(files) as server:
        cleanup = cleanup_of(server, optimize=False)
        with agent_at_work(server.settings()) as latencies:
            started = time.perf_counter()
            cleanup.run()
            seconds = time.perf_counter() - started
        if cleanup.stopped_by or cleanup.files_done != cleanup.plan.files:
            raise RuntimeError(f"the cleanup ended before it was done: {cleanup.stopped_by}")
        return Measured(cleanup.plan.files / seconds, latencies.p99, files_and_children(server))


def archive_online(files: int, limit: int) -> Measured:
    """pt-archiver on the files of the same plan; foreign keys cascade to their rows."""
    with fresh(files) as server:
        with session(server) as connection:
            plan = make_plan(connection, _RULES)
        command = _pt_archiver(server, plan, limit)
        with agent_at_work(server.settings()) as latencies:
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, text=True)
            seconds = time.perf_counter() - started
        return Measured(plan.files / seconds, latencies.p99, files_and_children(server))


def _pt_archiver(server: MariaDBServer, plan: Plan, limit: int) -> list[str]:
    settings = server.settings()
    defaults = server.folder / "pt-archiver.cnf"
    defaults.touch(mode=0o600)
    defaults.write_text(
        f"[client]\nhost={settings.host}\nport={settings.port}\nuser={settings.user}\npassword={settings.password}\n"
    )
    where = f"workflow IN ({','.join(str(row) for row in plan.workflows)})"
    source = f"F={defaults},D={settings.name},t={FILE},i=PRIMARY"
    return [
        "pt-archiver", "--source", source, "--where", where, "--purge", "--bulk-delete", "--limit", str(limit),
        "--commit-each", "--primary-key-only", "--no-check-charset", "--nosafe-auto-increment", "--no-version-check",
    ]  # fmt: skip


def insert_alone(files: int, seconds: float) -> float:
    """p99 of the writers' inserts without a cleanup, ms."""
    with fresh(files) as server, agent_at_work(server.settings()) as latencies:
        time.sleep(seconds)
    return latencies.p99


@cache
def best_limit() -> int:
    """pt-archiver's fastest limit on this machine."""
    return max(LIMITS, key=lambda limit: archive_online(_TRIAL, limit).rate)


def online() -> list[Row]:
    """Ours and theirs in turn, each on a fresh copy of the data."""
    best = best_limit()
    ours, theirs, alone = [], [], []
    for _ in range(RUNS):
        ours.append(delete_online(FILES))
        theirs.append(archive_online(FILES, best))
        alone.append(insert_alone(FILES, 60))
    left = {one.left for one in (*ours, *theirs)}
    if len(left) != 1:
        raise RuntimeError(f"ours and theirs left different rows: {left}")
    note = f"{FILES} files; pt-archiver --bulk-delete --limit {best} --commit-each, the fastest of {LIMITS}; {_COUNTED}"
    return [
        faster(
            "dbsbuffer online, files per second", [one.rate for one in ours], [one.rate for one in theirs], 1.4, note
        ),
        compared(
            "dbsbuffer online, p99 of a concurrent insert", "ms", [one.p99 for one in ours], alone, 2.0, used(),
            note=f"pt-archiver: {statistics.median(one.p99 for one in theirs):.1f} ms",
        ),
    ]  # fmt: skip


def rebuilt() -> list[Row]:
    """The rebuild, and pt-archiver with OPTIMIZE TABLE afterwards, the agent stopped."""
    best = best_limit()
    ours, theirs = [], []
    for _ in range(RUNS):
        with fresh(FILES) as server:
            cleanup = cleanup_of(server, method="rebuild", optimize=False)
            started = time.perf_counter()
            cleanup.run()
            ours.append(cleanup.plan.files / (time.perf_counter() - started))
            left = files_and_children(server)
        with fresh(FILES) as server:
            with session(server) as connection:
                plan = make_plan(connection, _RULES)
            started = time.perf_counter()
            subprocess.run(_pt_archiver(server, plan, best), check=True, capture_output=True)
            with connect(server.settings(), read_only=False, statement_timeout=3600) as connection:
                for table in (*(table for table, _ in CHILDREN), FILE):
                    space.optimize(connection, table)
            theirs.append(plan.files / (time.perf_counter() - started))
            if files_and_children(server) != left:
                raise RuntimeError("the rebuild and pt-archiver left different rows")
    note = f"{FILES} files; pt-archiver --limit {best}, then OPTIMIZE TABLE; {_COUNTED}"
    return [faster("dbsbuffer rebuild, files per second", ours, theirs, 8, note)]


def scaling() -> list[Row]:
    """Time per deleted file at three sizes."""
    sizes = (FILES // 10, FILES, LARGE)
    per_file = {files: 1e6 / delete_online(files).rate for files in sizes}
    slowest, fastest = max(per_file.values()), min(per_file.values())
    note = ", ".join(f"{files}: {value:.0f} µs" for files, value in per_file.items())
    return [compared("dbsbuffer time per file by size", "µs", [slowest], [fastest], 1.25, used(), note, "within 25 %")]


_PLANNER = """
import resource, sys, time
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import make_plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings, connect
user, password, name, port, now = sys.stdin.read().split()
settings = DatabaseSettings("mariadb", user, password, name, "127.0.0.1", int(port))
with connect(settings, statement_timeout=600) as session:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    make_plan(session, Rules(now=float(now), retention=86400))
    print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def _plan(files: int) -> tuple[float, int]:
    """Seconds, and kB of memory gained, of planning in a process of its own."""
    with fresh(files) as server:
        settings = server.settings()
        told = f"{settings.user} {settings.password} {settings.name} {settings.port} {NOW}"
        measured = []
        for _ in range(RUNS):
            done = subprocess.run(
                [sys.executable, "-c", _PLANNER], input=told, capture_output=True, text=True, check=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip
            seconds, memory = done.stdout.split()
            measured.append((float(seconds), int(memory)))
    return statistics.median(one for one, _ in measured), max(memory for _, memory in measured)


def planning() -> list[Row]:
    """Seconds and memory of a plan."""
    small, large = _plan(FILES // 10), _plan(FILES)
    note = f"memory gained: {small[1] / 1024:.1f} MB at {FILES // 10} files, {large[1] / 1024:.1f} MB at {FILES}"
    flat = large[1] - small[1] < 32 * 1024
    return [
        Row(
            "dbsbuffer planning", "s", large[0], None, None, "< 5 s, memory flat (< 32 MB more for 10 ×)",
            large[0] < 5 and flat, RUNS, used(), note,
        )
    ]  # fmt: skip


def faster(name: str, ours: list[float], theirs: list[float], limit: float, note: str) -> Row:
    """A row whose ratio of medians must be at least ``limit``."""
    a, b = statistics.median(ours), statistics.median(theirs)
    return Row(name, "files/s", a, b, a / b, f"≥ {limit:g} ×", a / b >= limit, len(ours), used(), note)


def used() -> dict[str, str]:
    """Versions of what was measured."""
    told = subprocess.run(["pt-archiver", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    server = subprocess.run(["mariadbd", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    return versions(mariadb=server, **{"pt-archiver": told})


BENCHMARKS: dict[str, Benchmark] = {
    "dbsbuffer planning": planning,
    "dbsbuffer online": online,
    "dbsbuffer rebuild": rebuilt,
    "dbsbuffer scaling": scaling,
}
