# SPDX-License-Identifier: GPL-3.0-or-later
"""drain.yml and undrain.yml on agents whose work ends: turns in a team, stop and go on, verdict, ledger."""

from __future__ import annotations

import json
import time
import urllib.request

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect
from support.agent import LabAgent, lab
from support.fleet import Fleet, actions

pytestmark = pytest.mark.slow

SECONDS = 12
PATIENCE = {
    "wmagent_drain_shortest_pause": "1s",
    "wmagent_drain_longest_pause": "2s",
    "wmagent_drain_max_runtime": "2m",
}
NEW = "2.4.5.9-p1"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with lab(tmp_path_factory, agents=2, components=["RetryManager"], work_seconds=SECONDS) as up:
        yield up


@pytest.fixture(scope="module")
def fleet(running):
    both = Fleet.of(running.folder / "controller", running.agents, wmagent_team="lab", **PATIENCE)
    for agent in running.agents:
        both.agents[agent.name]["wmagent_fqdn"] = agent.overrides["Agent.hostName"]
    assert both.upgrade(NEW).code == 0
    return both


def flags(agent: LabAgent) -> dict:
    url = f"{agent.read_secrets()['REQMGR2_URL']}/data/wmagentconfig/{agent.overrides['Agent.hostName']}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["result"][0]


def test_a_minimum_above_the_team_is_refused_and_check_mode_changes_nothing(running, fleet):
    refused = fleet.play("drain.yml", wmagent_min_active=2)
    assert refused.code != 0 and "wmagent_min_active is 2, and team lab has 2 agents" in refused.output
    looked = fleet.play("drain.yml", "--check")
    assert looked.code == 0 and "would change" in looked.output and "files_not_in_rucio: 120" in looked.output
    assert not any(flags(agent)["UserDrainMode"] for agent in running.agents)
    assert not list((fleet.folder / "state").glob("drain-*.json"))


def test_one_drains_while_the_other_has_to_keep_working(running, fleet):
    stop = fleet.folder / "stop"
    stop.touch()
    first = fleet.play("drain.yml", wmagent_drain_stop_file=str(stop))
    # Both ask at the same moment; whichever comes second waits.
    drains = [agent for agent in running.agents if flags(agent)["UserDrainMode"]]
    assert len(drains) == 1 and first.code != 0
    (waits,) = [agent for agent in running.agents if agent not in drains]
    assert "waiting" in first.line_of(waits.name) and "team lab would keep 0 of wmagent_min_active=1" in first.output
    assert "stopped" in first.line_of(drains[0].name)
    began = time.monotonic()
    again = fleet.play("drain.yml", "-l", drains[0].name)
    assert again.code == 0, again.output
    assert "drained" in again.line_of(drains[0].name) and "1 of 1 agents drained" in again.output
    assert "100 %  drained" in again.output and time.monotonic() - began < 90
    shown = [line for line in again.output.splitlines() if "waits for" in line]
    assert any("waits for registration" in line for line in shown), again.output
    assert "speed drain: no_job_retries, enable_all_sites" in again.output
    assert flags(drains[0])["SpeedDrainConfig"]["NoJobRetries"]["Enabled"]
    entry = ledger.read(drains[0].layout.ledger)[-1]
    assert (entry["action"], entry["state"]) == ("drain", "drained")
    assert {one["stage"]: one["most"] for one in entry["stages"]}["registration"] == 120
    third = fleet.play("drain.yml", "-l", drains[0].name)
    assert third.code == 0 and "drained" in third.line_of(drains[0].name)
    assert actions(drains[0])[-1][0] == "drain"

    back = fleet.play("undrain.yml", "-l", drains[0].name)
    assert back.code == 0 and "takes work" in back.output and actions(drains[0])[-1][0] == "undrain"
    after = flags(drains[0])
    assert not (
        after["UserDrainMode"] or after["SpeedDrainMode"] or after["SpeedDrainConfig"]["NoJobRetries"]["Enabled"]
    )
    assert "changed=0" in fleet.play("undrain.yml", "-l", drains[0].name).output


def test_what_needs_a_person_ends_the_watch_and_a_waiver_lets_it_end_well(running, fleet):
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
