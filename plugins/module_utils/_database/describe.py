# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema of a release, as its own ``wmcore-db-init`` creates it: in a throwaway MariaDB, and for Oracle in H2."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database import h2, release_describer
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import Structure
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema_reader import (
    MARIADB_QUERIES,
    mariadb_structure,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import throwaway_mariadb
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

MODULES = (
    "WMCore.WMBS",
    "WMCore.Agent.Database",
    "WMComponent.DBS3Buffer",
    "WMCore.BossAir",
    "WMCore.ResourceControl",
)
"""What an agent's database is made of; upstream's deployment names the same."""

_TABLE = re.compile(r"\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?[`\"]?(\w+)", re.IGNORECASE)
_INDEX = re.compile(
    r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+[`\"]?(\w+)[`\"]?\s+ON\s+[`\"]?(\w+)[`\"]?\s*\(([^)]*)\)", re.IGNORECASE
)
_TRIGGER = re.compile(r"\s*CREATE\s+(?:OR\s+REPLACE\s+)?TRIGGER\b", re.IGNORECASE)
_ADDED_KEY = re.compile(
    r"\s*ALTER\s+TABLE\s+(\w+)\s+ADD\b[\s(]*(?:CONSTRAINT\s+\w+\s+)?PRIMARY\s+KEY\s*\(([^)]*)\)", re.IGNORECASE
)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def describe_release(python: Path, prefix: Path | None = None, *, timeout: float = 180) -> dict[str, Structure | None]:
    """The structures ``{"mariadb": …, "oracle": …}`` that a release creates.

    python:  interpreter of the release's environment
    prefix:  that environment; holds ``bin/wmcore-db-init``. Default: two levels above ``python``
    timeout: seconds for each of the steps

    Needs mariadb-server-core, and for Oracle a Java runtime and libh2-java. Raises WMAgentError, also where the
    release ended well but a table or an index of its SQL files is not there: from 2.4.2 on ``wmcore-db-init`` reports
    only the first statement's error of each file.
    """
    prefix = prefix or python.parent.parent
    with throwaway_mariadb(timeout=timeout) as server:
        answer = _ask_release(python, prefix, server.settings(), timeout)
    files = [Path(file) for file in answer["files"]]
    mariadb = mariadb_structure(answer["rows"])
    if missing := missing_objects(_read_all(files), mariadb):
        raise WMAgentError(
            f"wmcore-db-init of {prefix} ended well, but these are missing: {', '.join(missing[:10])}; "
            "a statement of its SQL files fails, look at the wmcoredb that is installed there"
        )
    if not mariadb:
        raise WMAgentError(f"wmcore-db-init of {prefix} created no table; is this a complete wmagent?")
    return {"mariadb": mariadb, "oracle": _describe_oracle(files, answer["oracle"], timeout)}


def missing_objects(sql: str, structure: Mapping[str, Any]) -> list[str]:
    """Tables and indexes that SQL text creates and a structure lacks; each as ``table x`` or ``index x``."""
    text = _COMMENT.sub(" ", sql)
    missing = [f"table {name}" for name in _TABLE.findall(text) if name.lower() not in structure]
    for name, table, columns in _INDEX.findall(text):
        wanted = [" ".join(column.split()).strip('`"').lower() for column in columns.split(",")]
        entry = structure.get(table.lower())
        if entry is not None and wanted not in [*entry["indexes"], *entry["unique"], entry["primary_key"]]:
            missing.append(f"index {name}")
    return missing


def _ask_release(python: Path, prefix: Path, settings: DatabaseSettings, timeout: float) -> dict[str, Any]:
    program = prefix / "bin" / "wmcore-db-init"
    if not program.is_file():
        raise WMAgentError(f"{program} does not exist; is {prefix} a complete wmagent?")
    with tempfile.TemporaryDirectory(prefix="wmagent-describe-") as name:
        output = Path(name) / "answer.json"
        request = {
            "program": str(program),
            "config": str(Path(name) / "config.py"),
            "output": str(output),
            "url": f"mysql://{settings.user}:{settings.password}@{settings.host}:{settings.port}/{settings.name}",
            "modules": MODULES,
            "queries": MARIADB_QUERIES,
            "session": {
                "host": settings.host,
                "port": settings.port,
                "user": settings.user,
                "passwd": settings.password,
                "db": settings.name,
            },
        }
        _run(python, request, name, settings.password, timeout)
        if not output.is_file():
            raise WMAgentError(f"wmcore-db-init of {prefix} ended before it was done")
        return dict(json.loads(output.read_text(encoding="utf-8")))


def _run(python: Path, request: Mapping[str, Any], folder: str, password: str, timeout: float) -> None:
    loader: Any = release_describer.__loader__
    source = loader.get_source(release_describer.__name__)
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", source],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WMAgentError(f"{request['program']} did not finish in {timeout:g} s; look at this host's load") from None
    except OSError as error:
        raise WMAgentError(f"{python} cannot be run ({error.strerror}); is the release complete?") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.replace(password, "********").splitlines() if line.strip()]
        raise WMAgentError(f"{request['program']} failed: {lines[-1][:400] if lines else 'no reason given'}")


def _read_all(files: Sequence[Path]) -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def _describe_oracle(files: Sequence[Path], statements: Sequence[str], timeout: float) -> Structure | None:
    """The Oracle twins of the SQL files that the release used, or the statements of its Python classes."""
    if files:
        return h2.describe_oracle([_oracle_twin(file) for file in files], timeout=timeout)
    kept: list[str] = []
    for text in statements:
        # Triggers fill in ids from sequences in these releases; H2 has no PL/SQL, and a trigger is no structure.
        if not _TRIGGER.match(text):
            kept += [*_not_null_first(text), text]
    return h2.structure_of_statements(kept, timeout=timeout) or None


def _not_null_first(statement: str) -> list[str]:
    """A primary key added later makes its columns NOT NULL in Oracle; H2 wants them so before."""
    match = _ADDED_KEY.match(statement)
    if not match:
        return []
    columns = [column.strip() for column in match[2].split(",")]
    return [f"ALTER TABLE {match[1]} ALTER COLUMN {column} SET NOT NULL" for column in columns]


def _oracle_twin(file: Path) -> Path:
    parts = list(file.parts)
    parts[len(parts) - 1 - parts[::-1].index("mariadb")] = "oracle"
    return Path(*parts)
