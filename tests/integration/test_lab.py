# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: real components of a real release come up, are live, and leave nothing behind."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect
from support.agent import TEN, lab
from wmagent_lab import processes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with lab(tmp_path_factory, agents=2, components=TEN, hand_patch=[1]) as up:
        yield up


def heartbeats(agent):
    with connect(agent.settings()) as connection:
        rows = connection.query(
            "SELECT c.name, w.last_updated FROM wm_workers w JOIN wm_components c ON c.id = w.component_id", ()
        )
    return dict(rows)


def test_the_ten_components_run_from_their_own_agent_and_register(running):
    for agent in running.agents:
        deadline = time.monotonic() + 30
        while set(heartbeats(agent)) != set(TEN) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert set(heartbeats(agent)) == set(TEN)
        assert set(agent.running()) == set(TEN)
        for component, pid in agent.running().items():
            assert processes.command_line(pid)[0] == str(agent.prefix / "bin" / "python"), component


def test_the_deployment_looks_as_people_leave_one(running):
    agent = running.agents[0]
    assert (agent.root / "current").is_symlink()
    assert (agent.root / "current").resolve() == agent.by_hand
    for private in (agent.secrets, agent.config):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert agent.read_secrets()["MDB_PASS"] not in " ".join(
        " ".join(processes.command_line(pid)) for pid in agent.running().values()
    )


def test_agents_have_secrets_and_rows_of_their_own(running):
    first, second = running.agents
    assert first.read_secrets()["MDB_PASS"] != second.read_secrets()["MDB_PASS"]
    for agent in running.agents:
        with connect(agent.settings()) as connection:
            names = {row[0] for row in connection.query("SELECT name FROM wmbs_workflow", ())}
            assert len(names) == 3
            assert all(name.startswith(agent.name) for name in names)
            assert connection.query("SELECT COUNT(*) FROM wmbs_job", ())[0][0] == 15
            assert connection.query("SELECT COUNT(*) FROM dbsbuffer_file", ())[0][0] == 30


def test_a_hand_patch_stays_with_its_agent(running):
    file = Path("lib/python3.11/site-packages/WMComponent/JobSubmitter/JobSubmitterPoller.py")
    clean, patched = ((agent.prefix / file).read_text() for agent in running.agents)
    assert patched.startswith(clean)
    assert patched != clean


def test_stop_ends_one_agent_and_start_brings_it_back(running):
    stopped, other = running.agents
    before = other.running()
    running.stop(stopped)
    assert stopped.running() == {}
    assert other.running() == before
    running.start(stopped)
    assert set(stopped.running()) == set(TEN)


def test_nothing_is_left_when_it_is_over(tmp_path_factory):
    with lab(tmp_path_factory, components=["ErrorHandler"], start="upstream") as up:
        folder = up.folder
        up.stop(up.agents[0])
        up.start(up.agents[0])
        assert set(up.agents[0].running()) == {"ErrorHandler"}
        services = [processes.recorded(entry) for entry in (folder / "services").iterdir()]
        # MariaDB, the central stand-in and, where none is given, a CouchDB.
        assert len(services) == (2 if os.environ.get("COUCHDB_URL") else 3)
        assert all(services)
    assert not folder.exists()
    assert [item for item in services if processes.start_ticks(item.pid) == item.start_ticks] == []
