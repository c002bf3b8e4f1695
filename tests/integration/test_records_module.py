# SPDX-License-Identifier: GPL-3.0-or-later
"""Module records_info through Ansible: a real MariaDB, and a CouchDB where COUCHDB_URL names one."""

from __future__ import annotations

import itertools
import os
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.server import compare_databases, read_databases
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings
from support.couch import Couch, info, serving
from support.mariadb import run_script
from support.playbook import run_tasks
from support.secrets import write_secrets

_numbers = itertools.count(1)


def readings(folder: Path, secrets: Path, database: DatabaseSettings, before: dict | None = None):
    arguments = {"secrets": str(secrets), "database_name": database.name}
    task = {"name": "read", "dmwm.wmagent.records_info": arguments | ({"before": before} if before else {})}
    hosts = {"agent": {"ansible_python_interpreter": sys.executable}}
    outcome = run_tasks(folder / str(next(_numbers)), [task | {"ignore_errors": True}], hosts)
    assert database.password not in outcome.output and "couch-word" not in outcome.output
    return outcome.results["agent"]["read"]


def test_a_write_in_between_is_told(agent_database, tmp_path):
    run_script(agent_database, "CREATE TABLE wmbs_job (a INT); INSERT INTO wmbs_job VALUES (1)")
    couch = Couch(names=["workqueue"])
    with serving(couch) as server:
        secrets = write_secrets(tmp_path / "WMAgent.secrets", agent_database, server.port)
        first = readings(tmp_path, secrets, agent_database)
        same = readings(tmp_path, secrets, agent_database, first["records"])
        run_script(agent_database, "DELETE FROM wmbs_job")
        couch.infos["workqueue"] = info("workqueue", seq="6-g1AAB")
        changed = readings(tmp_path, secrets, agent_database, first["records"])
    assert "changed_records" not in first and not first["changed"]
    assert first["summary"] == "1 tables, 1 CouchDB databases"
    assert same["changed_records"] == [] and same["digest"] == first["digest"]
    assert [line.partition(":")[0] for line in changed["changed_records"]] == ["wmbs_job", "workqueue"]
    assert changed["digest"] != first["digest"]


def test_what_cannot_be_read_is_one_line(agent_database, tmp_path):
    run_script(agent_database, "CREATE TABLE wmbs_job (a INT)")
    with serving(lambda *asked: (401, {"error": "unauthorized", "reason": "no"})) as server:
        secrets = write_secrets(tmp_path / "WMAgent.secrets", agent_database, server.port)
        refused = readings(tmp_path, secrets, agent_database)
    down = readings(tmp_path, secrets, agent_database)
    wrong = readings(tmp_path, secrets, agent_database, {"database": {}, "couchdb": {}})
    assert "check COUCH_USER and COUCH_PASS" in refused["msg"]
    assert "cannot be reached" in down["msg"]
    assert "msg" in wrong and "\n" not in refused["msg"] + down["msg"] + wrong["msg"]


@pytest.fixture
def couchdb() -> Iterator[tuple[CouchSettings, str]]:
    """A real CouchDB and a database of its own in it."""
    address = (os.environ.get("COUCHDB_URL") or "").split()
    if not address:
        pytest.skip("COUCHDB_URL names no CouchDB")
    url = urllib.parse.urlsplit(address[0])
    settings = CouchSettings(
        url.hostname or "",
        url.port or 5984,
        urllib.parse.unquote(url.username or ""),
        urllib.parse.unquote(url.password or ""),
        url.scheme == "https",
    )
    name = f"records-{os.getpid()}-{next(_numbers)}"
    client = CouchClient(settings)
    client.request("PUT", f"/{name}")
    client.post(f"/{name}/_bulk_docs", {"docs": [{"_id": str(number)} for number in range(20)]})
    yield settings, name
    client.request("DELETE", f"/{name}")


def test_a_real_couchdb_tells_every_change(couchdb):
    settings, name = couchdb
    client = CouchClient(settings)

    def revision(document):
        return client.get(f"/{name}/{document}")["_rev"]

    changes = {
        "insert": lambda: client.post(f"/{name}", {"_id": "new"}),
        "update": lambda: client.request("PUT", f"/{name}/1", {"_rev": revision(1), "v": 1}),
        "delete": lambda: client.request("DELETE", f"/{name}/2?rev={revision(2)}"),
        "purge": lambda: client.post(f"/{name}/_purge", {"3": [revision(3)]}),
        "design": lambda: client.request("PUT", f"/{name}/_design/x", {"views": {}}),
    }
    for kind, change in changes.items():
        before = read_databases(settings)
        client.get(f"/{name}/_all_docs")
        client.request("PUT", f"/{name}/_local/checkpoint-{kind}", {})
        assert name not in " ".join(compare_databases(before, read_databases(settings))), kind
        change()
        assert f"{name}: was written" in compare_databases(before, read_databases(settings)), kind
