# SPDX-License-Identifier: GPL-3.0-or-later
"""A private MariaDB for a moment: own folder, own port, own accounts, gone afterwards. Needs no privilege."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, DatabaseSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

PRODUCTION_OPTIONS = (
    "--transaction-isolation=READ-COMMITTED",
    "--character-set-server=latin1",
    "--collation-server=latin1_swedish_ci",
    "--sql-mode=STRICT_TRANS_TABLES",
)
"""What production agents' servers are run with."""

_SMALL = (
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--key-buffer-size=1M",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--loose-innodb-flush-method=nosync",
    "--loose-sync-frm=0",
)
_USER = "wmagent"
_SOCKET_PATH_LIMIT = 100


@dataclass
class MariaDBServer:
    """One private server.

    folder:   everything it writes lies below
    options:  further ``mariadbd`` options; the last one wins
    databases: created at the first start; the account ``wmagent`` has all rights on them and no other right
    template: a data directory made by :func:`install_data_directory` to copy; none makes a fresh one
    """

    folder: Path
    options: Sequence[str] = ()
    databases: Sequence[str] = ("wmagent",)
    template: Path | None = None
    port: int = 0
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    root_password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def socket(self) -> Path:
        """The UNIX socket."""
        return self.folder / "mariadb.sock"

    @property
    def log(self) -> Path:
        """The server's error log."""
        return self.folder / "mariadb.log"

    def settings(self, database: str | None = None) -> DatabaseSettings:
        """How the account ``wmagent`` reaches a database of this server, over TCP."""
        name = self.databases[0] if database is None else database
        return DatabaseSettings(MARIADB, _USER, self.password, name, "127.0.0.1", self.port)

    def root_settings(self, database: str = "") -> DatabaseSettings:
        """How the server's root account reaches it, over its socket."""
        return DatabaseSettings(MARIADB, "root", self.root_password, database, socket=str(self.socket))

    def start(self, timeout: float = 60) -> None:
        """Start and wait until it answers. timeout: seconds. Raises WMAgentError with the server's own reason."""
        first = not self.data.exists()
        if first:
            self._make_data_directory(timeout)
        deadline = time.monotonic() + timeout
        while True:
            port = self.port or _free_port()
            self.process = self._spawn(port, first)
            try:
                self._wait_until_ready(port, deadline)
            except WMAgentError:
                self.stop()
                # Another process may have taken the free port in between; a port that is ours for good is kept.
                if self.port or "Address already in use" not in self._last_log() or time.monotonic() > deadline:
                    raise
                continue
            self.port = port
            return

    def stop(self, *, timeout: float = 30, kill: bool = False) -> None:
        """Stop the server, cleanly unless ``kill``. timeout: seconds until it is killed."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.kill() if kill else process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Stop cleanly and start again on the same port with the same data."""
        self.stop()
        self.start()

    def _make_data_directory(self, timeout: float) -> None:
        if len(str(self.socket)) > _SOCKET_PATH_LIMIT:
            raise WMAgentError(f"{self.folder} is too long a path for a UNIX socket; use a shorter one")
        if self.template:
            shutil.copytree(self.template, self.data)
        else:
            install_data_directory(self.data, timeout)

    def _spawn(self, port: int, first: bool) -> subprocess.Popen[bytes]:
        command = [
            *_die_with_parent(),
            _program("mariadbd"),
            "--no-defaults",
            *_as_root(),
            f"--datadir={self.data}",
            f"--socket={self.socket}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--pid-file={self.folder / 'mariadb.pid'}",
            # A starting server removes the temporary tables of others that share its folder for them.
            f"--tmpdir={self.folder}",
            *_SMALL,
            *PRODUCTION_OPTIONS,
            *self.options,
        ]
        if first:
            command.append(f"--init-file={self._write_init_file()}")
        with self.log.open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)

    def _write_init_file(self) -> Path:
        # A file keeps the passwords off the command line.
        lines = [f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{self.root_password}';"]
        for host in ("127.0.0.1", "localhost"):
            lines.append(f"CREATE USER '{_USER}'@'{host}' IDENTIFIED BY '{self.password}';")
            lines += [f"GRANT ALL ON `{name}`.* TO '{_USER}'@'{host}';" for name in self.databases]
        lines += [f"CREATE DATABASE `{name}`;" for name in self.databases]
        file = self.folder / "init.sql"
        file.touch(mode=0o600)
        file.write_text("\n".join(lines) + "\n", encoding="ascii")
        return file

    def _wait_until_ready(self, port: int, deadline: float) -> None:
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise WMAgentError(f"the throwaway MariaDB did not start: {self._last_log()}")
            if _greets(port):
                return
            time.sleep(0.02)
        raise WMAgentError(f"the throwaway MariaDB did not answer in time: {self._last_log()}")

    def _last_log(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        errors = [line for line in lines if "[ERROR]" in line]
        return "; ".join(errors[-3:] or lines[-1:]) or "its log is empty"


@contextmanager
def throwaway_mariadb(
    *,
    databases: Sequence[str] = ("wmagent",),
    options: Sequence[str] = (),
    template: Path | None = None,
    timeout: float = 60,
) -> Iterator[MariaDBServer]:
    """A running private server in a temporary folder; stopped and removed at the end.

    timeout: seconds for the start. Raises WMAgentError where MariaDB is missing or does not start.
    """
    with tempfile.TemporaryDirectory(prefix="wmagent-mariadb-", ignore_cleanup_errors=True) as folder:
        server = MariaDBServer(Path(folder), options=options, databases=databases, template=template)
        try:
            server.start(timeout)
            yield server
        finally:
            server.stop(kill=True)


def install_data_directory(folder: Path, timeout: float = 60) -> Path:
    """Make a fresh MariaDB data directory. timeout: seconds. Raises WMAgentError."""
    command = [
        _program("mariadb-install-db"),
        "--no-defaults",
        *_as_root(),
        f"--datadir={folder}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--innodb-log-file-size=16M",
    ]
    try:
        with tempfile.TemporaryDirectory(prefix="wmagent-mariadb-") as scratch:
            command.append(f"--tmpdir={scratch}")
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise WMAgentError(f"mariadb-install-db did not finish in {timeout:g} s; look at this host's load") from None
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise WMAgentError(f"mariadb-install-db failed: {lines[-1] if lines else 'no reason given'}")
    return folder


def _program(name: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/usr/bin"])
    if found := shutil.which(name, path=path):
        return found
    raise WMAgentError(f"{name} is not installed; install mariadb-server-core")


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def _die_with_parent() -> list[str]:
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "KILL"] if found else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _greets(port: int) -> bool:
    """True once the server sends its greeting: from then on it takes accounts and databases as set up."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            return len(probe.recv(5)) > 0
    except OSError:
        return False
