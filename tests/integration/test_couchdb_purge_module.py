# SPDX-License-Identifier: GPL-3.0-or-later
"""Module couchdb_purge: leftovers, bad input, kills, check mode and diff."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.transport import Transport
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.modules.couchdb_purge import Run
from support.couch import serving as canned
from support.couch_servers import couch_database, delete, live, secrets_of, stand_in, write
from support.playbook import run_tasks

OPTIONS: dict[str, Any] = {
    "databases": [],
    "timeout": 20,
    "max_runtime": None,
    "stop_file": None,
    "min_age": "0",
    "abandoned_after": "30d",
    "in_flight": 2,
    "share": 0.9,
    "archived_workflows": [],
}
KILLS = int(os.environ.get("COUCHDB_KILLS", "8"))


def run(server: CouchSettings, folder: Path, *names: str, check: bool = False, **more: Any) -> Run:
    one = Run(OPTIONS | {"secrets": secrets_of(server, folder), "databases": list(names)} | more, check)
    one.run()
    return one


def test_check_mode_tells_what_the_run_does(couch, couch_client, couch_db, tmp_path):
    write(couch_client, couch_db, range(30))
    delete(couch_client, couch_db, range(25))
    planned = run(couch, tmp_path, couch_db, check=True)
    assert planned.changed and read_database(couch_client, couch_db).tombstones == 25
    done = run(couch, tmp_path, couch_db)
    assert done.changed and done.figures()["databases"][couch_db]["going"] == 25
    assert planned.figures()["databases"][couch_db]["going"] == 25
    assert planned.diff() == done.diff()
    assert done.diff()["after"] == f"{couch_db}: 0 tombstones\n"
    assert "would purge 25 tombstones" in planned.summary() and "purged 25 tombstones" in done.summary()
    again = run(couch, tmp_path, couch_db)
    assert not again.changed and again.figures()["purged"] == 0 and not again.figures()["resume"]


def test_a_run_without_time_says_where_to_go_on(couch, couch_client, couch_db, tmp_path):
    write(couch_client, couch_db, range(3))
    delete(couch_client, couch_db, range(3))
    none = run(couch, tmp_path, couch_db, max_runtime="0")
    assert none.figures()["stopped_by"] == "max_runtime" and none.figures()["resume"] == [couch_db]
    assert "run again for" in none.summary()
    assert run(couch, tmp_path, couch_db, max_runtime="1h").figures()["purged"] == 3


def jobdump(client: CouchClient, jobs: str, reports: str) -> None:
    """Five jobs of each of three workflows, with a report each: archived, not all archived, skipped."""
    by_workflow = "function (doc) { emit([doc.workflow, doc.jobid], null); }"
    client.put(path_of(jobs, "_design/JobDump"), {"views": {"jobsByWorkflowName": {"map": by_workflow}}})
    task = "doc.fwjr.task.split('/')[1]"
    views = {
        "fwjrsByWorkflowName": {"map": f"function (doc) {{ emit([{task}, doc._id], null); }}"},
        "byWorkflowAndArchiveStatus": {"map": f"function (doc) {{ emit([{task}, doc.archivestatus], null); }}"},
    }
    client.put(path_of(reports, "_design/FWJRDump"), {"views": views})
    status = {"done": "uploaded", "half": "ready", "skipped": "skip", "other": "uploaded"}
    for number, workflow in enumerate(status):
        for job in range(5):
            name = str(10 * number + job)
            client.put(path_of(jobs, name), {"type": "job", "workflow": workflow, "jobid": int(name)})
            archived = status[workflow] if job or workflow != "half" else "uploaded"
            report = {"type": "fwjr", "archivestatus": archived, "fwjr": {"task": f"/{workflow}/Task"}}
            client.put(path_of(reports, f"{name}-0"), report)


def test_leftovers_of_archived_workflows_go_first(couch, couch_client, couch_db, tmp_path):
    with couch_database(couch) as reports:
        jobdump(couch_client, couch_db, reports)
        workflows = ["done", "half", "skipped", "unknown"]
        planned = run(couch, tmp_path, couch_db, reports, check=True, archived_workflows=workflows)
        assert planned.leftovers == {couch_db: 10, reports: 11} and planned.changed
        assert read_database(couch_client, couch_db).documents == 21
        done = run(couch, tmp_path, couch_db, reports, archived_workflows=workflows)
        assert done.leftovers == planned.leftovers
        assert done.figures()["purged"] == 21
        jobs = {name for name in live(couch_client, couch_db) if name.isdigit()}
        assert jobs == {str(number) for number in (*range(10, 15), *range(30, 35))}
        left = {name for name in live(couch_client, reports) if name[0].isdigit()}
        assert left == {f"{number}-0" for number in (*range(11, 15), *range(30, 35))}
        assert not run(couch, tmp_path, couch_db, reports, archived_workflows=workflows).changed
        with pytest.raises(WMAgentError, match="0 databases with the design document JobDump"):
            run(couch, tmp_path, reports, archived_workflows=workflows)


def test_what_is_refused_is_one_line(couch, couch_client, couch_db, tmp_path):
    write(couch_client, couch_db, range(3))
    delete(couch_client, couch_db, range(3))
    refused: list[tuple[dict[str, Any], str]] = [
        ({"databases": ["nowhere/jobs"]}, "has no database nowhere/jobs"),
        ({"min_age": "-1d"}, "min_age is '-1d'"),
        ({"abandoned_after": "soon"}, "abandoned_after is 'soon'"),
        ({"max_runtime": "a while"}, "max_runtime is 'a while'"),
        ({"in_flight": 0}, "in_flight is 0"),
        ({"share": 0}, "share is 0"),
        ({"share": 1.5}, r"share is 1\.5"),
        ({"timeout": 0}, "timeout is 0"),
    ]
    for options, said in refused:
        with pytest.raises(WMAgentError, match=said) as error:
            run(couch, tmp_path, couch_db, **options)
        assert "\n" not in str(error.value) and couch.password not in str(error.value)
    with canned(lambda *asked: (200, b"<html>proxy</html>")) as proxy, pytest.raises(WMAgentError, match="is no JSON"):
        run(proxy, tmp_path, couch_db)
    assert read_database(couch_client, couch_db).tombstones == 3


def test_somebody_who_is_no_admin_purges_nothing(tmp_path):
    with stand_in() as (server, couch):
        client = CouchClient(server)
        client.put("/jobs")
        write(client, "jobs", range(3))
        delete(client, "jobs", range(3))
        couch.faults.on("/_purge$", times=-1, answer=(403, {"error": "forbidden", "reason": "You are no admin."}))
        with pytest.raises(WMAgentError, match="refuses user u"):
            run(server, tmp_path, "jobs")
        # Not on a real server: from 3.4 on it locks an account for a while after a few of these.
        wrong = CouchSettings(server.host, server.port, server.user, "wrong")
        with pytest.raises(WMAgentError, match="check COUCH_USER and COUCH_PASS") as error:
            run(wrong, tmp_path, "jobs")
        assert "\n" not in str(error.value) and "wrong" not in str(error.value)


def killed_at(number: int, server: CouchSettings, folder: Path, name: str) -> None:
    """The process that is killed right before (even) or after (odd) one of its requests."""
    send, count = Transport.request, 0

    def counted(self: Transport, method: str, path: str, body: Any = None) -> Any:
        nonlocal count
        count += 1
        if count == number // 2 and number % 2 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = send(self, method, path, body)
        if count == number // 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    Transport.request = counted  # type: ignore[method-assign]
    run(server, folder, name)


def test_a_run_that_is_killed_loses_nothing(couch, couch_client, couch_db, tmp_path):
    couch_client.put(path_of(couch_db, "_purged_infos_limit"), 20)
    write(couch_client, couch_db, range(10_000, 10_020))
    before = live(couch_client, couch_db)
    chance = random.Random(int(os.environ.get("KILL_SEED", "1")))
    kills = 0
    for point in range(KILLS):
        write(couch_client, couch_db, range(100 * point, 100 * point + 80))
        delete(couch_client, couch_db, range(100 * point, 100 * point + 80))
        number = 20 + int((point + chance.random()) * 20 / KILLS)
        process = multiprocessing.get_context("fork").Process(
            target=killed_at, args=(number, couch, tmp_path, couch_db)
        )
        process.start()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        assert live(couch_client, couch_db) == before
    assert kills >= KILLS * 0.7
    assert run(couch, tmp_path, couch_db).figures()["resume"] == []
    assert live(couch_client, couch_db) == before
    assert read_database(couch_client, couch_db).tombstones == 0


def test_the_module_through_ansible(tmp_path):
    with stand_in() as (server, _):
        client = CouchClient(server)
        client.put("/wmagent_jobdump%2Fjobs")
        write(client, "wmagent_jobdump/jobs", range(30))
        delete(client, "wmagent_jobdump/jobs", range(25))
        options = {"secrets": secrets_of(server, tmp_path)}
        steps = [("plan", {"check_mode": True, "diff": True}), ("do", {"diff": True}), ("again", {})]
        tasks = [{"name": name, "dmwm.wmagent.couchdb_purge": options, **more} for name, more in steps]
        tasks += [{"name": "bad", "dmwm.wmagent.couchdb_purge": options | {"min_age": "old"}, "ignore_errors": True}]
        outcome = run_tasks(tmp_path / "play", tasks, {"agent": {"ansible_python_interpreter": sys.executable}})
    assert outcome.code == 0, outcome.output
    told = outcome.results["agent"]
    assert [told[name]["changed"] for name, _ in steps] == [True, True, False]
    assert told["plan"]["diff"] == told["do"]["diff"]
    assert told["do"]["purged"] == 25 and told["plan"]["purged"] == 0
    assert "min_age is 'old'" in told["bad"]["msg"]
    assert "couch-word" not in outcome.output
