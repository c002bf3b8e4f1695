# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab has chosen once and remembers: ports in ``lab.json``, its own passwords in ``secrets.json``."""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

# Below the range from which Linux takes the local end of outgoing connections, so a stopped lab keeps its ports.
PORTS = range(20000, 32000)
MARKER = "lab.json"


@dataclass(frozen=True)
class Lab:
    """Paths of one lab; ``root`` is ``wmagent_lab_dir``.

    shared_software: folder of by-hand software that several labs share; by default the lab has its own
    """

    root: Path
    shared_software: Path | None = None

    @property
    def file(self) -> Path:
        """The lab's memory, and the mark by which ``absent`` knows that the folder is a lab."""
        return self.root / MARKER

    @property
    def certs(self) -> Path:
        """Host certificate, key, and the folder of trusted authorities."""
        return self.root / "certs"

    @property
    def agents(self) -> Path:
        """A folder for each agent."""
        return self.root / "agents"

    @property
    def software(self) -> Path:
        """By-hand software, one folder for each tag, copied to every agent."""
        return self.shared_software or self.root / "software"

    def service(self, name: str) -> Path:
        """Folder of one service: ``mariadb``, ``central``, ``couchdb-<agent>``."""
        return self.root / "services" / name

    def read(self) -> dict[str, Any]:
        """The memory; empty before the first start. Raises WMAgentError where it does not parse."""
        return _read(self.file)

    def port(self, name: str) -> int:
        """The port of a service, chosen the first time it is asked for."""
        with self._locked():
            memory = self.read()
            ports = memory.setdefault("ports", {})
            if name not in ports:
                ports[name] = _free_port(set(ports.values()))
                _write(self.file, memory, 0o644)
            return int(ports[name])

    def refuse_taken_port(self, name: str) -> None:
        """Raises WMAgentError where another program listens on the port that the lab remembers for a service."""
        port = self.port(name)
        if answers(port):
            raise WMAgentError(
                f"port {port} of 127.0.0.1 ({name}) is taken by another program; "
                f"end it, or remove {self.root} and start again"
            )

    def remember_in(self, group: str, key: str, value: Any) -> None:
        """Keep one more thing in ``lab.json``, under a group's name."""
        with self._locked():
            memory = self.read()
            if memory.setdefault(group, {}).get(key) != value:
                memory[group][key] = value
                _write(self.file, memory, 0o644)

    def password(self, name: str) -> str:
        """A random password, made the first time it is asked for."""
        file = self.root / "secrets.json"
        with self._locked():
            memory = _read(file)
            if name not in memory:
                memory[name] = secrets.token_hex(16)
                _write(file, memory, 0o600)
            return str(memory[name])

    @contextmanager
    def alone(self) -> Iterator[None]:
        """What one agent at a time does to what all share. Its own lock: the memory may be asked meanwhile."""
        with (self.root / ".alone.lock").open("w") as handle:
            flock(handle, LOCK_EX)
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Agents of one lab come up side by side and share its memory."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".memory.lock").open("w") as handle:
            flock(handle, LOCK_EX)
            yield


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WMAgentError(f"{file} cannot be read ({error}); remove the lab folder and start again") from None


def _write(file: Path, memory: dict[str, Any], mode: int) -> None:
    partial = file.with_name(file.name + ".new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as handle:
        json.dump(memory, handle, indent=1, sort_keys=True)
        handle.write("\n")
    partial.replace(file)


def _free_port(taken: set[int]) -> int:
    # A random start keeps labs that come up at the same moment apart; nothing here needs to be unguessable.
    ports = list(PORTS)
    random.shuffle(ports)
    for port in ports:
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise WMAgentError(f"no free port between {PORTS.start} and {PORTS.stop} on 127.0.0.1; stop some other lab")


def answers(port: int) -> bool:
    """True where something listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
