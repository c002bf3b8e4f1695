# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs under a *release's* interpreter: compiles the files named on standard input. Standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import py_compile
import signal
import sys
import warnings


def compile_file(prefix: str, path: str, target: str) -> list[object] | None:
    """Compile one file; ``[digest, size, mode]`` of its byte code, None where it is no Python of this version.

    The name inside is relative to the prefix, so that releases can share byte code; the import system puts the
    file's real path in its place when it loads it.
    """
    compiled = os.path.join(prefix, target)  # noqa: PTH118 - 4,000 of them
    try:
        py_compile.compile(
            os.path.join(prefix, path),  # noqa: PTH118
            compiled,
            dfile=path,
            doraise=True,
            quiet=1,
            invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP,
        )
    except (py_compile.PyCompileError, SyntaxError, ValueError, UnicodeError, RecursionError):
        return None
    with open(compiled, "rb") as stream:  # noqa: PTH123
        content = stream.read()
        os.fchmod(stream.fileno(), 0o644)
    return [hashlib.sha256(content).hexdigest(), len(content), 0o644]


def main() -> None:
    """Read ``{"prefix", "parent", "files": [[path, target]…]}``, print ``{target: [digest, size, mode]}``."""
    request = json.load(sys.stdin)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != request["parent"]:
        sys.exit(1)
    warnings.simplefilter("ignore")
    os.umask(0o022)
    made = {}
    for path, target in request["files"]:
        answer = compile_file(request["prefix"], path, target)
        if answer is not None:
            made[target] = answer
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main()
