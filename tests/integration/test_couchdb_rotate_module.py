# SPDX-License-Identifier: GPL-3.0-or-later
"""Module couchdb_rotate as a task, and what it says to options that make no sense."""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.modules import couchdb_rotate
from support.couch_rotating import contents, rotating
from support.couch_servers import couch_server, secrets_of
from support.playbook import run_tasks


def test_the_module_through_ansible(tmp_path):
    with couch_server("stand-in") as server, rotating(server) as database:
        client = CouchClient(server)
        before = contents(client, database)
        secrets = secrets_of(server, tmp_path)
        asked = {"secrets": secrets, "components_stopped": True, "minimum_tombstones": 50, "databases": [database]}
        asked |= {"minimum_tombstone_share": 0.5, "free_bytes": 10**9}
        task = {"dmwm.wmagent.couchdb_rotate": asked}
        tasks = [
            {"name": "look", "check_mode": True, "diff": True} | task,
            {"name": "rotate", "diff": True} | task,
            {"name": "again"} | task,
        ]
        outcome = run_tasks(tmp_path / "play", tasks, {"agent": {"ansible_python_interpreter": sys.executable}})
        assert outcome.code == 0, outcome.output
        look, done, again = (outcome.results["agent"][name] for name in ("look", "rotate", "again"))
        assert look["changed"] and done["changed"] and not again["changed"]
        assert look["planned"] == done["planned"] and look["diff"] == done["diff"] and not look["rotated"]
        assert look["summary"].startswith(f"would rotate ({database}: 81 tombstones beside ")
        told = done["rotated"][database]
        assert told["finished"] and told["documents"] == len(before) and told["bytes_after"] < told["bytes_before"]
        assert again["copies"][0]["name"] == told["copy"] and again["copies"][0]["kept_until"] > 0
        assert contents(client, database) == before and "couch-word" not in outcome.output


def test_the_module_tells_what_is_wrong_in_one_line(tmp_path):
    with couch_server("stand-in") as server:
        secrets = secrets_of(server, tmp_path)
        params = {
            "secrets": secrets,
            "databases": [],
            "timeout": 5,
            "max_runtime": None,
            "stop_file": None,
            "components_stopped": False,
            "minimum_tombstone_share": 0.9,
            "minimum_tombstones": 1,
            "keep_copy_for": "7d",
            "abandoned_after": "30d",
            "index_timeout": "1h",
            "in_flight": 1,
            "data_directory": None,
            "free_bytes": None,
        }
        for wrong, said in (
            ({"minimum_tombstone_share": 1.5}, "minimum_tombstone_share is 1.5"),
            ({"minimum_tombstones": -1}, "minimum_tombstones is -1"),
            ({"in_flight": 0}, "in_flight is 0"),
            ({"keep_copy_for": "soon"}, "keep_copy_for is 'soon'"),
            ({"timeout": 0}, "timeout is 0 s"),
        ):
            with pytest.raises(WMAgentError, match=said):
                couchdb_rotate.run_from_options(params | wrong)
        with Path(secrets).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(WMAgentError, match="another couchdb_rotate works"), couchdb_rotate.alone(secrets):
                pass
        with couchdb_rotate.alone(secrets):
            pass
