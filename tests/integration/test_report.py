# SPDX-License-Identifier: GPL-3.0-or-later
"""Action report through Ansible: what is written, when it is changed, check mode, and bad input."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

from support.playbook import Outcome, run_tasks
from support.report_model import some_report

HOSTS = {"agent": {"ansible_python_interpreter": sys.executable}}


def task(name: str, report: Any, **files: str) -> dict[str, Any]:
    return {"name": name, "dmwm.wmagent.report": {"model": report, **files}, "ignore_errors": True}


def played(folder: Path, *tasks: dict[str, Any], options: tuple[str, ...] = ()) -> tuple[dict[str, Any], Outcome]:
    outcome = run_tasks(folder, tasks, HOSTS, *options)
    assert outcome.results.get("agent", {}).keys() == {one["name"] for one in tasks}, outcome.output
    return outcome.results["agent"], outcome


def test_written_once_and_again_only_where_it_says_something_new(tmp_path: Path) -> None:
    report: Any = some_report(1, weeks=1)
    later, other = copy.deepcopy(report), copy.deepcopy(report)
    later["generated_at"] = "2026-11-25T12:30:00Z"
    other["agents"][0]["verdict"] = "inconclusive"
    other["agents"][0]["reasons"] = ["http://u:kept-to-ourselves@localhost:5984 refused"]
    folder = tmp_path / "new" / "www"
    files = {"html": f"{folder}/r.html", "json": f"{folder}/r.json", "markdown": f"{folder}/r.md"}
    found, outcome = played(
        tmp_path / "play",
        task("first", report, **files),
        task("later", later, **files),
        task("other", other, **files),
        options=("--diff",),
    )
    assert (found["first"]["changed"], found["first"]["written"]) == (True, list(files.values()))
    assert (found["later"]["changed"], found["later"]["written"]) == (False, [])
    assert found["later"]["summary"] == "the report says what it said before"
    assert found["other"]["written"] == list(files.values())
    written = {name: Path(file).read_text(encoding="utf-8") for name, file in files.items()}
    assert json.loads(written["json"])["agents"][0]["verdict"] == "inconclusive"
    for text in (*written.values(), "\n".join(line for line in outcome.output.splitlines())):
        assert "kept-to-ourselves" not in text
    assert sorted(one.name for one in folder.iterdir()) == ["r.html", "r.json", "r.md"]


def test_check_mode_tells_and_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "www" / "r.md"
    found, outcome = played(
        tmp_path / "play",
        task("check", some_report(1, weeks=1), markdown=str(file)),
        options=("--check", "--diff"),
    )
    assert (found["check"]["changed"], found["check"]["summary"]) == (True, f"{file} would be written")
    assert f"+{file} would be written" in outcome.output
    assert not file.parent.exists()


def test_bad_input_is_one_line_each_and_leaves_the_old_file(tmp_path: Path) -> None:
    report: Any = some_report(1, weeks=1)
    old = tmp_path / "old.md"
    old.write_text("as it was\n")
    blocked = tmp_path / "file"
    blocked.write_text("")
    damaged = copy.deepcopy(report)
    del damaged["agents"][0]["drift"]
    lacking = {"version": 1, "agents": []}
    found, _ = played(
        tmp_path / "play",
        task("nothing", report),
        task("version", {**report, "version": 9}, markdown=str(old)),
        task("lacking", lacking, markdown=str(old)),
        task("damaged", damaged, markdown=str(old), html=str(tmp_path / "r.html")),
        task("same", report, markdown=str(old), json=str(old)),
        task("no folder", report, json=str(blocked / "x" / "r.json")),
        task("a folder", report, json=str(tmp_path)),
    )
    for name, start in {
        "nothing": "one of the following is required: html, json, markdown",
        "version": "the report's version is 9, this collection writes 1; give what dmwm.wmagent.history returns",
        "lacking": "the report lacks fleet, generated_at, redeploy_first, rollouts, threshold; give what",
        "damaged": "html: the report is damaged",
        "same": "two of html, json and markdown name the same file",
        "no folder": f"{blocked}/x/r.json can't be",
        "a folder": f"{tmp_path} can't be read (Is a directory)",
    }.items():
        assert "summary" not in found[name], name
        assert found[name]["msg"].startswith(start), found[name]["msg"]
        assert "\n" not in found[name]["msg"] and "Traceback" not in str(found[name])
    assert old.read_text() == "as it was\n"
    assert not (tmp_path / "r.html").exists()
