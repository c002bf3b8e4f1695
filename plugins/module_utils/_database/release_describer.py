# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by a release's own interpreter: create its schema in an empty database and tell what is there then.

Reads one JSON request from standard input, writes one JSON answer to the file it names. Standard library and the
release's own packages only.
"""

from __future__ import annotations

import importlib
import json
import logging
import runpy
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer ``{"rows": {query: rows}, "files": [SQL files used], "oracle": [statements of older releases]}``."""
    request = json.load(sys.stdin)
    _leave_oracle_client_alone()
    files = _watch_sql_files()
    config = Path(request["config"])
    config.touch(mode=0o600)
    config.write_text(
        "from WMCore.Configuration import Configuration\n"
        "config = Configuration()\n"
        'config.section_("CoreDatabase")\n'
        f"config.CoreDatabase.connectUrl = {request['url']!r}\n",
        encoding="utf-8",
    )
    modules = ",".join(request["modules"])
    _run_program(request["program"], ["--config", str(config), "--create", f"--modules={modules}"])
    answer = {
        "rows": _read_rows(request),
        "files": files,
        "oracle": [] if files else _oracle_statements(request["modules"]),
    }
    Path(request["output"]).write_text(json.dumps(answer), encoding="utf-8")


def _leave_oracle_client_alone() -> None:
    """Some releases load Oracle's client libraries at import, whatever the database; no schema needs them."""
    try:
        oracledb = importlib.import_module("oracledb")
    except ImportError:
        return
    oracledb.init_oracle_client = lambda *args, **options: None  # type: ignore[attr-defined]


def _watch_sql_files() -> list[str]:
    """A list that fills with the SQL files as the release asks for them; stays empty for releases without any."""
    files: list[str] = []
    try:
        wmcoredb = importlib.import_module("wmcoredb")
    except ImportError:
        return files
    original: Callable[..., str] = wmcoredb.get_sql_file

    def watched(*args: Any, **options: Any) -> str:
        file = original(*args, **options)
        files.append(str(file))
        return file

    wmcoredb.get_sql_file = watched  # type: ignore[attr-defined]
    return files


def _run_program(program: str, arguments: list[str]) -> None:
    sys.argv = [program, *arguments]
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise SystemExit(f"{Path(program).name} ended with {end.code}") from None


def _read_rows(request: dict[str, Any]) -> dict[str, list[list[Any]]]:
    driver = importlib.import_module("MySQLdb")
    session = driver.connect(**request["session"], charset="utf8mb4", connect_timeout=10)
    cursor = session.cursor()
    rows = {}
    for name, sql in request["queries"].items():
        cursor.execute(sql, (request["session"]["db"],))
        rows[name] = [list(row) for row in cursor.fetchall()]
    session.close()
    return rows


class _Collector:
    """Takes statements in place of a database."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def processData(self, sql: str, *args: Any, **options: Any) -> list[Any]:  # noqa: N802 - the release's name
        """Keep one statement."""
        self.statements.append(sql)
        return []


def _oracle_statements(modules: list[str]) -> list[str]:
    """What a release that carries its Oracle schema in Python would have sent to Oracle."""
    collector = _Collector()
    thread: Any = threading.current_thread()
    thread.dbi, thread.logger, thread.dialect = collector, logging.getLogger(), "Oracle"
    for module in modules:
        create = importlib.import_module(f"{module}.Oracle.Create").Create(logging.getLogger(), collector)
        create.execute()
    return collector.statements


if __name__ == "__main__":
    main()
