# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile a release's Python files with the interpreter that will run them, over several processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release import byte_compiler
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.files import InstalledFile
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.materialize import byte_code_path
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.parallel import spread, worker_count


def compile_files(
    python: Path, prefix: Path, sources: Sequence[tuple[str, int]], cache_tag: str, timeout: float = 900
) -> dict[str, InstalledFile]:
    """Compile ``sources`` (path relative to ``prefix``, and size) with ``python``.

    timeout: seconds for all of it.

    Returns the byte code that was made; a file that is no Python of this version is passed over, as pip does.
    Raises WMAgentError where the interpreter fails.
    """
    deadline = time.monotonic() + timeout
    made: dict[str, InstalledFile] = {}
    with contextlib.ExitStack() as running:
        parts = spread(sources, lambda source: source[1], worker_count())
        processes = [running.enter_context(_compiler(python, prefix, part, cache_tag)) for part in parts]
        for process in processes:
            try:
                output, complaint = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise WMAgentError(
                    f"{python} did not compile the release in {timeout:g} s; look at the host's load"
                ) from None
            if process.returncode != 0:
                last = complaint.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason given"]
                raise WMAgentError(f"{python} failed to compile the release ({last[0]}); run again")
            made.update({path: InstalledFile(*entry) for path, entry in json.loads(output).items()})
    return made


@contextlib.contextmanager
def _compiler(
    python: Path, prefix: Path, part: Sequence[tuple[str, int]], cache_tag: str
) -> Iterator[subprocess.Popen[bytes]]:
    request = {
        "prefix": str(prefix),
        "parent": os.getpid(),
        "files": [[path, byte_code_path(path, cache_tag)] for path, _size in part],
    }
    with tempfile.TemporaryFile() as stdin:
        stdin.write(json.dumps(request).encode())
        stdin.seek(0)
        process = subprocess.Popen(
            [str(python), "-I", "-S", "-c", _compiler_source()],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _compiler_source() -> str:
    # Ansible runs modules from a zip, where the compiler has no file of its own.
    loader = byte_compiler.__loader__
    source = loader.get_source(byte_compiler.__name__) if loader and hasattr(loader, "get_source") else None
    if source is None:
        raise WMAgentError("the byte compiler's source cannot be read; install the collection again")
    return str(source)
