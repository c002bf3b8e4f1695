# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools environment: what the modules import on an agent, so that the agent's own interpreter is left alone."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.bundle import unpack_bundle
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Wheel
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.files import FILES_FILE
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.install import install_environment
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import probe
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.materialize import LinkSources

KEEP = 3
"""Tools environments that stay: rollouts of other images may still use theirs."""


def tools_folder(folder: Path, wheels: Sequence[Wheel], python: Path) -> Path:
    """``<folder>/tools-<12 hex>``, named by its wheels and the interpreter that it is made for."""
    if not wheels:
        raise WMAgentError("the image holds no tools wheels; build it with this version of the collection")
    names = "\n".join([str(python), *sorted(wheel.digest for wheel in wheels)])
    return folder / f"tools-{hashlib.sha256(names.encode()).hexdigest()[:12]}"


def tools_ready(environment: Path) -> bool:
    """True where the environment is complete: its list was written last, before it got its name."""
    return (environment / FILES_FILE).is_file() and (environment / "bin" / "python").exists()


def newest_tools(folder: Path) -> Path:
    """The tools environment that was made last. Raises WMAgentError where there is none."""
    ready = [environment for environment in folder.glob("tools-*") if tools_ready(environment)]
    if not ready:
        raise WMAgentError(
            f"no tools below {folder}; they come with an image: set wmagent_image and wmagent_repository"
        )
    return max(ready, key=lambda environment: environment.stat().st_mtime)


def missing_tools(folder: Path, wheels: Sequence[Wheel]) -> list[Wheel]:
    """Wheels that have to be sent before the environment can be made."""
    return BlobStore(folder / "blobs").missing(wheels)


def install_tools(
    folder: Path, wheels: Sequence[Wheel], python: Path, bundle: Path | None, timeout: float = 120
) -> bool:
    """Make the tools environment under ``folder``, with the wheels in ``bundle`` and those that came before.

    timeout: seconds to wait for another run that makes one in the same folder.

    Returns False where it was there already. Raises WMAgentError where wheels are missing.
    """
    environment = tools_folder(folder, wheels, python)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _only_one(folder, timeout):
            if tools_ready(environment):
                return False
            store = BlobStore(folder / "blobs")
            if bundle is not None:
                unpack_bundle(bundle, store, wheels)
            if missing := store.missing(wheels):
                raise WMAgentError(f"{len(missing)} tools wheels are missing under {folder}; run again")
            _make(environment, wheels, store, python)
            _tidy(folder, environment)
    except OSError as error:
        raise WMAgentError(f"{error.filename or folder}: {error.strerror}; check disk and owner of {folder}") from None
    return True


def _make(environment: Path, wheels: Sequence[Wheel], store: BlobStore, python: Path) -> None:
    incoming = environment.with_name(f".{environment.name}.incoming")
    install_environment(
        [(wheel, store.path(wheel.digest)) for wheel in wheels],
        probe(python),
        incoming=incoming,
        final=environment,
        sources=LinkSources([]),
        extra={},
    )
    if environment.exists():
        shutil.rmtree(environment)
    incoming.rename(environment)


def _tidy(folder: Path, newest: Path) -> None:
    shutil.rmtree(folder / "blobs", ignore_errors=True)
    for leftover in folder.glob(".tools-*.incoming"):
        shutil.rmtree(leftover, ignore_errors=True)
    others = sorted(
        (entry for entry in folder.glob("tools-*") if entry != newest),
        key=lambda entry: entry.stat().st_mtime,
        reverse=True,
    )
    for old in others[KEEP - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _only_one(folder: Path, timeout: float) -> Iterator[None]:
    """Several agents on one host prepare the same folder at once: the first makes it, the others find it made."""
    handle = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + timeout
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WMAgentError(f"another run has held {folder} for {timeout:g} s; wait for it") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)
