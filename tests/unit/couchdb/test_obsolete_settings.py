# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of CouchDB 1 and 2 in a configuration of CouchDB 3, and values that CouchDB would not take: no server."""

from __future__ import annotations

import re

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.obsolete_settings import (
    DEAD,
    FALLBACK,
    HIDDEN,
    compaction_rule,
    min_priority,
    obsolete_settings,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.settings import (
    Change,
    differences,
    same,
    wanted_settings,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st

# What 3.5.0 itself has in its own files.
DEFAULTS = {
    "httpd": {"port": "5986", "bind_address": "127.0.0.1"},
    "couch_httpd_auth": {"authentication_db": "_users"},
    "chttpd": {"port": "5984"},
    "admins": {"admin": "-pbkdf2-0123"},
    "smoosh": {"state_dir": "./data"},
    "native_query_servers": {"enable_erlang_query_server": "false"},
    "database_compaction": {"doc_buffer_size": "524288"},
    "view_compaction": {"keyvalue_buffer_size": "2097152"},
}
NONE = {"revs_limit": None, "purged_infos_limit": None, "purge": {}, "smoosh": {}}


def test_what_couchdb_has_itself_is_not_obsolete():
    assert obsolete_settings(DEFAULTS) == []


def test_the_compaction_daemon_of_an_agent_in_the_words_of_smoosh():
    rule = '[{db_fragmentation, "70%"}, {view_fragmentation, "60%"}, {from, "20:00"}, {to, "05:00"}]'
    found = obsolete_settings(
        {"compactions": {"_default": rule}, "compaction_daemon": {"check_interval": "300", "min_file_size": "131072"}}
    )
    assert [(one.section, one.key, one.state) for one in found] == [
        ("compaction_daemon", "check_interval", DEAD),
        ("compaction_daemon", "min_file_size", DEAD),
        ("compactions", "_default", DEAD),
    ]
    assert found[0].translation.startswith("none")
    assert found[1].translation == "[smoosh.ratio_dbs] min_size = 131072; [smoosh.ratio_views] min_size = 131072"
    assert found[2].value == rule
    assert found[2].translation == (
        "[smoosh.ratio_dbs] min_priority = 3.33; [smoosh.ratio_views] min_priority = 2.50; "
        "in both channels from = 20:00, to = 05:00 (in UTC, where the old daemon took local time)"
    )


def test_other_rules_of_the_old_daemon():
    def translated(database: str, rule: str) -> str:
        return obsolete_settings({"compactions": {database: rule}})[0].translation

    strict = '[{db_fragmentation, "50%"}, {strict_window, true}, {parallel_view_compaction, true}]'
    assert translated("mine", strict) == (
        "[smoosh.ratio_dbs] min_priority = 2.00; in both channels strict_window = true (in UTC, where the old daemon "
        "took local time); [smoosh.ratio_views] concurrency = 2; smoosh has no rules for one database; "
        "[smoosh.ignore] leaves one out"
    )
    assert translated("_default", "true").startswith("not understood")
    assert translated("_default", '[{db_fragmentation, "100%"}]') == "none"
    assert compaction_rule('[ {db_fragmentation,"7%"},{to, "05:00"} ]') == {"db_fragmentation": "7%", "to": "05:00"}


@given(st.floats(0, 99.9), st.integers(1, 10**12))
def test_a_channel_takes_what_the_fragmentation_took(percent, file):
    active = file * (1 - percent / 100)
    assert file / active == pytest.approx(min_priority(percent))


@pytest.mark.parametrize(
    ("config", "state", "translation"),
    [
        ({"couchdb": {"delayed_commits": "false"}}, DEAD, "none: every write"),
        ({"replicator": {"db": "_replicator"}}, DEAD, "none: since 2.0"),
        ({"daemons": {"compaction_daemon": "{couch_compaction_daemon, start_link, []}"}}, DEAD, "none"),
        ({"daemons": {"httpsd": "{chttpd, start_link, [https]}"}}, FALLBACK, r"\[ssl\] enable"),
        ({"daemons": {"httpsd": "{couch_httpd, start_link, [https]}"}}, DEAD, r"\[ssl\] enable"),
        ({"query_servers": {"javascript": "couchjs main.js"}}, DEAD, ".*COUCHDB_QUERY_SERVER_JAVASCRIPT"),
        ({"native_query_servers": {"erlang": "{couch_native_process, start_link, []}"}}, FALLBACK, "enable_erlang"),
        (
            {"native_query_servers": {"query": "{mango_native_proc, start_link, []}"}},
            DEAD,
            ".*NATIVE_QUERY_SERVER_QUERY",
        ),
        ({"httpd_global_handlers": {"_x": "{a, b}"}}, DEAD, "none: handlers"),
        ({"update_notification": {"x": "y"}}, DEAD, "none: removed in 2.2"),
        ({"external": {"x": "y"}}, DEAD, "none: removed in 3.0"),
        ({"os_daemons": {"x": "y"}}, DEAD, "none: removed in 2.3"),
        ({"httpd": {"port": "5984"}}, DEAD, r"\[chttpd\] port"),
        ({"httpd": {"enable_cors": "true"}}, FALLBACK, r"\[chttpd\] enable_cors"),
        ({"httpd": {"enable_cors": "true"}, "chttpd": {"enable_cors": "false"}}, DEAD, r"\[chttpd\] enable_cors"),
        ({"couch_httpd_auth": {"timeout": "600"}}, FALLBACK, r"\[chttpd_auth\] timeout"),
        ({"couch_httpd_auth": {"require_valid_user": "true"}}, DEAD, r"\[chttpd\] require_valid_user"),
        ({"couch_httpd_auth": {"auth_cache_size": "50"}}, DEAD, r"\[chttpd_auth_cache\] max_objects"),
    ],
)
def test_one_by_one(config, state, translation):
    found = obsolete_settings(config)
    assert len(found) == 1 and found[0].state == state
    assert found[0].value == config[found[0].section][found[0].key]
    assert re.match(translation, found[0].translation)


def test_a_server_on_the_old_port_reads_its_settings():
    assert obsolete_settings({"httpd": {"port": "5984", "enable": "true"}}) == []


def test_secrets_are_not_shown():
    words = {
        "couch_httpd_auth": {"secret": "s3cret-word"},
        "oauth_token_secrets": {"token": "s3cret-word"},
        "oauth_consumer_secrets": {"someone": "s3cret-word"},
        "admins": {"admin": "s3cret-word"},
    }
    found = obsolete_settings(words)
    assert len(found) == 3 and {one.value for one in found} == {HIDDEN} and "s3cret-word" not in str(found)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"revs_limit": 0}, "revs_limit is 0"),
        ({"revs_limit": -5}, "revs_limit is -5"),
        ({"purged_infos_limit": 0}, "purged_infos_limit is 0"),
        ({"purge": {"max_document_id_numbers": 5}}, "purge.max_document_id_numbers is no setting"),
        ({"purge": {"max_document_id_number": "many"}}, "purge.max_document_id_number is 'many'"),
        ({"purge": {"max_revisions_number": True}}, "purge.max_revisions_number is True"),
        ({"smoosh": {"ratio_dbs": {"min_prio": 2}}}, "smoosh.ratio_dbs.min_prio is no setting"),
        ({"smoosh": {"ratio_dbs": {"min_priority": "NaN"}}}, "smoosh.ratio_dbs.min_priority is 'NaN'"),
        ({"smoosh": {"ratio_dbs": {"min_priority": "infinity"}}}, "smoosh.ratio_dbs.min_priority is 'infinity'"),
        ({"smoosh": {"ratio_dbs": {"from": 1200}}}, "smoosh.ratio_dbs.from is 1200; write a time .* in quotes"),
        ({"smoosh": {"ratio_dbs": {"to": "24:00"}}}, "smoosh.ratio_dbs.to is '24:00'"),
        ({"smoosh": {"ratio_dbs": {"priority": "size"}}}, "smoosh.ratio_dbs.priority is 'size'"),
        ({"smoosh": {"ratio_dbs": {"strict_window": "perhaps"}}}, "smoosh.ratio_dbs.strict_window is 'perhaps'"),
        ({"smoosh": {"ratio_dbs": {"concurrency": "2;1"}}}, "smoosh.ratio_dbs.concurrency is '2;1'"),
        ({"smoosh": {"a/b": {"min_size": 1}}}, "no name of a channel"),
        ({"smoosh": {"db_channels": ["a b"]}}, "smoosh.db_channels is"),
        ({"smoosh": {"ratio_dbs": 5}}, "smoosh.ratio_dbs is no setting"),
    ],
)
def test_what_couchdb_would_not_take_is_refused(options, said):
    with pytest.raises(WMAgentError, match=said):
        wanted_settings(NONE | options)


def test_values_as_couchdb_reads_them():
    channel = {"min_priority": 3.0, "max_priority": "infinity", "strict_window": True, "from": "20:00", "min_size": 1}
    asked = {"db_channels": ["upgrade_dbs", "ratio_dbs"], "ratio_dbs": channel, "slack_dbs": {"min_priority": 1e10}}
    server = wanted_settings(NONE | {"smoosh": asked, "revs_limit": 50}).server
    assert server == {
        "smoosh": {"db_channels": "upgrade_dbs,ratio_dbs"},
        "smoosh.ratio_dbs": {
            "min_priority": "3",
            "max_priority": "infinity",
            "strict_window": "true",
            "from": "20:00",
            "min_size": "1",
        },
        "smoosh.slack_dbs": {"min_priority": "10000000000"},
    }
    third = wanted_settings(NONE | {"smoosh": {"ratio_dbs": {"min_priority": 10 / 3}}})
    assert third.server["smoosh.ratio_dbs"]["min_priority"] == "3.333333"


def test_only_what_differs_is_a_change():
    wanted = wanted_settings(
        NONE
        | {"revs_limit": 50, "smoosh": {"ratio_dbs": {"min_priority": 2, "to": "05:00"}, "db_channels": ["a", "b"]}}
    )
    config = {"smoosh.ratio_dbs": {"min_priority": "2.0", "to": "04:00"}, "smoosh": {"db_channels": "a, b"}}
    assert differences(wanted, config, {"jobs": {"revs_limit": 50}, "fwjrs": {"revs_limit": 1000}}) == [
        Change("", "smoosh.ratio_dbs", "to", "04:00", "05:00"),
        Change("fwjrs", "", "revs_limit", "1000", "50"),
    ]


@given(st.integers(1, 10**15))
def test_a_number_is_the_same_as_itself_however_it_is_written(number):
    assert same(f"{number}.0", str(number)) and same(str(number), str(number)) and not same(None, str(number))
    assert not same(str(number + 1), str(number))
