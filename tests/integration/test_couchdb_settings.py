# SPDX-License-Identifier: GPL-3.0-or-later
"""Module couchdb_settings: against the stand-in and, where COUCHDB_URL names one, a real CouchDB."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, sequence
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.obsolete_settings import obsolete_settings
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.settings import (
    CONFIG,
    Change,
    differences,
    read_config,
    read_limits,
    wanted_settings,
    write_change,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.modules import couchdb_settings
from support.couch import serving as canned
from support.couch_servers import couch_database, couch_server, secrets_of, stand_in
from support.playbook import run_tasks

# A channel that no list of channels names does nothing, and this limit of [purge] writes a line into a log only.
OWN = {"purge": {"index_lag_warn_seconds": 86401}, "smoosh": {"wmagent_test": {"min_priority": 3, "from": "20:00"}}}
NONE = {"revs_limit": None, "purged_infos_limit": None, "purge": {}, "smoosh": {}}


@contextlib.contextmanager
def put_back(client: CouchClient) -> Iterator[None]:
    """The settings that these tests write are as they were afterwards."""
    before = read_config(client)
    keys = [
        ("purge", "index_lag_warn_seconds"),
        ("smoosh.wmagent_test", "min_priority"),
        ("smoosh.wmagent_test", "from"),
    ]
    try:
        yield
    finally:
        after = read_config(client)
        for section, key in keys:
            path = f"{CONFIG}/{section}/{key}"
            if key in before.get(section, {}):
                client.put(path, before[section][key])
            elif key in after.get(section, {}):
                client.delete(path)


def due(client: CouchClient, options: dict, databases: list[str] = ()) -> list[Change]:  # type: ignore[assignment]
    wanted = wanted_settings(NONE | options)
    return differences(wanted, read_config(client), read_limits(client, databases, list(wanted.limits)))


def test_only_what_differs_is_written_and_read_back(couch_client):
    with put_back(couch_client):
        changes = due(couch_client, OWN)
        assert [str(change) for change in changes] == [
            "[purge] index_lag_warn_seconds",
            "[smoosh.wmagent_test] from",
            "[smoosh.wmagent_test] min_priority",
        ]
        for change in changes:
            write_change(couch_client, change)
        assert read_config(couch_client)["smoosh.wmagent_test"] == {"min_priority": "3", "from": "20:00"}
        assert due(couch_client, OWN) == []
    assert "smoosh.wmagent_test" not in read_config(couch_client)


def test_limits_of_a_database(couch_client, couch_db):
    options = {"revs_limit": 50, "purged_infos_limit": 2000}
    changes = due(couch_client, options, [couch_db])
    assert [(one.key, one.before, one.after) for one in changes] == [
        ("purged_infos_limit", "1000", "2000"),
        ("revs_limit", "1000", "50"),
    ]
    for change in changes:
        write_change(couch_client, change)
    assert couch_client.get(path_of(couch_db, "_revs_limit")) == 50
    assert couch_client.get(path_of(couch_db, "_purged_infos_limit")) == 2000
    before = sequence(couch_client.get(path_of(couch_db))["update_seq"])
    assert due(couch_client, options, [couch_db]) == []
    assert sequence(couch_client.get(path_of(couch_db))["update_seq"]) == before


def test_a_fresh_server_has_no_dead_setting(couch_client):
    config = {section: keys for section, keys in read_config(couch_client).items() if section != "compactions"}
    assert obsolete_settings(config) == []


def test_dead_sections_of_a_server_are_found(couch_client):
    path = f"{CONFIG}/compactions/wmagent_test"
    couch_client.put(path, '[{db_fragmentation, "80%"}]')
    try:
        found = [one for one in obsolete_settings(read_config(couch_client)) if one.key == "wmagent_test"]
    finally:
        couch_client.delete(path)
    assert len(found) == 1 and "min_priority = 5.00" in found[0].translation


def test_what_cannot_be_read_is_one_line():
    # Not with a real server, which locks an account after five wrong passwords.
    with stand_in() as (settings, _):
        wrong = CouchClient(CouchSettings(settings.host, settings.port, settings.user, "wrong"))
        with pytest.raises(WMAgentError, match="check COUCH_USER and COUCH_PASS"):
            read_config(wrong)
    no_admin = canned(lambda *asked: (403, {"error": "forbidden", "reason": "You are not a server admin."}))
    with no_admin as forbidden, pytest.raises(WMAgentError, match=r"refuses user u .You are not a server admin"):
        read_config(CouchClient(forbidden))
    with canned(lambda *asked: (200, b"<html>proxy</html>")) as proxy, pytest.raises(WMAgentError, match="is no JSON"):
        read_config(CouchClient(proxy))
    with canned(lambda *asked: (200, {"odd": 1})) as odd, pytest.raises(WMAgentError, match="with no settings"):
        read_config(CouchClient(odd))


def test_a_value_that_is_another_afterwards_is_an_error():
    with stand_in() as (settings, couch):
        client = CouchClient(settings)
        couch.faults.on("PUT .*_config/purge", answer=(200, ""))
        with pytest.raises(WMAgentError, match="unknown_config_value"):
            write_change(client, Change("", "purge", "max_revisions_number", None, "5"))
        couch.store.config["purge"] = {"max_revisions_number": "7"}
        couch.faults.on("PUT .*_config/purge", answer=(200, ""))
        with pytest.raises(WMAgentError, match=r"has '7' for \[purge\] max_revisions_number after '5' was written"):
            write_change(client, Change("", "purge", "max_revisions_number", "7", "5"))


class Failed(Exception):  # noqa: N818 - Ansible's word
    """The module failed, and told this."""


def test_a_module_that_fails_half_way_tells_what_it_wrote(tmp_path):
    with stand_in() as (settings, couch):
        couch.faults.on("PUT .*_config/smoosh.wmagent_test/min_priority", lose="before")
        params = NONE | OWN | {"secrets": secrets_of(settings, tmp_path), "databases": [], "timeout": 20}

        class Module:
            check_mode, _diff = False, False

            def __init__(self) -> None:
                self.params = params

            def fail_json(self, **told) -> None:
                raise Failed(told)

        with pytest.raises(Failed) as failed:
            couchdb_settings.run(Module())  # type: ignore[arg-type]
        told = failed.value.args[0]
        assert told["changed"] and [one["key"] for one in told["changes"]] == ["index_lag_warn_seconds", "from"]
        assert "2 of 3 settings were written, run the same task again" in told["msg"]
        assert couch.store.config["smoosh.wmagent_test"] == {"from": "20:00"}


def test_the_module_through_ansible(tmp_path):
    with couch_server("stand-in") as server, couch_database(server) as database:
        client = CouchClient(server)
        client.put(f"{CONFIG}/couch_httpd_auth/secret", "s3cret-word")
        options = OWN | {"secrets": secrets_of(server, tmp_path), "revs_limit": 50}
        settings = {"dmwm.wmagent.couchdb_settings": options}
        bad = {"dmwm.wmagent.couchdb_settings": options | {"purged_infos_limit": -1, "revs_limit": 7}}
        nowhere = {"dmwm.wmagent.couchdb_settings": options | {"databases": ["nowhere"], "revs_limit": 7}}
        tasks = [
            {"name": "bad", "ignore_errors": True, **bad},
            {"name": "nowhere", "ignore_errors": True, **nowhere},
            {"name": "check", "check_mode": True, "diff": True, **settings},
            {"name": "set", "diff": True, **settings},
            {"name": "again", **settings},
        ]
        outcome = run_tasks(tmp_path / "play", tasks, {"agent": {"ansible_python_interpreter": sys.executable}})
        there = client.get(path_of(database, "_revs_limit"))
    assert outcome.code == 0, outcome.output
    told = outcome.results["agent"]
    assert "purged_infos_limit is -1" in told["bad"]["msg"] and "no database nowhere" in told["nowhere"]["msg"]
    assert told["check"]["changed"] and told["set"]["changed"] and there == 50
    assert told["check"]["changes"] == told["set"]["changes"] and told["check"]["diff"] == told["set"]["diff"]
    assert {"database": database, "section": "", "key": "revs_limit", "before": "1000", "after": "50"} in told["set"][
        "changes"
    ]
    assert not told["again"]["changed"] and told["again"]["changes"] == []
    assert [(one["key"], one["value"]) for one in told["set"]["dead_sections"]] == [("secret", "(not shown)")]
    assert "s3cret-word" not in outcome.output and "couch-word" not in outcome.output
