# SPDX-License-Identifier: GPL-3.0-or-later
"""Saving, wiping and making anew on a real MariaDB and the CouchDB stand-in: refused, cut off anywhere, gone on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import list_databases
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema_reader import read_structure
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import agent as agents
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import journal, tables
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.journal import Redeployment
from ansible_collections.dmwm.wmagent.plugins.modules import (
    couchdb_save,
    couchdb_wipe,
    database_save,
    database_wipe,
    schema_create,
)
from support.couch_servers import stand_in
from support.dbsbuffer.fixtures import mariadb_agent
from support.dbsbuffer.rows import Block, File, Workflow
from support.dbsbuffer.schema import create_mariadb
from support.drain.central import add_elements, make_queue
from support.drain.database import dbsbuffer, empty
from support.secrets import write_secrets
from wmagent_lab.couch_standin import Couch

OWN = ("workqueue", "workqueue_inbox")
WAIVER = {"blocker": "files_not_uploaded", "reason": "r", "person": "p", "expires": "2999-01-01", "at_most": None}


@dataclass
class Agent:
    """An agent that is drained and stopped, with a redeployment that has come so far."""

    root: Path
    secrets: Path
    connection: Connection
    couch: Couch
    client: CouchClient

    @property
    def layout(self) -> AgentLayout:
        return AgentLayout(self.root)

    def options(self, **more: Any) -> dict[str, Any]:
        return {
            "wmagent_root": str(self.root),
            "secrets": str(self.secrets),
            "database_name": self.connection.settings.name,
            "environment": {},
            "timeout": 60.0,
            "confirm": "agent1",
            "waivers": [],
            "hostname": "agent1.example.org",
            **more,
        }

    def run(self, module: Any, check: bool = False, **more: Any) -> dict[str, Any]:
        return module.run(self.options(**more), check)

    def journal(self) -> Redeployment:
        found = journal.read(self.layout)
        assert found is not None
        return found

    def rows(self) -> dict[str, int]:
        return tables.count_rows(self.connection)

    def save(self) -> None:
        self.run(database_save)
        self.run(couchdb_save)


@pytest.fixture
def agent(mariadb_server, tmp_path, monkeypatch, no_certificates) -> Iterator[Agent]:
    root = tmp_path / "root"
    for name in ("old-1", "new-1"):
        release = root / "releases" / name
        release.mkdir(parents=True)
        (release / "release.json").write_text(
            json.dumps(
                {
                    "image": name[:-2],
                    "digest": f"sha256:{name}",
                    "python": str(release / "bin" / "python"),
                    "prefix": str(release),
                    "config": str(release / "config.py"),
                    "tag": "2.4.2",
                }
            )
        )
    (root / "current").symlink_to("releases/old-1")
    (root / "shared" / "install").mkdir(parents=True)
    # Putting each dump back is another test's business.
    monkeypatch.setattr(database_save.dump, "verify", lambda *args: database_save.dump.COUNTED)
    monkeypatch.setattr(agents, "couchapps", lambda *args, **options: {name: ["WorkQueue"] for name in OWN})
    with mariadb_agent(mariadb_server) as database, stand_in() as (server, couch):
        secrets = write_secrets(tmp_path / "WMAgent.secrets", database, server.port)
        with connect(database, 30, read_only=False) as connection:
            empty(connection)
            known = set(tables.count_rows(connection))
            monkeypatch.setattr(agents.Agent, "known_tables", lambda self, *names: known)
            for name in (*OWN, "somebody_elses"):
                make_queue(couch, name)
            one = Agent(root, secrets, connection, couch, CouchClient(server))
            begun = Redeployment("id", "a@b", "agent1", "old-1", "new-1", str(root / "saved"), "stopped", 1.0)
            journal.write(one.layout, begun)
            yield one


def put_a_file(agent: Agent) -> None:
    dbsbuffer(
        agent.connection,
        [Workflow(1, "w", "/w/t", 0)],
        [Block(1, 1, "/P/E/RAW#1", 1, 5, "Open")],
        [File(1, "/store/1", 1, 1, "NOTUPLOADED", 0, 1)],
    )


def test_what_is_saved_is_wiped_and_nothing_else(agent):
    before = agent.rows()
    agent.save()
    assert agent.journal().step == "saved" and agent.journal().tables == before
    assert agent.run(couchdb_wipe, check=True)["databases"] == list(OWN)
    would = agent.run(database_wipe, check=True)
    assert would["tables"] == before and agent.rows() == before and agent.journal().step == "saved"
    with pytest.raises(WMAgentError, match="this belongs to wiping"):
        agent.run(couchdb_wipe)
    assert agent.run(database_wipe)["changed"] and agent.rows() == {}
    assert agent.run(couchdb_wipe)["databases"] == list(OWN)
    assert list_databases(agent.client) == ["somebody_elses"] and agent.journal().step == "wiped"


def test_out_of_turn_nothing_is_done(agent):
    for module in (database_wipe, couchdb_wipe, couchdb_save, schema_create):
        with pytest.raises(WMAgentError):
            agent.run(module)
    journal.clear(agent.layout)
    for module in (database_save, database_wipe, couchdb_wipe, schema_create):
        with pytest.raises(WMAgentError, match="no redeployment is under way"):
            agent.run(module)
    assert len(agent.rows()) == 49


def test_without_the_agents_name_nothing_is_wiped(agent):
    agent.save()
    for module in (database_wipe, couchdb_wipe):
        for confirm in ("", "agent2"):
            with pytest.raises(WMAgentError, match="-e wmagent_confirm_wipe=agent1"):
                agent.run(module, check=module is couchdb_wipe, confirm=confirm)
    assert len(agent.rows()) == 49 and agent.journal().step == "saved"


def test_an_agent_that_is_not_drained_is_not_wiped_whatever_was_said_before(agent):
    put_a_file(agent)
    agent.save()
    with pytest.raises(WMAgentError, match="not drained: workflows_open_gone"):
        agent.run(database_wipe)
    names = ("workflows_open_gone", "files_not_uploaded", "files_not_in_rucio", "blocks_not_in_dbs")
    waivers = [{**WAIVER, "blocker": name} for name in names]
    with pytest.raises(WMAgentError, match=r"not drained: blocks_not_in_dbs \(1\);"):
        agent.run(database_wipe, waivers=waivers[:-1])
    assert agent.rows()["dbsbuffer_file"] == 1
    agent.run(database_wipe, waivers=waivers)
    assert agent.rows() == {}


def test_work_in_the_queue_stops_it_before_either_is_touched(agent):
    add_elements(agent.couch, "workqueue", {"Status": "Running", "RequestName": "w"})
    agent.save()
    with pytest.raises(WMAgentError, match="not drained: workqueue_running"):
        agent.run(couchdb_wipe, check=True)


def test_an_empty_database_is_not_a_drained_one(agent):
    agent.connection.execute("DELETE FROM wm_components")
    agent.save()
    with pytest.raises(WMAgentError, match="no component has ever run with this database"):
        agent.run(database_wipe)
    assert len(agent.rows()) == 49


def test_what_changed_since_it_was_saved_is_not_wiped(agent):
    agent.save()
    agent.connection.execute("INSERT INTO wmbs_users (cert_dn, name_hn) VALUES ('a', 'b')")
    with pytest.raises(WMAgentError, match="wmbs_users has 1 rows and had 0"):
        agent.run(database_wipe)
    agent.connection.execute("DELETE FROM wmbs_users")
    agent.client.put("/workqueue/late", {"a": 1})
    with pytest.raises(WMAgentError, match="workqueue was written to"):
        agent.run(couchdb_wipe, check=True)
    agent.run(couchdb_save)
    agent.run(couchdb_wipe, check=True)
    Path(agent.journal().details["database"]["file"]).write_bytes(b"")
    with pytest.raises(WMAgentError, match="is not there as it was saved"):
        agent.run(database_wipe)
    assert len(agent.rows()) == 49


def test_a_table_of_somebody_else_is_not_even_saved(agent):
    agent.connection.execute("CREATE TABLE orders (id INT)")
    with pytest.raises(WMAgentError, match="orders in this database are no tables of WMAgent"):
        agent.run(database_save)


def test_nothing_is_done_while_a_component_runs(agent):
    agent.save()
    folder = agent.root / "shared" / "install" / "JobAccountant"
    folder.mkdir()
    prefix = agent.root / "releases" / "old-1"
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python").symlink_to(sys.executable)
    program = prefix / "bin" / "wmcoreD"
    program.write_text("import time\nprint(flush=True)\ntime.sleep(60)\n")
    command = [str(prefix / "bin" / "python"), str(program), "--start"]
    component = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE)
    try:
        assert component.stdout is not None
        component.stdout.readline()
        for module in (database_save, couchdb_save, database_wipe):
            with pytest.raises(WMAgentError, match=r"components run \(JobAccountant\)"):
                agent.run(module)
    finally:
        component.kill()
        component.communicate()
    assert len(agent.rows()) == 49


class Killed(BaseException):
    """The module's process is gone."""


def test_killed_in_the_middle_of_the_wipe_it_goes_on(agent, monkeypatch):
    agent.save()
    real = Connection.execute
    dropped = []

    def die(self, sql, params=()):
        if sql.startswith("DROP TABLE"):
            dropped.append(sql)
            if len(dropped) == 20:
                raise Killed
        return real(self, sql, params)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Connection, "execute", die)
        agent.run(database_wipe)
    assert agent.journal().step == "wiping" and len(agent.rows()) == 30
    with pytest.raises(WMAgentError, match="this belongs to stopped or saved"):
        agent.run(database_save)
    agent.connection.execute("CREATE TABLE new_one (id INT)")
    with pytest.raises(WMAgentError, match="new_one is new"):
        agent.run(database_wipe)
    agent.connection.execute("DROP TABLE new_one")
    left = agent.run(database_wipe)
    assert len(left["tables"]) == 30 and agent.rows() == {}
    assert not agent.run(database_wipe)["changed"]
    agent.client.delete("/workqueue")
    agent.run(couchdb_save)
    assert agent.run(couchdb_wipe)["databases"] == ["workqueue_inbox"]


def test_killed_while_tables_are_made_they_are_made_anew(agent, monkeypatch):
    structure = read_structure(agent.connection)
    agent.save()
    agent.run(database_wipe)
    agent.run(couchdb_wipe)

    class Image:
        schema = {"mariadb": structure}

    monkeypatch.setattr(schema_create, "read_image_description", lambda release: Image)

    def half(*args):
        agent.connection.execute("CREATE TABLE wmbs_job (id INT)")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(schema_create, "create_schema", half)
        agent.run(schema_create)
    assert agent.journal().step == "creating"
    monkeypatch.setattr(schema_create, "create_schema", lambda *args: create_mariadb(agent.connection.settings))
    agent.connection.execute("INSERT INTO wmbs_job VALUES (1)")
    with pytest.raises(WMAgentError, match="wmbs_job has 1 rows already"):
        agent.run(schema_create)
    agent.connection.execute("DELETE FROM wmbs_job")
    assert agent.run(schema_create)["tables"] == 49
    assert agent.journal().step == "created" and agent.rows()["wma_init"] == 4
    assert agent.connection.query("SELECT init_value FROM wma_init WHERE init_param = 'hostname'") == [
        ("agent1.example.org",)
    ]


def test_a_database_that_is_not_empty_is_never_made_anew(agent):
    journal.write(agent.layout, replace(agent.journal(), step="wiped"))
    with pytest.raises(WMAgentError):
        agent.run(schema_create)
    assert len(agent.rows()) == 49
