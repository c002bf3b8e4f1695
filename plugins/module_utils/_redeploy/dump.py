# SPDX-License-Identifier: GPL-3.0-or-later
"""A MariaDB database saved as SQL, compressed, and shown to be whole before anything relies on it."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import compare
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema_reader import read_structure
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import throwaway_mariadb
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.tables import count_rows

RESTORED, COUNTED = "restored", "counted"
"""How a dump was shown to be whole: put back into a private server and compared, or its rows counted."""

_OPTIONS = (
    "--single-transaction",
    "--quick",
    "--skip-lock-tables",
    "--skip-dump-date",
    "--skip-comments",
    "--no-tablespaces",
    "--hex-blob",
    "--triggers",
    "--default-character-set=utf8mb4",
)
_PIECE = 1 << 20
_LEVEL = 4
_TABLE = re.compile(rb"^CREATE TABLE `((?:[^`]|``)+)`")
_INSERT = re.compile(rb"^INSERT INTO `((?:[^`]|``)+)` VALUES")
_STRING = re.compile(rb"'(?:[^'\\]|\\.|'')*'", re.DOTALL)
_SERVER = ("mariadbd", "mariadb-install-db")


@dataclass(frozen=True)
class Dump:
    """file: the dump; size: its bytes; sha256: of the compressed file, hex; verified: RESTORED or COUNTED."""

    file: str
    size: int
    sha256: str
    verified: str


def program(*names: str) -> str | None:
    """The first of these programs that is there."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def save(settings: DatabaseSettings, file: Path, timeout: float) -> tuple[int, str]:
    """Dump the whole database into a file, which is there only once it is complete. Size in bytes and SHA-256.

    timeout: seconds. Raises WMAgentError; the file is then not there.
    """
    found = program("mariadb-dump", "mysqldump")
    if found is None:
        raise WMAgentError("neither mariadb-dump nor mysqldump is on this host; install mariadb-client")
    partial = file.with_name(f".{file.name}.part")
    with _login(settings) as login, tempfile.TemporaryFile() as said:
        command = [found, f"--defaults-file={login}", *_OPTIONS, settings.name]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said) as dumping:
            try:
                size, digest = _compress(dumping, partial, time.monotonic() + timeout)
            except BaseException:
                dumping.kill()
                partial.unlink(missing_ok=True)
                raise
        if dumping.returncode != 0:
            partial.unlink(missing_ok=True)
            raise WMAgentError(f"{settings.where} was not saved: {_last_line(said, settings.password)}")
    partial.rename(file)
    return size, digest


def _compress(dumping: subprocess.Popen[bytes], partial: Path, deadline: float) -> tuple[int, str]:
    assert dumping.stdout is not None
    try:
        with private_file(partial) as raw:
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=_LEVEL, mtime=0) as packed:
                while piece := dumping.stdout.read1(_PIECE):  # type: ignore[attr-defined]
                    packed.write(piece)
                    if time.monotonic() > deadline:
                        raise WMAgentError("saving the database took too long; allow more (wmagent_redeploy_timeout)")
            raw.flush()
            os.fsync(raw.fileno())
        return partial.stat().st_size, digest_of(partial)
    except OSError as error:
        raise WMAgentError(f"{partial.parent} cannot be written ({error.strerror}); is its disk full?") from None


def digest_of(file: Path) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def rows_in(file: Path) -> dict[str, int]:
    """Rows of every table, read back from a dump. Raises WMAgentError where it is no whole gzip file."""
    found: dict[str, int] = {}
    table = ""
    try:
        with gzip.open(file, "rb") as lines:
            for line in lines:
                if match := _TABLE.match(line):
                    found[_name(match)] = 0
                elif match := _INSERT.match(line):
                    table = _name(match)
                    line = line[match.end() :]
                elif not table:
                    continue
                if table:
                    # Line ends within strings are written as \n, so no string goes over the end of a line.
                    bare = _STRING.sub(b"", line)
                    found[table] += bare.count(b"(")
                    if bare.rstrip().endswith(b";"):
                        table = ""
    except (OSError, EOFError, KeyError) as error:
        raise WMAgentError(f"{file} cannot be read back ({error}); save the database again") from None
    return found


def verify(settings: DatabaseSettings, file: Path, rows: Mapping[str, int], timeout: float) -> str:
    """Show that a dump holds all of a database that nobody writes to: RESTORED or COUNTED.

    rows: of the database, by table. timeout: seconds. Raises WMAgentError where it does not.
    """
    if program(_SERVER[0]) and program(_SERVER[1]) and program("mariadb", "mysql"):
        _restore_and_compare(settings, file, rows, timeout)
        return RESTORED
    _compare_rows(file, rows, rows_in(file))
    return COUNTED


def _restore_and_compare(settings: DatabaseSettings, file: Path, rows: Mapping[str, int], timeout: float) -> None:
    with throwaway_mariadb(databases=(settings.name,), timeout=min(timeout, 120)) as server:
        restore(server.settings(), file, timeout)
        with connect(server.settings(), timeout) as copy, connect(settings, timeout) as live:
            _compare_rows(file, rows, count_rows(copy))
            if lines := compare(read_structure(live), read_structure(copy), ("the database", "the dump")):
                raise WMAgentError(f"{file} does not give the same tables back ({lines[0]}); save the database again")
            if _version(live) == _version(copy):
                _compare_contents(file, rows, _checksums(live, rows), _checksums(copy, rows))


def restore(settings: DatabaseSettings, file: Path, timeout: float) -> None:
    """Put a dump into an empty database. timeout: seconds. Raises WMAgentError."""
    found = program("mariadb", "mysql")
    if found is None:
        raise WMAgentError("neither mariadb nor mysql is on this host; install mariadb-client")
    deadline = time.monotonic() + timeout
    with _login(settings) as login, tempfile.TemporaryFile() as said:
        command = [found, f"--defaults-file={login}", "--batch", settings.name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said) as putting:
            assert putting.stdin is not None
            try:
                with gzip.open(file, "rb") as packed:
                    while piece := packed.read(_PIECE):
                        putting.stdin.write(piece)
                        if time.monotonic() > deadline:
                            raise WMAgentError(f"{file} was not read back in {timeout:g} s; allow more")
                putting.stdin.close()
                putting.wait(max(1.0, deadline - time.monotonic()))
            except (BrokenPipeError, subprocess.TimeoutExpired):
                putting.kill()
            except (OSError, EOFError) as error:
                putting.kill()
                raise WMAgentError(f"{file} cannot be read back ({error}); save the database again") from None
            except BaseException:
                putting.kill()
                raise
        if putting.returncode != 0:
            raise WMAgentError(f"{file} cannot be put back: {_last_line(said, settings.password)}")


def _compare_rows(file: Path, wanted: Mapping[str, int], found: Mapping[str, int]) -> None:
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise WMAgentError(
                f"{file} holds {found.get(name, 'no table')} rows of {name}, and the database "
                f"{wanted.get(name, 'no table')}; does somebody write to it? Save it again"
            )


def _compare_contents(file: Path, names: Mapping[str, int], live: Mapping[str, Any], copy: Mapping[str, Any]) -> None:
    if different := [name for name in sorted(names) if live.get(name) != copy.get(name)]:
        raise WMAgentError(f"{file} holds other rows of {different[0]} than the database; save it again")


def _version(connection: Any) -> str:
    return str(connection.query("SELECT VERSION()")[0][0])


def _checksums(connection: Any, names: Mapping[str, int]) -> dict[str, Any]:
    return {name: connection.query(f"CHECKSUM TABLE `{name}`")[0][1] for name in names}


@contextmanager
def _login(settings: DatabaseSettings) -> Iterator[Path]:
    """An option file for MariaDB's own programs: a password on a command line is seen by everybody."""
    with tempfile.TemporaryDirectory(prefix="wmagent-dump-") as folder:
        file = Path(folder) / "login.cnf"
        lines = ["[client]", f"user={_option(settings.user)}", f"password={_option(settings.password)}"]
        if settings.socket:
            lines.append(f"socket={_option(settings.socket)}")
        else:
            lines += [f"host={_option(settings.host)}", f"port={settings.port}", "protocol=tcp"]
        if settings.tls_ca:
            lines += [f"ssl-ca={_option(settings.tls_ca)}", "ssl-verify-server-cert"]
        with private_file(file) as stream:
            stream.write(("\n".join(lines) + "\n").encode())
        yield file


def _option(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def private_file(file: Path) -> IO[bytes]:
    """A file to write that nobody else may read. Raises OSError."""
    file.unlink(missing_ok=True)
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _name(match: re.Match[bytes]) -> str:
    return match[1].decode().replace("``", "`")


def _last_line(said: IO[bytes], password: str) -> str:
    said.seek(0)
    text = said.read()[-4000:].decode(errors="replace")
    lines = [line.strip() for line in (text.replace(password, "********") if password else text).splitlines()]
    return next((line for line in reversed(lines) if line), "no reason given")[:300]
