# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs under a *release's* interpreter: its own ``wmagent-couchapp-init``, kept to the agent's own CouchDB.

Reads one JSON request from standard input, writes one JSON answer to the file it names. The program itself takes a
central database that is reached by HTTP for a test's own and pushes to it, and wants a copy of a JavaScript library
(YUI) for a web page of the workqueue that nobody opens.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def main() -> None:
    """Answer ``{"apps": [[database, couchapp]]}``; pushes nothing where ``list`` is asked for."""
    request = json.load(sys.stdin)
    commands = importlib.import_module("couchapp.commands")
    original: Callable[..., Any] = commands.push
    apps: list[list[str]] = []
    _leave_central_databases_alone(request)

    def push(source: str, target: str, *args: Any, **options: Any) -> Any:
        url = urlsplit(target)
        name = Path(source).name
        if not _is_own(target, request):
            return 0
        apps.append([unquote(url.path.strip("/")), name])
        # Without the links into YUI, which lead nowhere.
        plain = Path(request["prefix"]) / "data" / "couchapps" / name
        if request["list"]:
            return 0
        return original(str(plain) if plain.is_dir() else source, target, *args, **options)

    commands.push = push  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["YUI_ROOT"] = folder
        sys.argv = [request["program"], "--skip-cron"]
        try:
            runpy.run_path(request["program"], run_name="__main__")
        except SystemExit as stop:
            if stop.code:
                raise SystemExit(f"wmagent-couchapp-init ended with {stop.code}") from None
    Path(request["output"]).write_text(json.dumps({"apps": apps}), encoding="utf-8")


def _leave_central_databases_alone(request: dict[str, Any]) -> None:
    """Have the program see HTTPS where another server is meant, as it is in production."""
    configuration = importlib.import_module("WMCore.Configuration")
    original: Callable[..., Any] = configuration.loadConfigurationFile

    def load(*args: Any, **options: Any) -> Any:
        config = original(*args, **options)
        for name in config.listSections_():
            section = getattr(config, name)
            url = getattr(section, "couchurl", "")
            if url and not _is_own(url, request):
                section.couchurl = "https:" + url.partition(":")[2]
        return config

    configuration.loadConfigurationFile = load  # type: ignore[attr-defined]


def _is_own(target: str, request: dict[str, Any]) -> bool:
    url = urlsplit(target)
    return (url.hostname, url.port) == (request["host"], request["port"])


if __name__ == "__main__":
    main()
