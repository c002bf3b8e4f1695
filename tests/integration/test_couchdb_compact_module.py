# SPDX-License-Identifier: GPL-3.0-or-later
"""Module couchdb_compact: options, results and Ansible's modes, on the stand-in."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.modules import couchdb_compact
from support.couch_fragmented import faulty, fragment
from support.couch_servers import couch_database, couch_server, secrets_of, stand_in
from support.playbook import run_tasks


class Ended(Exception):  # noqa: N818 - it is no error
    """The module is through. told: what it returns; failed: whether it failed."""

    def __init__(self, failed: bool, told: dict[str, Any]) -> None:
        super().__init__(told.get("msg", ""))
        self.failed, self.told = failed, told


class Module:
    """What Ansible hands to a module."""

    _diff = False

    def __init__(self, check_mode: bool, **params: Any) -> None:
        self.params = {
            "databases": [],
            "timeout": 20,
            "max_runtime": None,
            "stop_file": None,
            "minimum_fragmentation": 0.3,
            "minimum_gain": 1000,
            "large_gain": 10**12,
            "leave_alone": "7d",
            "minimum_free": 0,
            "data_directory": None,
            "free_bytes": 10**12,
            "cleanup_views": True,
        } | params
        self.check_mode = check_mode
        self.warnings: list[str] = []
        self.warn = self.warnings.append

    def exit_json(self, **told: Any) -> None:
        raise Ended(False, told)

    def fail_json(self, **told: Any) -> None:
        raise Ended(True, told)

    def run(self) -> Ended:
        with pytest.raises(Ended) as ended:
            couchdb_compact.run(self)  # type: ignore[arg-type]
        return ended.value


def test_the_module_tells_what_goes_on_where_the_server_is_lost(tmp_path):
    with faulty() as (couch, client, name):
        secrets = secrets_of(client.settings, tmp_path)
        couch.faults.compaction_seconds = 30
        couch.faults.on("GET /_active_tasks", times=3)
        couch.faults.on("GET /_active_tasks", times=-1, lose="before")
        ended = Module(False, secrets=secrets).run()
    assert ended.failed and ended.told["changed"] and ended.told["cleaned_up"] == [name]
    assert len(ended.told["resume"]["running"]) == 1 and len(ended.told["resume"]["left"]) == 2
    assert f"CouchDB may go on with {ended.told['resume']['running'][0]}; run the same task again" in ended.told["msg"]
    assert "\n" not in ended.told["msg"] and "couch-word" not in str(ended.told)


def test_the_module_tells_what_is_left_at_its_deadline(tmp_path):
    with faulty() as (_, client, _):
        secrets = secrets_of(client.settings, tmp_path)
        planned = Module(True, secrets=secrets).run().told
        ended = Module(False, secrets=secrets, max_runtime="0").run()
    assert not ended.failed and ended.told["stopped_by"] == "max_runtime"
    assert ended.told["changed"] == planned["changed"] and ended.told["planned"] == planned["planned"]
    assert len(ended.told["resume"]["left"]) == 2 and planned["resume"] == {}
    assert ended.told["summary"].endswith("stopped by max_runtime")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"minimum_fragmentation": 2}, "minimum_fragmentation is 2"),
        ({"minimum_gain": -1}, "minimum_gain is -1"),
        ({"leave_alone": "soon"}, "leave_alone is 'soon'"),
        ({"max_runtime": "-1h"}, "max_runtime is '-1h'"),
        ({"free_bytes": -1}, "free_bytes is -1"),
        ({"databases": ["nowhere/jobs"]}, "has no database nowhere/jobs"),
        ({"timeout": 0}, "timeout is 0 s"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_done(option, said, tmp_path):
    with stand_in() as (settings, couch):
        module = Module(False, secrets=secrets_of(settings, tmp_path), **option)
        with pytest.raises(WMAgentError, match=said):
            couchdb_compact.run(module)  # type: ignore[arg-type]
    assert not [asked for asked in couch.faults.seen if asked.startswith(("POST", "PUT"))]


def test_the_module_through_ansible(tmp_path):
    with couch_server("stand-in") as server, couch_database(server) as database:
        fragment(CouchClient(server), database)
        options = {"secrets": secrets_of(server, tmp_path), "minimum_gain": 1000, "minimum_fragmentation": 0.3}
        options |= {"data_directory": str(tmp_path), "minimum_free": 0}
        compact = {"dmwm.wmagent.couchdb_compact": options}
        bad = {"dmwm.wmagent.couchdb_compact": options | {"databases": ["nowhere/jobs"]}, "ignore_errors": True}
        held = {"dmwm.wmagent.couchdb_compact": {**options, "data_directory": None}}
        tasks = [
            {"name": "no room known", **held},
            {"name": "check", "check_mode": True, "diff": True, **compact},
            {"name": "compact", "diff": True, **compact},
            {"name": "again", **compact},
            {"name": "bad", **bad},
        ]
        outcome = run_tasks(tmp_path / "play", tasks, {"agent": {"ansible_python_interpreter": sys.executable}})
    assert outcome.code == 0, outcome.output
    told = outcome.results["agent"]
    held, check, real, again, bad = (told[name] for name in ("no room known", "check", "compact", "again", "bad"))
    assert not held["changed"] and held["free_bytes"] is None
    assert {one["reason"].split(";")[-1] for one in held["planned"]} == {
        " name it with data_directory, or tell free_bytes"
    }
    assert check["changed"] and real["changed"] and check["compacted"] == []
    assert check["planned"] == real["planned"] and check["diff"] == real["diff"]
    assert check["worst_case_bytes"] >= max(one["file"] for one in real["planned"])
    assert [one["state"] for one in real["compacted"]] == ["done", "done"]
    assert real["gained_bytes"] == sum(one["before"] - one["after"] for one in real["compacted"]) > 0
    assert "2 due: 2 done" in real["summary"] and real["resume"] == {} and real["free_bytes"] > 0
    assert not again["changed"] and again["compacted"] == []
    assert "has no database nowhere/jobs" in bad["msg"]
    assert "couch-word" not in outcome.output
