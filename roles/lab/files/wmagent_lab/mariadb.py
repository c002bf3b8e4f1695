# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's MariaDB: one private server that holds a database for each agent."""

from __future__ import annotations

import os
import shutil

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import (
    PRODUCTION_OPTIONS,
    install_data_directory,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

from . import processes
from .settings import Lab, answers

ADMIN = "lab"
"""Account that may create databases and accounts; its password is the lab's ``mariadb``."""

NAME = "mariadb"

_SMALL = (
    "--innodb-buffer-pool-size=128M",
    "--innodb-log-file-size=48M",
    "--innodb-flush-log-at-trx-commit=2",
    "--max-connections=400",
    "--max-allowed-packet=128M",
    "--skip-name-resolve",
    "--skip-log-bin",
)


def up(lab: Lab) -> bool:
    """Install and start the server where it is not there yet; True where anything was done."""
    folder = lab.service(NAME)
    if processes.recorded(folder) is not None:
        return False
    server = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if server is None:
        raise WMAgentError("mariadbd is not on this machine; install the package mariadb-server-core")
    port = lab.port(NAME)
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    if not data.is_dir():
        partial = folder / "data.new"
        shutil.rmtree(partial, ignore_errors=True)
        install_data_directory(partial, 120)
        partial.replace(data)
    lab.refuse_taken_port(NAME)
    argv = [
        server,
        "--no-defaults",
        # As root the server refuses to run without being told which user to be.
        *(["--user=root"] if os.geteuid() == 0 else []),
        f"--datadir={data}",
        # Relative to the data directory: a deep lab folder would be too long for a socket's address.
        "--socket=mariadb.sock",
        "--pid-file=mariadb.pid",
        # A starting server removes the temporary tables of others that share its folder for them.
        f"--tmpdir={folder}",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        f"--init-file={_accounts(lab)}",
        *_SMALL,
        *PRODUCTION_OPTIONS,
    ]
    running = processes.start(folder, argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"})
    processes.wait_until(lambda: answers(port), running, folder, 60)
    return True


def down(lab: Lab) -> bool:
    """Stop the server; True where it ran."""
    return processes.stop(lab.service(NAME), 60)


def _accounts(lab: Lab) -> str:
    """The server runs this file before it listens, so there is never an open root account on a port."""
    file = lab.service(NAME) / "accounts.sql"
    password = lab.password(NAME)
    lines = [f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';"]
    for host in ("localhost", "127.0.0.1"):
        lines.append(f"CREATE USER IF NOT EXISTS '{ADMIN}'@'{host}' IDENTIFIED BY '{password}';")
        lines.append(f"GRANT ALL ON *.* TO '{ADMIN}'@'{host}' WITH GRANT OPTION;")
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        handle.write("\n".join(lines) + "\n")
    return str(file)
