# SPDX-License-Identifier: GPL-3.0-or-later
"""The data of the DBSBuffer benchmarks: generated once; each run starts from a copy on a server of its own."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer
from support.dbsbuffer.generator import END, generate
from support.dbsbuffer.schema import create_mariadb

FILES = int(os.environ.get("BENCH_FILES", "1000000"))
"""Files of the main rows; the others follow from it."""

ELIGIBLE = 0.9
DAY = 86_400
NOW = END + 365 * DAY
"""When the cleanup takes place, for rules with a retention: everything that is finished is old enough."""

_SEED = 1
_MIB = 1024 * 1024
_BYTES_PER_FILE = 4096
_KEEP = os.environ.get("BENCH_DATA", "")
"""A folder that keeps what was generated for the next run; without one it is removed at the end."""


def options(files: int) -> tuple[str, ...]:
    """Full durability, and a buffer pool that holds all the data, as production's does."""
    pool = max(512 * _MIB, files * _BYTES_PER_FILE)
    return (
        f"--innodb-buffer-pool-size={pool // _MIB}M",
        "--innodb-log-file-size=2G",
        "--innodb-flush-log-at-trx-commit=1",
        "--innodb-flush-method=O_DIRECT",  # the server's own default
        "--sync-frm=1",
        "--key-buffer-size=16M",
        # A copy starts with all pages in memory that the original had.
        "--innodb-buffer-pool-dump-pct=100",
    )


@dataclass(frozen=True)
class Data:
    """Generated data at rest.

    folder: what a copy of is made for each run
    about:  what the generator says of it
    """

    folder: Path
    files: int
    password: str
    root_password: str
    about: dict[str, Any]

    def server(self, folder: Path) -> MariaDBServer:
        """A server, not started, on a folder that has this data or none."""
        return MariaDBServer(
            folder, options=options(self.files), password=self.password, root_password=self.root_password
        )


@cache
def data_of(files: int) -> Data:
    """The data with so many files, made where it is not there yet."""
    root = Path(_KEEP or _folder())
    kept = root / f"{files}-files.json"
    if not kept.is_file():
        _generate(root, files, kept)
    text = json.loads(kept.read_text(encoding="utf-8"))
    return Data(Path(text["folder"]), files, text["password"], text["root_password"], text["about"])


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="wmagent-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _generate(root: Path, files: int, kept: Path) -> None:
    folder = root / f"{files}-files"
    folder.mkdir(parents=True)
    server = MariaDBServer(folder, options=(*options(files), "--innodb-flush-log-at-trx-commit=0"))
    server.start()
    try:
        create_mariadb(server.settings())
        about = asdict(generate(server.settings(), files, _SEED, eligible=ELIGIBLE, end=END))
        _analyze(server)
    finally:
        server.stop(timeout=900)
    del about["eligible_names"]
    text = {
        "folder": str(folder),
        "password": server.password,
        "root_password": server.root_password,
        "about": about,
    }
    kept.touch(mode=0o600)
    kept.write_text(json.dumps(text), encoding="utf-8")


def _analyze(server: MariaDBServer) -> None:
    # InnoDB looks at a growing table now and then; where it looked last differs from run to run.
    with connect(server.settings(), read_only=False, statement_timeout=3600) as connection:
        tables = [str(row[0]) for row in connection.query("SHOW TABLES")]
        connection.query(f"ANALYZE LOCAL TABLE {', '.join(tables)}")


@contextmanager
def fresh(files: int) -> Iterator[MariaDBServer]:
    """A running server with a fresh copy of the data, all of it in memory."""
    data = data_of(files)
    with tempfile.TemporaryDirectory(prefix="wmagent-bench-run-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # Without holes: the first pass over a new log file is slower than any later one.
        copy = ["cp", "-a", "--reflink=auto", "--sparse=never", str(data.folder / "data"), str(folder / "data")]
        subprocess.run(copy, check=True)
        subprocess.run(["sync", "--file-system", str(folder)], check=True)
        server = data.server(folder)
        try:
            server.start(timeout=300)
            _wait_until_loaded(server)
            yield server
        finally:
            server.stop(kill=True)


@contextmanager
def session(server: MariaDBServer, *, read_only: bool = True) -> Iterator[Connection]:
    """A session whose statements may take long."""
    with connect(server.settings(), read_only=read_only, statement_timeout=3600) as connection:
        yield connection


def _wait_until_loaded(server: MariaDBServer, timeout: float = 900) -> None:
    deadline = time.monotonic() + timeout
    with session(server) as connection:
        while "completed" not in str(connection.query("SHOW STATUS LIKE 'Innodb_buffer_pool_load_status'")[0][1]):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the buffer pool was not loaded in {timeout:g} s")
            time.sleep(0.2)
