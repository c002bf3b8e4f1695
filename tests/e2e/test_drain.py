# SPDX-License-Identifier: GPL-3.0-or-later
"""drain.yml, undrain.yml and cleanup.yml on agents whose work ends: turns, stop and go on, verdict, ledger."""

from __future__ import annotations

import json
import os
import sqlite3
import time
import urllib.request

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect
from support.agent import LabAgent, lab
from support.fleet import Fleet, actions
from wmagent_lab.work import Work

pytestmark = pytest.mark.slow

PATIENCE = {
    "wmagent_drain_shortest_pause": "1s",
    "wmagent_drain_longest_pause": "2s",
    "wmagent_drain_max_runtime": "5m",
}
NEW = "2.4.5.9-p1"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with lab(tmp_path_factory, agents=2, components=["RetryManager"]) as up:
        yield up


@pytest.fixture(scope="module")
def works(running) -> dict[str, Work]:
    """The agents' work, which the test finishes: how fast the machine is makes no difference."""
    found = {
        agent.name: Work(
            agent.name, fqdn(agent), agent.secrets, agent.database, agent.folder / "condor.json", seconds=0
        )
        for agent in running.agents
    }
    for work in found.values():
        work.seed()
    return found


@pytest.fixture(scope="module")
def fleet(running):
    both = Fleet.of(running.folder / "controller", running.agents, wmagent_team="lab", **PATIENCE)
    for agent in running.agents:
        both.agents[agent.name]["wmagent_fqdn"] = fqdn(agent)
    assert both.upgrade(NEW).code == 0
    return both


def fqdn(agent: LabAgent) -> str:
    return str(agent.overrides["Agent.hostName"])


def flags(agent: LabAgent) -> dict:
    url = f"{agent.read_secrets()['REQMGR2_URL']}/data/wmagentconfig/{fqdn(agent)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["result"][0]


def test_check_mode_changes_nothing_and_a_minimum_above_the_team_is_refused(running, works, fleet):
    refused = fleet.play("drain.yml", "-l", "agent01", wmagent_min_active=2)
    assert refused.code != 0 and "wmagent_min_active is 2, and team lab has 2 agents" in refused.output
    looked = fleet.play("drain.yml", "--check")
    assert looked.code == 0 and "would change" in looked.output and "files_not_in_rucio: 120" in looked.output
    assert not any(flags(agent)["UserDrainMode"] for agent in running.agents)
    assert not list((fleet.folder / "state").glob("drain-*.json"))


def test_one_drains_while_the_other_has_to_keep_working(running, works, fleet):
    stop = fleet.folder / "stop"
    stop.touch()
    first = fleet.play("drain.yml", wmagent_drain_stop_file=str(stop))
    # Both ask at the same moment; whichever comes second waits.
    drains = [agent for agent in running.agents if flags(agent)["UserDrainMode"]]
    assert len(drains) == 1 and first.code != 0
    (waits,) = [agent for agent in running.agents if agent not in drains]
    assert "waiting" in first.line_of(waits.name) and "team lab would keep 0 of wmagent_min_active=1" in first.output
    (agent,) = drains
    assert "stopped" in first.line_of(agent.name)

    works[agent.name].step(0.55)
    again = fleet.play("drain.yml", "-l", agent.name, wmagent_drain_stop_file=str(stop))
    assert "draining  waits for registration" in again.output and "stopped" in again.line_of(agent.name)
    assert "speed drain: no_job_retries, enable_all_sites" in again.output
    assert flags(agent)["SpeedDrainConfig"]["NoJobRetries"]["Enabled"]

    works[agent.name].step(1)
    done = fleet.play("drain.yml", "-l", agent.name)
    assert done.code == 0, done.output
    assert "100 %  drained" in done.output and "1 of 1 agents drained" in done.output
    entry = ledger.read(agent.layout.ledger)[-1]
    assert (entry["action"], entry["state"]) == ("drain", "drained")
    assert {one["stage"]: one["most"] for one in entry["stages"]}["registration"] == 120

    back = fleet.play("undrain.yml", "-l", agent.name)
    assert back.code == 0 and "takes work" in back.output and actions(agent)[-1][0] == "undrain"
    after = flags(agent)
    assert not (
        after["UserDrainMode"] or after["SpeedDrainMode"] or after["SpeedDrainConfig"]["NoJobRetries"]["Enabled"]
    )


def test_what_needs_a_person_ends_the_watch_and_a_waiver_lets_it_end_well(running, works, fleet):
    """The drained agent again: a workflow that nothing will complete keeps it, until a person decides."""
    agent = next(agent for agent in running.agents if actions(agent)[-1][0] == "undrain")
    with connect(agent.settings(), read_only=False) as connection:
        connection.execute("INSERT INTO dbsbuffer_workflow (name, task, completed) VALUES ('lost', '/lost/T', 0)")
    stuck = fleet.play("drain.yml", "-l", agent.name)
    assert stuck.code != 0 and "stuck" in stuck.line_of(agent.name) and "workflows_open_gone: 1" in stuck.output
    waiver = {"blocker": "workflows_open_gone", "reason": "test", "person": "operator", "expires": "2999-01-01"}
    waived = fleet.play("drain.yml", "-l", agent.name, wmagent_drain_waivers=[waiver])
    assert waived.code == 0, waived.output
    assert "waived: workflows_open_gone (1) by operator, test" in waived.output
    entry = ledger.read(agent.layout.ledger)[-1]
    assert entry["waived"][0]["waiver"]["person"] == "operator"


def test_a_cleanup_of_agents_at_work_does_what_is_due_once(running, fleet):
    first, second = running.agents
    old = first.layout.work_dir / "RetryManager" / "ComponentLog.1"
    old.write_text("rotated")
    os.utime(old, (time.time() - 20 * 86_400,) * 2)
    done = fleet.play("cleanup.yml")
    assert done.code == 0, done.output
    assert not old.exists()
    assert f"{first.name}: files: 1 rotated logs" in done.output and f"{second.name}: nothing to clean" in done.output
    entry = ledger.read(first.layout.ledger)[-1]
    assert (entry["action"], entry["files"]["logs"]) == ("cleanup", 1)
    assert actions(second)[-1][0] != "cleanup"
    again = fleet.play("cleanup.yml")
    assert "changed=0" in again.output and not first.layout.lock.exists(), again.output
    with connect(first.settings(), read_only=False) as connection:
        for statement in (
            "DELETE FROM wmbs_workflow",
            "DELETE FROM wmbs_fileset",
            "UPDATE dbsbuffer_workflow SET completed = 1",
            "UPDATE dbsbuffer_block SET status = 'Closed', rule_id = 'a-rule'",
            "UPDATE dbsbuffer_file SET status = 'InDBS', in_phedex = 1",
        ):
            connection.execute(statement)
    done = fleet.play("cleanup.yml", "-l", first.name, wmagent_cleanup_retention="0")
    assert done.code == 0, done.output
    entry = ledger.read(first.layout.ledger)[-1]
    assert entry["action"] == "cleanup" and entry["dbsbuffer"]["deleted"]["dbsbuffer_file"] > 0, done.output
    with sqlite3.connect(fleet.folder / "state" / "history.sqlite") as history:
        told = [json.loads(row[0]) for row in history.execute("SELECT details FROM events WHERE kind = 'ledger'")]
    assert entry["dbsbuffer"]["deleted"] in [one.get("dbsbuffer", {}).get("deleted") for one in told]
    failed = fleet.play("cleanup.yml", "-l", first.name, wmagent_cleanup_retention="soon")
    assert failed.code != 0 and "retention is 'soon'" in failed.output and not first.layout.lock.exists()
