# SPDX-License-Identifier: GPL-3.0-or-later
"""redeploy.yml on a real agent whose next release has another schema: refused, killed, gone on, finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import client as couch
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import list_databases, read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import dump, journal
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.tables import count_rows
from support.agent import LabAgent, lab
from support.fleet import Fleet, current
from wmagent_lab.work import Work

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OLD, NEW = "2.4.1", "2.4.2"
SITE = (
    "--site-name=T1_XX_Lab --cms-name=T1_XX_Lab --pnn=T1_XX_Lab_Disk --ce-name=lab --plugin=SimpleCondorPlugin "
    "--pending-slots=5 --running-slots=7"
)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with lab(tmp_path_factory, components=["RetryManager"], image=OLD) as up:
        yield up


@pytest.fixture(scope="module")
def agent(running) -> LabAgent:
    return running.agents[0]


@pytest.fixture(scope="module")
def work(agent) -> Work:
    """What the agent has to do; the test finishes it."""
    host = agent.overrides["Agent.hostName"]
    found = Work(agent.name, host, agent.secrets, agent.database, agent.folder / "condor.json", seconds=0)
    found.seed()
    return found


@pytest.fixture(scope="module")
def fleet(running, agent):
    one = Fleet.of(running.folder / "controller", running.agents, wmagent_team="lab")
    one.agents[agent.name]["wmagent_fqdn"] = agent.overrides["Agent.hostName"]
    return one


def rows(agent: LabAgent) -> dict[str, int]:
    with connect(agent.settings()) as connection:
        return count_rows(connection)


def documents(agent: LabAgent) -> dict[str, int]:
    client = couch.CouchClient(couch.settings_from_secrets(agent.read_secrets()))
    return {name: read_database(client, name).documents for name in list_databases(client)}


def document(agent: LabAgent, change: dict | None = None) -> dict:
    """The agent's configuration in ReqMgr2, changed first where that is asked for."""
    url = f"{agent.read_secrets()['REQMGR2_URL']}/data/wmagentconfig/{agent.overrides['Agent.hostName']}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer)["result"][0]
    if change:
        body = json.dumps({**found, **change}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        return document(agent)
    return found


def redeploy(fleet: Fleet, *options: str, confirm: str = "agent01", **extra):
    return fleet.play("redeploy.yml", *options, wmagent_image=NEW, wmagent_confirm_wipe=confirm, **extra)


def test_01_an_agent_that_works_is_refused_and_nothing_changed(agent, work, fleet):
    before, pids = rows(agent), agent.running()
    assert sum(before.values()) > 100 and len(before) == 48
    run = redeploy(fleet)
    assert run.code != 0 and "not drained" in run.output, run.output
    assert "workflows that are not archived in ReqMgr2" in run.output
    assert "nothing was changed" in run.output
    assert rows(agent) == before and agent.running() == pids
    assert not agent.layout.lock.exists() and not journal.file_of(agent.layout).exists()


def test_02_drained_it_still_needs_a_person_who_names_it(agent, work, fleet):
    work.step(1.0)
    assert document(agent, {"UserDrainMode": True})["UserDrainMode"]
    before, pids = rows(agent), agent.running()
    run = redeploy(fleet, confirm="agent02")
    assert run.code != 0 and "-e wmagent_confirm_wipe=agent01" in run.output, run.output
    assert "not drained" not in run.output and "not archived" not in run.output
    checked = redeploy(fleet, "--check", confirm="")
    assert checked.code == 0, checked.output
    assert f"48 tables with {sum(before.values())} rows and 6 CouchDB databases" in checked.output
    assert f"wmbs_job': {before['wmbs_job']}" in checked.output.replace('"', "'")
    assert rows(agent) == before and agent.running() == pids
    assert not agent.layout.is_adopted() and not journal.file_of(agent.layout).exists()


def test_03_what_fails_before_the_wipe_leaves_the_agent_as_it_was(agent, fleet):
    before, held = rows(agent), documents(agent)
    run = redeploy(fleet, wmagent_redeploy_saves=str(agent.secrets))
    assert run.code != 0 and "cannot be made" in run.output, run.output
    assert "nothing was wiped; the agent is as it was" in run.output
    assert rows(agent) == before and documents(agent) == held
    assert current(agent) != NEW and set(agent.running()) == {"RetryManager"}
    assert not agent.layout.lock.exists() and not journal.file_of(agent.layout).exists()


def test_04_killed_after_the_wipe_the_same_command_finishes(agent, fleet):
    before, held = rows(agent), documents(agent)
    command, environment = fleet.command("redeploy.yml", wmagent_image=NEW, wmagent_confirm_wipe="agent01")
    process = subprocess.Popen(
        command, env=environment, cwd=fleet.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    seen = wait_for_step(agent, "wiped", process)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    said, _ = process.communicate()
    assert seen, f"it ended or hung before the wipe: {said}"
    left = journal.read(agent.layout)
    assert left and left.destroys and left.tables == before and not agent.running()
    assert agent.layout.lock.exists(), "the lock of the dead run is still there"
    other = SITE.replace("T1_XX_Lab", "T1_XX_Other")
    run = redeploy(fleet, wmagent_redeploy_resource_control=[other, "--site-name=T1_XX_New --pending-slots=5"])
    assert run.code != 0 and "wmagent-resource-control of " in run.output, run.output
    assert "it goes on after step pushed" in run.output or "filling" in run.output, run.output
    assert rows(agent)["wmbs_location"] == 1 and not agent.running()
    run = redeploy(fleet, wmagent_redeploy_resource_control=[SITE])
    assert run.code == 0, run.output
    with connect(agent.settings()) as connection:
        sites = connection.query("SELECT site_name, pending_slots, running_slots FROM wmbs_location")
    assert sites == [("T1_XX_Lab", 5, 7)]
    assert current(agent) == NEW and set(agent.running()) == {"RetryManager"}
    now = rows(agent)
    assert len(now) == 49 and now["wma_init"] == 4 and now["wmbs_workflow"] == 0 and now["dbsbuffer_file"] == 0
    assert set(documents(agent)) == set(held) and documents(agent)["workqueue"] < held["workqueue"]
    assert not document(agent)["UserDrainMode"] and not agent.layout.lock.exists()
    assert not journal.file_of(agent.layout).exists() and not agent.layout.journal.exists()

    entry = ledger.read(agent.layout.ledger)[-1]
    assert (entry["action"], entry["verdict"]) == ("redeploy", "healthy")
    assert entry["steps"]["database"]["verified"] == "restored"
    assert dump.rows_in(Path(entry["steps"]["database"]["file"])) == before
    assert {name: one["documents"] for name, one in entry["steps"]["couchdb"].items()} == held
    secret = agent.read_secrets()["MDB_PASS"]
    assert secret not in run.output + said and secret not in json.dumps(entry)


def wait_for_step(agent: LabAgent, step: str, process: subprocess.Popen[str]) -> bool:
    """Until the redeployment has come to ``step`` or a later one."""
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline and process.poll() is None:
        found = journal.read(agent.layout)
        if found and found.reached(step):
            return True
        time.sleep(0.005)
    return False
