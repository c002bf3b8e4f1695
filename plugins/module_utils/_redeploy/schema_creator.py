# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs under a *release's* interpreter: its own ``wmcore-db-init``, and every statement's error told.

Reads one JSON request from standard input, writes one JSON answer to the file it names. Some releases print what goes
wrong and end with 0; from 2.4.2 on each SQL file is sent as one statement, of which only the first part's error is
seen. Both are caught where they pass: at the driver's cursor.
"""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer ``{"errors": [what the database refused], "ended": exit status}``."""
    request = json.load(sys.stdin)
    _leave_oracle_client_alone()
    errors: list[str] = []
    _watch_statements(importlib.import_module("MySQLdb.cursors").Cursor, errors)
    _watch_sessions(importlib.import_module("MySQLdb.connections").Connection, errors)
    sys.argv = [request["program"], "--config", request["config"], "--create"]
    sys.argv.append(f"--modules={','.join(request['modules'])}")
    ended: Any = 0
    try:
        runpy.run_path(request["program"], run_name="__main__")
    except SystemExit as stop:
        ended = stop.code or 0
    except Exception as error:
        if not errors:
            errors.append(_one_line(f"{type(error).__name__}: {error}"))
    answer = {"errors": errors, "ended": ended if isinstance(ended, int) else str(ended)}
    Path(request["output"]).write_text(json.dumps(answer), encoding="utf-8")


def _leave_oracle_client_alone() -> None:
    """Some releases load Oracle's client libraries at import, whatever the database; MariaDB needs none."""
    try:
        oracledb = importlib.import_module("oracledb")
    except ImportError:
        return
    oracledb.init_oracle_client = lambda *args, **options: None  # type: ignore[attr-defined]


def _watch_statements(cursor: Any, errors: list[str]) -> None:
    original: Callable[..., Any] = cursor.execute

    def execute(self: Any, query: Any, args: Any = None) -> Any:
        try:
            answer = original(self, query, args)
            # The answers to the parts after the first; asking for one raises what went wrong with it.
            if _parts(query) > 1:
                while self.nextset():
                    pass
        except Exception as error:
            errors.append(_one_line(str(error)))
            raise
        return answer

    cursor.execute = execute


def _watch_sessions(connection: Any, errors: list[str]) -> None:
    original: Callable[..., Any] = connection.__init__

    def opened(self: Any, *args: Any, **options: Any) -> None:
        try:
            original(self, *args, **options)
        except Exception as error:
            errors.append(_one_line(str(error)))
            raise

    connection.__init__ = opened


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def _parts(query: Any) -> int:
    text = query.decode(errors="replace") if isinstance(query, (bytes, bytearray)) else str(query)
    return sum(1 for part in text.split(";") if part.strip())


if __name__ == "__main__":
    main()
