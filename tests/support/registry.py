# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's docker-registry for tests: on a free port, with accounts and TLS where asked for."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.certificates import make_certificate

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import crypt

USER, PASSWORD = "releaser", "s3cret"


@dataclass(frozen=True)
class Registry:
    """A running registry. ``ca_file`` is to be trusted where it speaks TLS, else None. ``data`` is its storage."""

    port: int
    data: Path
    ca_file: Path | None

    def url(self, path: str = "cms/wmagent") -> str:
        """Location of a repository in it."""
        return f"{'https' if self.ca_file else 'http'}://127.0.0.1:{self.port}/{path}"

    def blob(self, digest: str) -> Path:
        """The file in which it keeps a blob."""
        value = digest.removeprefix("sha256:")
        return self.data / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"


@contextmanager
def registry(folder: Path, *, accounts: bool = False, tls: bool = False) -> Iterator[Registry]:
    """A registry whose files are all below ``folder``, stopped at the end. Skips the test where it is not installed."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed; apt install docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    ca_file = make_certificate(folder) if tls else None
    for _attempt in range(5):
        port = _free_port()
        config = folder / "config.yml"
        config.write_text(_config(folder, port, accounts, tls))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, "serve", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            if _wait(process, port):
                yield Registry(port, folder / "data", ca_file)
                return
        finally:
            process.kill()
            process.wait()
    raise RuntimeError((folder / "log").read_text(errors="replace")[-2000:])


def _config(folder: Path, port: int, accounts: bool, tls: bool) -> str:
    lines = ["version: 0.1", "log: {level: warn}", f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}"]
    lines += ["http:", f"  addr: 127.0.0.1:{port}"]
    if tls:
        lines += ["  tls:", f"    certificate: {folder / 'certificate.pem'}", f"    key: {folder / 'key.pem'}"]
    if accounts:
        entry = crypt.crypt(PASSWORD, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))
        (folder / "accounts").write_text(f"{USER}:{entry.replace('$2b$', '$2y$')}\n")
        lines += [f"auth: {{htpasswd: {{realm: test, path: {folder / 'accounts'}}}}}"]
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int) -> bool:
    """True once it takes connections, False where it ended, as for a port that another one got first."""
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False
