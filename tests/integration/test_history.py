# SPDX-License-Identifier: GPL-3.0-or-later
"""Action history through Ansible: what is recorded, what is not recorded twice, and a file that cannot be used."""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.modules import agent_ledger_info
from support.playbook import Outcome, run_tasks

MODULE = "dmwm.wmagent.history"
HOSTS = {"agent": {"ansible_python_interpreter": sys.executable}}
GB = 1e9
DISKS = {
    "disks": [{"name": "/data", "device": "/dev/sda1", "used": 60 * GB, "total": 100 * GB}],
    "holds": {"/": "/data"},
}
REFUSED = {"failed": True, "msg": "CouchDB refused:\ncheck COUCH_USER"}


def task(name: str, file: Path, **arguments: Any) -> dict[str, Any]:
    return {"name": name, MODULE: {"path": str(file), **arguments}, "ignore_errors": True}


def recorded(name: str, file: Path, results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return task(name, file, state="recorded", agent="agent", results=results, time=time.time() // 1, **more)


def played(folder: Path, *tasks: dict[str, Any], options: tuple[str, ...] = ()) -> tuple[dict[str, Any], Outcome]:
    outcome = run_tasks(folder, tasks, HOSTS, *options)
    assert outcome.results.get("agent", {}).keys() == {one["name"] for one in tasks}, outcome.output
    return outcome.results["agent"], outcome


def test_what_is_told_twice_is_recorded_once_and_a_refusal_is_a_gap(tmp_path: Path) -> None:
    file = tmp_path / "state" / "history.sqlite"
    first = recorded("first", file, {"disks": DISKS, "couchdb": REFUSED, "dbsbuffer": {"skipped": True}})
    again = {**first, "name": "again"}
    read = task("read", file, state="read", agents=["agent"], kinds=["disk"])
    reported = task("reported", file, state="reported", agents=["agent"], threshold=50)
    found, _ = played(tmp_path / "play", first, again, read, reported)
    assert (found["first"]["added"], found["first"]["changed"]) == (3, True)
    assert found["first"]["gaps"] == ["couchdb: CouchDB refused: check COUCH_USER"]
    assert (found["again"]["added"], found["again"]["changed"]) == (0, False)
    series = {one["quantity"]: one["points"] for one in found["read"]["series"]["agent"]}
    assert {quantity: [value for _, value in points] for quantity, points in series.items()} == {
        "bytes": [60 * GB],
        "total": [100 * GB],
    }
    assert found["read"]["events"] == {"agent": []}
    report = found["reported"]["report"]
    assert report["agents"][0]["gaps"] == ["not reached: nothing was collected from it"]
    assert report["redeploy_first"]["name"] == "/data"
    assert "to be redeployed first: agent" in found["reported"]["summary"]


def test_check_mode_tells_and_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "state" / "history.sqlite"
    found, outcome = played(tmp_path / "play", recorded("first", file, {"disks": DISKS}), options=("--check", "--diff"))
    assert (found["first"]["added"], found["first"]["changed"]) == (3, True)
    assert "3 measures and events would be recorded" in outcome.output
    assert not file.parent.exists()


def test_what_cannot_be_used_is_one_line_and_the_report_goes_on(tmp_path: Path) -> None:
    damaged, newer = tmp_path / "damaged.sqlite", tmp_path / "newer.sqlite"
    damaged.write_bytes(b"no database, " * 1000)
    with sqlite3.connect(newer) as connection:
        connection.executescript(f"CREATE TABLE x (y); PRAGMA application_id = {0x574D4148}; PRAGMA user_version = 9")
    collected = {"reached": True, "time": time.time(), "results": {"disks": DISKS}}
    found, outcome = played(
        tmp_path / "play",
        recorded("damaged", damaged, {"disks": DISKS}),
        recorded("newer", newer, {"disks": DISKS}),
        recorded("no days", newer, {"disks": DISKS}, days=0),
        task("no agent", newer, state="recorded", results={}),
        {"name": "collected", "ansible.builtin.set_fact": {"wmagent_collected": collected}},
        task("reported", damaged, state="reported", agents=["agent"]),
        recorded("aside", damaged, {"disks": DISKS}, damaged="aside"),
    )
    assert "wmagent_history_damaged=aside" in found["damaged"]["msg"]
    assert "is of version 9" in found["newer"]["msg"]
    assert "days is 0; it must be more than 0" in found["no days"]["msg"]
    assert "agent" in found["no agent"]["msg"]
    assert all("\n" not in found[name]["msg"] for name in ("damaged", "newer", "no days"))
    told = found["reported"]["report"]["agents"][0]
    assert told["disks"] == [{"name": "/data", "used": 60 * GB, "total": 100 * GB}]
    assert told["gaps"][0].startswith(f"history: history {damaged} is damaged")
    assert Path(found["aside"]["aside"]).read_bytes() == b"no database, " * 1000
    assert found["aside"]["added"] == 3
    assert "Traceback" not in outcome.output


def test_a_cleanup_is_recorded_at_once_and_not_again_from_the_ledger(tmp_path: Path) -> None:
    root, state = tmp_path / "wmagent", tmp_path / "state"
    (root / ".deploy").mkdir(parents=True)
    ledger.append(root / ".deploy" / "ledger.jsonl", "adopt", by="operator@controller", to="2.4.4")
    include = {
        "name": "record",
        "ansible.builtin.include_role": {"name": "dmwm.wmagent.cleanup", "tasks_from": "record"},
        "vars": {
            "wmagent_root": str(root),
            "wmagent_state_dir": str(state),
            "wmagent_cleanup_id": "cleanup-1",
            "wmagent_cleanup_owner": "operator@controller",
            "wmagent_cleaned_release": {"current": {"name": "2.4.4"}},
            "wmagent_cleanup_part": "dbsbuffer",
            "wmagent_cleanup_figures": {"deleted": {"dbsbuffer_file": 7}},
        },
    }
    file = state / "history.sqlite"
    outcome = run_tasks(
        tmp_path / "play",
        [
            include,
            {"name": "ledger", "dmwm.wmagent.agent_ledger_info": {"wmagent_root": str(root)}, "register": "ledger"},
            task("read", file, state="recorded", agent="agent", results={"ledger": "{{ ledger }}"}),
            task("report", file, state="reported", agents=["agent"]),
        ],
        HOSTS,
    )
    found = outcome.results["agent"]
    assert found["dmwm.wmagent.cleanup : Keep it in the history"]["added"] == 1, outcome.output
    assert found["read"]["added"] == 1, "the adoption alone is new"
    told = found["report"]["report"]["agents"][0]
    assert [line["action"] for line in told["ledger"]] == ["adopt", "cleanup"]
    assert told["ledger"][1]["details"]["dbsbuffer"] == {"deleted": {"dbsbuffer_file": 7}}
    assert len(told["cleanups"]) == 1


def test_a_root_that_is_not_there_is_no_empty_ledger(tmp_path: Path) -> None:
    assert agent_ledger_info.run(tmp_path) == {"entries": []}
    with pytest.raises(WMAgentError, match="check wmagent_root"):
        agent_ledger_info.run(tmp_path / "missing")
