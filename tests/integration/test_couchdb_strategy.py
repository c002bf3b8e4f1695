# SPDX-License-Identifier: GPL-3.0-or-later
"""Module couchdb_strategy: what it measures, and that nothing of it is left; on the stand-in and a real CouchDB."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import trial
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.server import CouchSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.modules import couchdb_strategy
from support.couch_rotating import contents, rotate, rotating
from support.couch_servers import couch_server, secrets_of
from support.playbook import run_tasks

SAMPLE = trial.Sample(documents=30, tombstones=60)


@pytest.fixture
def database(couch) -> Iterator[str]:
    with rotating(couch, live=20) as name:
        yield name


def ask(server: CouchSettings, tmp_path, database: str, check: bool = False, **more: Any) -> dict[str, Any]:
    params = {
        "secrets": secrets_of(server, tmp_path),
        "databases": [database],
        "timeout": 20,
        "components_stopped": True,
        "minimum_tombstones": 50,
        "abandoned_after": "30d",
        "sample_documents": 30,
    }
    return couchdb_strategy.run(params | more, check)


def scratches(client: CouchClient) -> list[str]:
    return [name for name in client.get("/_all_dbs") if trial.is_scratch(name)]


def test_rates_are_measured_and_nothing_is_left(couch_client: CouchClient, database: str):
    before, seen = contents(couch_client, database), couch_client.get(path_of(database))["update_seq"]
    rates = trial.measure(couch_client, database, SAMPLE)
    assert rates.measured and 100 < rates.each_bytes < 2000
    assert all(1 < one < 1e9 for one in (rates.purges, rates.copies, rates.indexed, rates.compacted)), rates
    assert not scratches(couch_client)
    assert contents(couch_client, database) == before
    assert couch_client.get(path_of(database))["update_seq"] == seen


def test_a_database_without_views_builds_none(couch_client: CouchClient, database: str):
    rev = couch_client.get(path_of(database, "_design/Jobs"))["_rev"]
    couch_client.delete(path_of(database, f"_design/Jobs?rev={rev}"))
    assert trial.measure(couch_client, database, SAMPLE).indexed == float("inf")


def test_a_trial_that_fails_leaves_nothing(couch_client: CouchClient, database: str, monkeypatch):
    def refuse(*words):
        raise WMAgentError("no compaction")

    monkeypatch.setattr(trial, "_compact", refuse)
    with pytest.raises(WMAgentError, match="no compaction"):
        trial.measure(couch_client, database, SAMPLE)
    assert not scratches(couch_client)


def test_what_a_killed_run_left_is_dropped_by_the_next(tmp_path):
    with couch_server("stand-in") as server, rotating(server) as database:
        client = CouchClient(server)
        left, other = "dmwm-wmagent-trial-0123456789ab", "dmwm-wmagent-trial-of-mine"
        for name in (left, other):
            client.put(path_of(name))
        assert ask(server, tmp_path, database, check=True)["dropped"] == [] and scratches(client) == [left]
        told = ask(server, tmp_path, "", databases=[])
        assert told["dropped"] == [left] and not scratches(client)
        assert client.find(path_of(other)) and set(told["databases"]) == {database, other}


def test_each_database_is_told_with_its_reason(couch, couch_client: CouchClient, database: str, tmp_path):
    told = ask(couch, tmp_path, database)["databases"][database]
    assert told["choice"] == "purge" and told["measured"] and told["seconds"]["rotate"] > told["seconds"]["purge"] > 0
    checked = ask(couch, tmp_path, database, check=True)
    assert not checked["databases"][database]["measured"] and checked["purge"] == [database]
    assert "another server" in checked["databases"][database]["reason"]
    running = ask(couch, tmp_path, database, components_stopped=False)["databases"][database]
    assert running["choice"] == "purge" and "components_stopped is not given" in running["reason"]
    few = ask(couch, tmp_path, database, minimum_tombstones=82)
    assert few["databases"][database]["choice"] == "none" and not few["purge"] and not few["rotate"]
    rotate(couch_client, database)
    assert read_database(couch_client, database).tombstones == 0
    assert ask(couch, tmp_path, database)["databases"][database]["choice"] == "none"


def test_where_a_rotation_is_faster_it_is_told(couch, database: str, tmp_path, monkeypatch):
    slow = trial.Rates(purges=0.1, copies=100, indexed=100, compacted=1e6, each_bytes=500)
    monkeypatch.setattr(trial, "measure", lambda *words: slow)
    told = ask(couch, tmp_path, database)
    assert told["rotate"] == [database] and told["purge"] == []


def test_the_module_through_ansible(tmp_path):
    with couch_server("stand-in") as server, rotating(server) as database:
        asked = {"secrets": secrets_of(server, tmp_path), "components_stopped": True, "minimum_tombstones": 50}
        task = {"dmwm.wmagent.couchdb_strategy": asked | {"databases": [database], "sample_documents": 20}}
        outcome = run_tasks(
            tmp_path / "play",
            [{"name": "ask"} | task, {"name": "check", "check_mode": True} | task],
            {"agent": {"ansible_python_interpreter": sys.executable}},
        )
    assert outcome.code == 0, outcome.output
    told = outcome.results["agent"]["ask"]
    assert not told["changed"] and told["purge"] == [database] and told["databases"][database]["measured"]
    assert not outcome.results["agent"]["check"]["databases"][database]["measured"]
    assert "couch-word" not in outcome.output
    with pytest.raises(WMAgentError, match="sample_documents is 0"):
        ask(server, tmp_path, database, sample_documents=0)
