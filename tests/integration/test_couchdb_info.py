# SPDX-License-Identifier: GPL-3.0-or-later
"""Module couchdb_info: against the stand-in and, where COUCHDB_URL names one, a real CouchDB."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.modules import couchdb_info
from support.couch import serving as canned
from support.couch_servers import couch_database, couch_server, delete, secrets_of, stand_in, write
from support.playbook import run_tasks

VIEW = {"language": "javascript", "views": {"all": {"map": "function (doc) { emit(doc.workflow, 1); }"}}}


def ask(server: CouchSettings, tmp_path, **more: Any) -> dict[str, Any]:
    return couchdb_info.run(
        {"secrets": secrets_of(server, tmp_path), "databases": [], "timeout": 20, "before": None} | more
    )


def test_documents_tombstones_and_views_are_told(couch, couch_client, couch_db, tmp_path):
    couch_client.put(path_of(couch_db, "_design/Jobs"), VIEW)
    couch_client.put(path_of(couch_db, "_design/only-a-filter"), {"filters": {"none": "function () {}"}})
    write(couch_client, couch_db, range(50))
    delete(couch_client, couch_db, range(40))
    couch_client.get(path_of(couch_db, "_design/Jobs/_view/all"))
    one = ask(couch, tmp_path)["databases"][couch_db]
    assert (one["documents"], one["tombstones"]) == (12, 40)
    assert one["tombstone_share"] == pytest.approx(40 / 52, abs=0.001)
    assert one["file"] >= one["active"] > 0 and 0 <= one["fragmentation"] < 1
    assert one["revs_limit"] == 1000 and one["purged_infos_limit"] == 1000
    assert one["remedies"].keys() == {"compact", "purge", "rotate"}
    assert one["remedies"]["purge"]["gives_back"] > one["remedies"]["compact"]["gives_back"] > 0
    assert one["cheapest_remedy"] in one["remedies"]
    assert list(one["views"]) == ["Jobs"]
    assert one["views"]["Jobs"]["purges_behind"] == 0 and one["views"]["Jobs"]["file"] > 0


def test_an_index_that_lags_behind_purges_shows(couch_client, couch_db):
    couch_client.put(path_of(couch_db, "_design/Jobs"), VIEW)
    write(couch_client, couch_db, range(5))
    couch_client.get(path_of(couch_db, "_design/Jobs/_view/all"))
    delete(couch_client, couch_db, range(2))
    changes = couch_client.get(path_of(couch_db, "_changes?style=all_docs"))["results"]
    gone = {row["id"]: [leaf["rev"] for leaf in row["changes"]] for row in changes if row.get("deleted")}
    couch_client.post(path_of(couch_db, "_purge"), gone)
    found = couchdb_info.database_as_dict(read_database(couch_client, couch_db))
    # CouchDB keeps indexes warm by itself, so that it may have followed already.
    assert found["tombstones"] == 0 and 0 <= found["views"]["Jobs"]["purges_behind"] <= 2


def test_updates_between_two_readings_make_a_rate(couch, couch_client, couch_db, tmp_path):
    first = ask(couch, tmp_path, databases=[couch_db])
    write(couch_client, couch_db, range(30))
    second = ask(couch, tmp_path, databases=[couch_db], before=first | {"time": first["time"] - 10})
    seconds = second["time"] - first["time"] + 10
    assert second["databases"][couch_db]["updates_per_second"] == pytest.approx(30 / seconds, rel=0.01)
    other = ask(couch, tmp_path, databases=[couch_db], before={"time": 0, "databases": {}})
    assert "updates_per_second" not in other["databases"][couch_db]
    with pytest.raises(WMAgentError, match="no earlier result of couchdb_info"):
        ask(couch, tmp_path, before={})


def test_what_cannot_be_read_is_one_line(couch, tmp_path):
    with pytest.raises(WMAgentError, match="has no database nowhere/jobs"):
        ask(couch, tmp_path, databases=["nowhere/jobs"])
    # Not on a real server: from 3.4 on it locks an account for a while after a few of these.
    with stand_in() as (server, _), pytest.raises(WMAgentError, match="check COUCH_USER and COUCH_PASS"):
        ask(CouchSettings(server.host, server.port, server.user, "wrong"), tmp_path)
    with canned(lambda *asked: (200, b"<html>proxy</html>")) as proxy, pytest.raises(WMAgentError, match="is no JSON"):
        ask(proxy, tmp_path)
    with canned(lambda *asked: (200, {"odd": 1})) as odd, pytest.raises(WMAgentError, match="no list of names"):
        ask(odd, tmp_path)


def test_the_module_through_ansible(tmp_path):
    with couch_server("stand-in") as server, couch_database(server) as database:
        tasks = [{"name": "look", "dmwm.wmagent.couchdb_info": {"secrets": secrets_of(server, tmp_path)}}]
        outcome = run_tasks(tmp_path / "play", tasks, {"agent": {"ansible_python_interpreter": sys.executable}})
    assert outcome.code == 0, outcome.output
    told = outcome.results["agent"]["look"]
    assert not told["changed"] and database in told["databases"] and told["tasks"] == []
    assert "couch-word" not in outcome.output
