# SPDX-License-Identifier: GPL-3.0-or-later
"""Module couchdb_info: against the stand-in and, where COUCHDB_URL names one, a real CouchDB."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.modules import couchdb_info
from support.couch import serving as canned
from support.couch_servers import KINDS, couch_database, couch_server
from support.playbook import run_tasks
from support.secrets import write_secrets

VIEW = {"language": "javascript", "views": {"all": {"map": "function (doc) { emit(doc.workflow, 1); }"}}}
NOBODY = DatabaseSettings("mariadb", "nobody", "db-word", "wmagent", "127.0.0.1", 1)


@pytest.fixture(params=KINDS)
def server(request) -> Iterator[CouchSettings]:
    with couch_server(request.param) as settings:
        yield settings


@pytest.fixture
def database(server) -> Iterator[str]:
    with couch_database(server) as name:
        yield name


def write(client: CouchClient, database: str, numbers: range, **more: Any) -> None:
    client.post(
        path_of(database, "_bulk_docs"),
        {"docs": [{"_id": str(number), "workflow": f"w{number % 3}", "text": "x" * 500} | more for number in numbers]},
    )


def delete(client: CouchClient, database: str, numbers: range) -> None:
    rows = client.post(path_of(database, "_all_docs"), {"keys": [str(number) for number in numbers]})["rows"]
    gone = [{"_id": row["id"], "_rev": row["value"]["rev"], "_deleted": True} for row in rows]
    client.post(path_of(database, "_bulk_docs"), {"docs": gone})


def ask(server: CouchSettings, tmp_path, **more: Any) -> dict[str, Any]:
    secrets = write_secrets(tmp_path / "WMAgent.secrets", NOBODY, server.port)
    text = secrets.read_text().replace("COUCH_USER=u\n", f"COUCH_USER={server.user}\n")
    secrets.write_text(text.replace("COUCH_PASS=couch-word\n", f"COUCH_PASS={server.password}\n"))
    return couchdb_info.run({"secrets": str(secrets), "databases": [], "timeout": 20, "before": None} | more)


def test_documents_tombstones_and_views_are_told(server, database, tmp_path):
    client = CouchClient(server)
    client.request("PUT", path_of(database, "_design/Jobs"), VIEW)
    client.request("PUT", path_of(database, "_design/only-a-filter"), {"filters": {"none": "function () {}"}})
    write(client, database, range(50))
    delete(client, database, range(40))
    client.get(path_of(database, "_design/Jobs/_view/all"))
    one = ask(server, tmp_path)["databases"][database]
    assert (one["documents"], one["tombstones"]) == (12, 40)
    assert one["tombstone_share"] == pytest.approx(40 / 52, abs=0.001)
    assert one["file"] >= one["active"] > 0 and 0 <= one["fragmentation"] < 1
    assert one["revs_limit"] == 1000 and one["purged_infos_limit"] == 1000
    assert list(one["views"]) == ["Jobs"]
    assert one["views"]["Jobs"]["purges_behind"] == 0 and one["views"]["Jobs"]["file"] > 0


def test_an_index_that_lags_behind_purges_shows(server, database):
    client = CouchClient(server)
    client.request("PUT", path_of(database, "_design/Jobs"), VIEW)
    write(client, database, range(5))
    client.get(path_of(database, "_design/Jobs/_view/all"))
    delete(client, database, range(2))
    changes = client.get(path_of(database, "_changes?style=all_docs"))["results"]
    gone = {row["id"]: [leaf["rev"] for leaf in row["changes"]] for row in changes if row.get("deleted")}
    client.post(path_of(database, "_purge"), gone)
    found = couchdb_info.database_as_dict(read_database(client, database))
    # CouchDB keeps indexes warm by itself, so that it may have followed already.
    assert found["tombstones"] == 0 and 0 <= found["views"]["Jobs"]["purges_behind"] <= 2


def test_updates_between_two_readings_make_a_rate(server, database, tmp_path):
    first = ask(server, tmp_path, databases=[database])
    write(CouchClient(server), database, range(30))
    second = ask(server, tmp_path, databases=[database], before=first | {"time": first["time"] - 10})
    seconds = second["time"] - first["time"] + 10
    assert second["databases"][database]["updates_per_second"] == pytest.approx(30 / seconds, rel=0.01)
    other = ask(server, tmp_path, databases=[database], before={"time": 0, "databases": {}})
    assert "updates_per_second" not in other["databases"][database]
    with pytest.raises(WMAgentError, match="no earlier result of couchdb_info"):
        ask(server, tmp_path, before={})


def test_what_cannot_be_read_is_one_line(server, tmp_path):
    with pytest.raises(WMAgentError, match="status 404"):
        ask(server, tmp_path, databases=["nowhere/jobs"])
    wrong = CouchSettings(server.host, server.port, server.user, "wrong")
    with pytest.raises(WMAgentError, match="check COUCH_USER and COUCH_PASS"):
        ask(wrong, tmp_path)
    with canned(lambda *asked: (200, b"<html>proxy</html>")) as proxy, pytest.raises(WMAgentError, match="is no JSON"):
        ask(proxy, tmp_path)
    with canned(lambda *asked: (200, {"odd": 1})) as odd, pytest.raises(WMAgentError, match="no list of names"):
        ask(odd, tmp_path)


def test_the_module_through_ansible(tmp_path):
    with couch_server("stand-in") as server, couch_database(server) as database:
        secrets = write_secrets(tmp_path / "WMAgent.secrets", NOBODY, server.port)
        tasks = [{"name": "look", "dmwm.wmagent.couchdb_info": {"secrets": str(secrets)}}]
        outcome = run_tasks(tmp_path / "play", tasks, {"agent": {"ansible_python_interpreter": sys.executable}})
    assert outcome.code == 0, outcome.output
    told = outcome.results["agent"]["look"]
    assert not told["changed"] and database in told["databases"] and told["tasks"] == []
    assert "couch-word" not in outcome.output
