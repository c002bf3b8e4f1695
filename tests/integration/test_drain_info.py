# SPDX-License-Identifier: GPL-3.0-or-later
"""drain_info on all of its sources, each of them broken in turn: what does not answer never counts as nothing left."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import SOURCES
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.verdict import DRAINED, DRAINING, STUCK, UNDECIDED
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.modules import drain_info
from support.couch_servers import stand_in
from support.dbsbuffer.fixtures import mariadb_agent
from support.dbsbuffer.rows import Block, File, Workflow
from support.drain.central import (
    AGENT,
    Central,
    CondorQ,
    add_elements,
    central_services,
    make_queue,
    secrets_for,
)
from support.drain.database import dbsbuffer, empty, wmbs
from support.playbook import run_tasks
from wmagent_lab.couch_standin import Couch

MINE = f"http://{AGENT}:6994"


@dataclass
class Agent:
    """An agent that is drained, until a test puts something into it."""

    connection: Connection
    database: DatabaseSettings
    couch: Couch
    couch_port: int
    central: Central
    condor: CondorQ
    folder: Path

    @property
    def options(self) -> dict[str, Any]:
        secrets = secrets_for(self.folder, self.database, self.couch_port, self.central.urls)
        return {
            "secrets": str(secrets),
            "agent": AGENT,
            "timeout": 5.0,
            "host_cert": None,
            "host_key": None,
            "ca_path": None,
            "database_name": self.database.name,
            "condor_q": self.condor.program,
            "before": [],
            "stuck_after": "24h",
            "waivers": [],
        }

    def info(self, **more: Any) -> dict[str, Any]:
        return drain_info.run(self.options | more)

    def counts(self) -> dict[str, int | None]:
        return {one["signal"]: one["count"] for one in self.info()["blockers"]}


@pytest.fixture(scope="module")
def database(mariadb_server) -> Iterator[DatabaseSettings]:
    with mariadb_agent(mariadb_server) as settings:
        yield settings


@pytest.fixture
def agent(database: DatabaseSettings, tmp_path: Path) -> Iterator[Agent]:
    with (
        connect(database, 30, read_only=False) as connection,
        stand_in() as (couch_settings, couch),
        central_services(UserDrainMode=True) as central,
    ):
        empty(connection)
        for name in ("workqueue", "workqueue_inbox"):
            make_queue(couch, name)
        yield Agent(connection, database, couch, couch_settings.port, central, CondorQ(tmp_path), tmp_path)


def test_a_drained_agent(agent):
    found = agent.info()
    assert (found["verdict"], found["blockers"], found["bottleneck"]) == (DRAINED, [], "")
    assert found["eta"] == {"seconds": 0, "soonest_seconds": 0, "latest_seconds": 0, "note": ""}
    assert found["sources"].keys() == set(SOURCES)
    assert found["flags"]["UserDrainMode"] is True
    json.dumps(found)


def test_elements_of_the_queues(agent):
    statuses = ("Available", "Negotiating", "Acquired", "Running", "CancelRequested", "Done", "Failed", "Canceled")
    elements = [{"Status": status, "RequestName": "a"} for status in statuses]
    add_elements(agent.couch, "workqueue", *elements)
    add_elements(agent.couch, "workqueue_inbox", *elements[3:4], {"Status": "Dancing", "RequestName": "b"})
    found = {one["signal"]: one for one in agent.info()["blockers"]}
    assert {name: one["count"] for name, one in found.items()} == {
        "inbox_running": 1,
        "inbox_status_unknown": 1,
        "workqueue_waiting": 3,
        "workqueue_running": 1,
        "workqueue_canceling": 1,
    }
    assert found["workqueue_waiting"]["by_state"] == {"Acquired": 1, "Available": 1, "Negotiating": 1}
    assert found["workqueue_waiting"]["examples"] == {"a": 3}
    assert found["workqueue_waiting"]["oldest"] == 1_700_000_001
    assert agent.info()["verdict"] == DRAINING


def test_central_elements_are_this_agents_by_its_host_alone(agent):
    others = (
        "http://other.example.org:5984",
        f"http://not-{AGENT}:5984",
        f"http://other/{AGENT}",
        None,
        "rubbish",
        "http://[",
    )
    add_elements(
        agent.central.service.couch,
        "workqueue",
        {"Status": "Running", "ChildQueueUrl": MINE, "RequestName": "a"},
        {"Status": "Acquired", "ChildQueueUrl": f"http://{AGENT}:5984", "RequestName": "b"},
        {"Status": "Negotiating", "ChildQueueUrl": f"https://{AGENT.upper()}", "RequestName": "c"},
        {"Status": "Done", "ChildQueueUrl": MINE, "RequestName": "a"},
        *({"Status": "Running", "ChildQueueUrl": url, "RequestName": "x"} for url in others),
    )
    found = {one["signal"]: (one["count"], one["examples"]) for one in agent.info()["blockers"]}
    assert found == {
        "global_workqueue_running": (1, {"a": 1}),
        "global_workqueue_waiting": (2, {"b": 1, "c": 1}),
    }


def test_every_signal_is_read_although_an_earlier_one_blocks(agent):
    wmbs(agent.connection, {"a": 1}, jobs=[(1, "a", "executing", 9)])
    agent.connection.begin()
    agent.connection.execute("DELETE FROM wmbs_fileset WHERE id = 1")
    agent.connection.commit()
    dbsbuffer(
        agent.connection,
        [Workflow(1, "a", "/a/T", 0)],
        [Block(1, 1, "/P/E/RAW#1", 1, 5, "Open")],
        [File(1, "/store/1", 1, None, "NOTUPLOADED", 0, 1), File(2, "/store/2", 1, None, "InDBS", 0, 1)],
    )
    agent.condor.jobs = [{"JobStatus": 5, "WMAgent_RequestName": "a"}]
    add_elements(agent.couch, "workqueue", {"Status": "Running", "RequestName": "a"})
    add_elements(agent.central.service.couch, "workqueue", {"Status": "Running", "ChildQueueUrl": MINE})
    agent.central.service.requests = {}
    assert agent.counts() == {
        "jobs_executing": 1,
        "subscriptions_unfinished": 1,
        "workflows_open": 1,
        "files_not_uploaded": 1,
        "files_without_block": 1,
        "blocks_not_in_dbs": 1,
        "condor_held": 1,
        "workqueue_running": 1,
        "global_workqueue_running": 1,
        "requests_unknown": 1,
    }


def test_what_became_of_the_requests(agent):
    names = [f"request-{number}-{'x' * 100}" for number in range(150)]
    wmbs(agent.connection, dict.fromkeys([*names, "deleted", "stranger"], 1), finished=dict.fromkeys(names, 1))
    status = {name: "normal-archived" if number else "running-closed" for number, name in enumerate(names)}
    agent.central.service.requests = {name: {"RequestStatus": one} for name, one in status.items()}
    found = agent.info()
    assert found["requests"] == {
        "by_status": {"normal-archived": 149, "running-closed": 1},
        "not_archived": 1,
        "examples": {names[0]: "running-closed"},
    }
    unknown = next(one for one in found["blockers"] if one["signal"] == "requests_unknown")
    assert unknown["examples"] == {"deleted": 1, "stranger": 1}
    # ReqMgr2 fails on all that are asked for together with a deleted one.
    agent.central.service.requests["deleted"] = None
    found = {one["signal"]: one for one in agent.info()["blockers"]}
    assert "status 500" in found["requests"]["text"]
    assert sum("/data/request" in one for one in agent.central.service.seen) < 40


def test_the_mode_of_the_agent(agent):
    service = agent.central.service
    for user, disk, expected in (
        (True, False, {}),
        (True, True, {}),
        (False, False, {"drain_mode_off": 1}),
        (False, True, {"drain_mode_by_disk_only": 1}),
    ):
        service.put_config(AGENT, agent.central.config | {"UserDrainMode": user, "AgentDrainMode": disk})
        assert agent.counts() == expected
    assert agent.info()["verdict"] == STUCK


def rule(pattern: str, answer: tuple[int, Any]) -> Callable[[Agent], dict[str, Any]]:
    def act(agent: Agent) -> dict[str, Any]:
        agent.couch.faults.on(pattern, times=-1, answer=answer)
        return {}

    return act


def central_says(part: str, answer: tuple[int, Any]) -> Callable[[Agent], dict[str, Any]]:
    def act(agent: Agent) -> dict[str, Any]:
        agent.central.service.before = lambda seen: answer if part in seen else None
        return {}

    return act


def condor_does(script: str) -> Callable[[Agent], dict[str, Any]]:
    return lambda agent: {"condor_q": agent.condor.broken(script)}


def secret(key: str, value: str) -> Callable[[Agent], dict[str, Any]]:
    def act(agent: Agent) -> dict[str, Any]:
        path = Path(agent.options["secrets"])
        lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key}=")]
        other = agent.folder / "other.secrets"
        other.write_text("\n".join([*lines, f"{key}={value}"]) + "\n")
        return {"secrets": str(other)}

    return act


QUEUES = "/_design/WorkQueue/_view/"
BROKEN: dict[str, tuple[Callable[[Agent], dict[str, Any]], str, str]] = {
    "database, wrong password": (secret("MDB_PASS", "wrong-word"), "database", "refuses user"),
    "database, not there": (secret("MDB_HOST", "127.0.0.1:1"), "database", "cannot be reached"),
    "database, other name": (lambda agent: {"database_name": "none"}, "database", "check the grants"),
    "couchdb, wrong password": (secret("COUCH_PASS", "wrong-word"), "inbox", "refuses user"),
    "couchdb, not there": (secret("COUCH_PORT", "1"), "workqueue", "cannot be reached"),
    "couchdb, no port": (secret("COUCH_PORT", "x"), "workqueue", "COUCH_PORT is no port"),
    "couchdb, no view": (rule(f"workqueue{QUEUES}", (404, {"error": "not_found"})), "workqueue", "status 404"),
    "couchdb, some rows": (
        rule(f"inbox{QUEUES}", (200, {"total_rows": 3, "offset": 0, "rows": []})),
        "inbox",
        "tells 0 of 3 elements",
    ),
    "couchdb, a shard is missing": (
        rule(f"inbox{QUEUES}", (200, {"total_rows": 0, "rows": [], "errors": [{"from": "x", "reason": "timeout"}]})),
        "inbox",
        "did not give all of its rows",
    ),
    "couchdb, empty": (rule(f"workqueue{QUEUES}", (200, {})), "workqueue", "did not give all of its rows"),
    "couchdb, null": (rule(f"workqueue{QUEUES}", (200, None)), "workqueue", "did not give all of its rows"),
    "couchdb, odd rows": (
        rule(f"workqueue{QUEUES}", (200, {"total_rows": 1, "rows": [None]})),
        "workqueue",
        "something unexpected",
    ),
    "condor, not installed": (lambda agent: {"condor_q": "/nowhere/condor_q"}, "condor", "cannot be run"),
    "condor, silent": (condor_does("exit 0"), "condor", "no number of jobs"),
    "condor, fails": (condor_does("echo 'Failed to connect' >&2; exit 1"), "condor", "Failed to connect"),
    "condor, hangs": (lambda agent: condor_does("exec sleep 30")(agent) | {"timeout": 1.0}, "condor", "within 1 s"),
    "condor, half": (condor_does("printf '[{\"JobStatus\": 1}, {'"), "condor", "cut off"),
    "config, refused": (central_says("/wmagentconfig/", (403, {})), "drain_mode", "refuses this host"),
    "config, unknown agent": (lambda agent: {"agent": "other.example.org"}, "drain_mode", "knows no agent other"),
    "config, empty": (central_says("/wmagentconfig/", (200, {"result": []})), "drain_mode", "one result"),
    "config, without fields": (central_says("/wmagentconfig/", (200, {"result": [{}]})), "drain_mode", "lacks"),
    "central queue, refused": (central_says("/couchdb/workqueue", (401, {})), "global_workqueue", "refuses this host"),
    "central queue, login page": (
        central_says("/couchdb/workqueue", (302, b"")),
        "global_workqueue",
        "as to a login page",
    ),
    "central queue, a page": (central_says(QUEUES, (200, b"<html>")), "global_workqueue", "no JSON"),
    "central queue, null": (central_says(QUEUES, (200, None)), "global_workqueue", "did not give all"),
    "central queue, odd": (central_says(QUEUES, (200, {"rows": [1]})), "global_workqueue", "something unexpected"),
    "central queue, empty without a view": (
        central_says("/couchdb/workqueue/_design/WorkQueue", (200, {"rows": []})),
        "global_workqueue",
        "has no view",
    ),
    "central, not there": (
        secret("GLOBAL_WORKQUEUE_URL", "http://127.0.0.1:1/couchdb/workqueue"),
        "global_workqueue",
        "cannot be reached",
    ),
    "central, no URL": (secret("REQMGR2_URL", "reqmgr2"), "drain_mode", "its URL is none"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_source_that_is_broken_is_never_nothing_left(agent, name):
    assert agent.info()["verdict"] == DRAINED
    act, signal, said = BROKEN[name]
    found = agent.info(**act(agent))
    assert found["verdict"] == UNDECIDED
    told = {one["signal"]: one for one in found["blockers"]}
    assert (told[signal]["class"], told[signal]["count"]) == ("unknown", None)
    assert said in told[signal]["text"]
    assert "\n" not in told[signal]["text"]
    for word in (agent.database.password, "couch-word", "wrong-word"):
        assert word not in json.dumps(found)


@pytest.mark.parametrize(
    "name", ["requests, refused", "requests, page", "requests, null", "requests, odd", "requests, 500"]
)
def test_requests_that_nobody_tells_of(agent, name):
    answers = {
        "refused": (403, {}),
        "page": (200, b"x"),
        "null": (200, None),
        "odd": (200, {"result": [1]}),
        "500": (500, {}),
    }
    wmbs(agent.connection, {"a": 1}, finished={"a": 1})
    agent.central.service.requests = {"a": {"RequestStatus": "normal-archived"}}
    assert agent.info()["verdict"] == DRAINED
    central_says("/data/request", answers[name.partition(", ")[2]])(agent)
    found = agent.info()
    assert (found["verdict"], [one["signal"] for one in found["blockers"]]) == (UNDECIDED, ["requests"])


def test_requests_of_a_database_that_cannot_be_read_are_unknown_too(agent):
    found = agent.info(**secret("MDB_HOST", "127.0.0.1:1")(agent))
    assert [one["signal"] for one in found["blockers"]] == ["database", "requests"]


def test_rates_and_waivers(agent):
    dbsbuffer(
        agent.connection,
        [Workflow(1, "a", "/a/T")],
        [],
        [File(number, f"/store/{number}", 1, None, "NOTUPLOADED", 0, 1) for number in range(1, 31)]
        + [File(100, "/store/lost", 1, None, "InDBS", 0, 1)],
    )
    before = [agent.info()]
    assert (before[0]["eta"]["note"], before[0]["bottleneck"]) == ("not enough data", "")
    for gone in (11, 21):
        agent.connection.execute(f"UPDATE dbsbuffer_file SET status = 'GLOBAL', in_phedex = 1 WHERE id < {gone}")
        time.sleep(0.05)
        before.append(agent.info(before=before))
    found = before[-1]
    stage = next(one for one in found["stages"] if one["name"] == "upload")
    assert (stage["count"], found["bottleneck"], found["verdict"]) == (10, "upload", DRAINING)
    assert stage["eta_seconds"] is not None
    assert stage["rate_per_hour"] > 0
    agent.connection.execute("UPDATE dbsbuffer_file SET status = 'GLOBAL', in_phedex = 1 WHERE id < 100")
    assert agent.info(before=before)["verdict"] == STUCK
    waiver = {"blocker": "files_without_block", "reason": "lost", "person": "someone", "expires": "2999-01-01"}
    found = agent.info(before=before, waivers=[waiver | {"at_most": 1}])
    assert (found["verdict"], found["blockers"]) == (DRAINED, [])
    assert (found["waived"][0]["count"], found["waived"][0]["waiver"]["person"]) == (1, "someone")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"before": [{}]}, "no earlier result"),
        ({"waivers": [{"blocker": "x"}]}, "there is no blocker"),
        ({"stuck_after": "soon"}, "stuck_after is 'soon'"),
        ({"timeout": 0.0}, "timeout is 0 s"),
        ({"agent": "agent"}, "give the full host name"),
        ({"secrets": "/nowhere"}, "does not exist"),
    ],
)
def test_options_that_make_no_sense_are_said_before_anything_is_asked(agent, more, said):
    with pytest.raises(WMAgentError, match=said):
        agent.info(**more)
    assert not agent.central.service.seen


def test_the_module(agent, tmp_path):
    add_elements(agent.couch, "workqueue", {"Status": "Running", "RequestName": "a"})
    given = {key: value for key, value in agent.options.items() if value is not None}
    tasks = [
        {"name": "info", "dmwm.wmagent.drain_info": given, "register": "first"},
        {"name": "again", "dmwm.wmagent.drain_info": given | {"before": ["{{ first }}"]}},
        {"name": "bad", "dmwm.wmagent.drain_info": given | {"agent": "x"}, "ignore_errors": True},
    ]
    outcome = run_tasks(tmp_path / "play", tasks, {"agent": {"ansible_python_interpreter": sys.executable}})
    assert outcome.code == 0, outcome.output
    found = outcome.results["agent"]
    assert (found["info"]["verdict"], found["info"]["changed"]) == (DRAINING, False)
    assert next(one for one in found["again"]["stages"] if one["name"] == "workqueue")["rate_per_hour"] == 0
    assert "give the full host name" in found["bad"]["msg"]
