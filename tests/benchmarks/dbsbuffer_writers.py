# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent at work for the DBSBuffer benchmarks, in a process of its own: what it waits for is the server alone.

Run as a process: told by a line of JSON where the database is, it writes until its standard input ends, and then prints
the seconds that each insert took.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)

_WRITERS = 2
_PAUSE = 0.05
"""Seconds between two files of one writer: some 40 files a second, as a busy agent's JobAccountant writes them."""


@dataclass
class Latencies:
    """Seconds that each insert of one file with its rows took; filled once the agent has stopped."""

    seconds: list[float] = field(default_factory=list)

    @property
    def p99(self) -> float:
        """The 99th percentile, milliseconds."""
        return 1000 * statistics.quantiles(self.seconds, n=100)[98]


@contextmanager
def agent_at_work(settings: DatabaseSettings) -> Iterator[Latencies]:
    """Writers that add files with all their rows, as JobAccountant does, to a workflow that is not finished."""
    latencies = Latencies()
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(asdict(settings)) + "\n")
        process.stdin.flush()
        if process.stdout.readline() != "writing\n":
            raise RuntimeError("the writers did not start")
        yield latencies
        process.stdin.close()
        told = json.loads(process.stdout.read())
    finally:
        process.stdin.close()
        process.stdout.close()  # after an error nobody reads what it says
        process.wait(timeout=60)
    if told["errors"]:
        raise RuntimeError(f"a writer failed: {told['errors'][0]}")
    latencies.seconds += told["seconds"]


def main() -> None:
    """Write until standard input ends."""
    settings = DatabaseSettings(**json.loads(sys.stdin.readline()))
    with connect(settings, read_only=False) as connection:
        connection.execute("INSERT INTO dbsbuffer_workflow (name, task, completed) VALUES ('bench', '/bench', 0)")
        ids = connection.query(
            "SELECT LAST_INSERT_ID(), (SELECT MIN(id) FROM dbsbuffer_algo_dataset_assoc), "
            "(SELECT MIN(id) FROM dbsbuffer_location)"
        )[0]
    seconds: list[float] = []
    errors: list[str] = []
    stop = threading.Event()
    threads = [
        threading.Thread(target=_write, args=(settings, number, ids, seconds, errors, stop))
        for number in range(_WRITERS)
    ]
    for thread in threads:
        thread.start()
    print("writing", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"seconds": seconds, "errors": errors}))


def _write(
    settings: DatabaseSettings,
    writer: int,
    ids: tuple[Any, ...],
    seconds: list[float],
    errors: list[str],
    stop: threading.Event,
) -> None:
    try:
        with connect(settings, read_only=False, statement_timeout=600) as connection:
            while not stop.wait(_PAUSE):
                started = time.perf_counter()
                _insert(connection, f"/store/mc/bench/{writer}/{time.time_ns()}.root", *ids)
                seconds.append(time.perf_counter() - started)
    except Exception as error:
        errors.append(repr(error))


def _insert(connection: Connection, lfn: str, workflow: int, algo: int, location: int) -> None:
    connection.begin()
    connection.execute(
        "INSERT INTO dbsbuffer_file (lfn, filesize, events, dataset_algo, status, workflow) "
        "VALUES (%s, 1, 1, %s, 'NOTUPLOADED', %s)",
        (lfn, algo, workflow),
    )
    file = connection.query("SELECT LAST_INSERT_ID()")[0][0]
    lumis = ", ".join(f"({file}, 1, {lumi}, 10)" for lumi in range(10))
    connection.execute(f"INSERT INTO dbsbuffer_file_runlumi_map VALUES {lumis}")
    connection.execute(f"INSERT INTO dbsbuffer_file_location VALUES ({file}, {location})")
    connection.execute(f"INSERT INTO dbsbuffer_file_checksums VALUES ({file}, 1, 'a'), ({file}, 2, 'b')")
    connection.commit()


if __name__ == "__main__":
    main()
