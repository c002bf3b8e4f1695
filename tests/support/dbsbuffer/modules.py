# SPDX-License-Identifier: GPL-3.0-or-later
"""The DBSBuffer modules through Ansible, on a database that has something of everything."""

from __future__ import annotations

import itertools
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from support.dbsbuffer.agent_at_work import contents
from support.dbsbuffer.rows import Checksum, FileLocation, Parent, Rows, load, read
from support.dbsbuffer.schema import clear
from support.playbook import Outcome, run_tasks
from support.secrets import write_secrets

_numbers = itertools.count(1)
CLEANUP, INFO, RESTORE = (f"dmwm.wmagent.dbsbuffer_{name}" for name in ("cleanup", "info", "restore"))
Task = dict[str, Any]


def rows() -> Rows:
    """Of everything something; placeholders have rows and links of either kind."""
    some = contents(random.Random(3))
    inputs = [file.id for file in some.files if file.status == "GLOBAL"]
    going = next(file.id for file in some.files if file.workflow == 1)
    return replace(
        some,
        file_locations=[*some.file_locations, *(FileLocation(number, 1) for number in inputs)],
        checksums=[*some.checksums, *(Checksum(number, 1, "abc") for number in inputs)],
        parents=[*some.parents, Parent(inputs[0], going)],
    )


def opened(settings: DatabaseSettings) -> Connection:
    return connect(settings, 60, read_only=False)


def fill(settings: DatabaseSettings) -> None:
    with opened(settings) as connection:
        clear(connection)
        load(connection, rows())


def now_in(settings: DatabaseSettings) -> Rows:
    with connect(settings, 60) as connection:
        return read(connection)


def login(settings: DatabaseSettings) -> Task:
    return {
        "login_user": settings.user,
        "login_password": settings.password,
        "login_host": settings.host,
        "login_port": settings.port,
        "database_name": settings.name,
    }


def by_secrets(folder: Path, settings: DatabaseSettings) -> Task:
    return {
        "secrets": str(write_secrets(folder / "WMAgent.secrets", settings)),
        "database_name": settings.name,
    }


def task(name: str, module: str, arguments: Task, **keywords: Any) -> Task:
    return {"name": name, module: arguments, "ignore_errors": True, **keywords}


def played(folder: Path, *tasks: Task, options: tuple[str, ...] = ()) -> tuple[dict[str, Task], Outcome]:
    """What each task returned."""
    hosts = {"agent": {"ansible_python_interpreter": sys.executable}}
    outcome = run_tasks(folder / f"play{next(_numbers)}", list(tasks), hosts, *options)
    assert set(outcome.results.get("agent", {})) == {one["name"] for one in tasks}, outcome.output
    return outcome.results["agent"], outcome


def tried(folder: Path, cases: dict[str, tuple[str, Task]]) -> dict[str, Task]:
    """What modules returned in each case, ``module`` or ``module check``; several at a time, as on several hosts."""
    hosts = {
        name.replace(" ", "-"): {"ansible_python_interpreter": sys.executable, "kind": kind, "arguments": arguments}
        for name, (kind, arguments) in cases.items()
    }
    tasks = []
    for kind in sorted({kind for kind, _ in cases.values()}):
        module, *check = kind.split()
        one = task(kind, module, {}, check_mode=bool(check), when=f"kind == '{kind}'")
        tasks.append(one | {module: "{{ arguments }}"})
    outcome = run_tasks(folder / f"play{next(_numbers)}", tasks, hosts)
    for _, arguments in cases.values():
        assert str(arguments.get("login_password", "no password")) not in outcome.output
    return {name: outcome.results[name.replace(" ", "-")][kind] for name, (kind, _) in cases.items()}


def assert_refused(result: Task, said: str, name: str) -> None:
    assert "msg" in result and "planned" not in result and "eligible" not in result, f"{name}: {result}"
    assert said in result["msg"] and "\n" not in result["msg"], f"{name}: {result['msg']}"
    assert len(result["msg"]) > 20 and "Traceback" not in str(result), name
    assert not result.get("changed"), name
