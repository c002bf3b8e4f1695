# SPDX-License-Identifier: GPL-3.0-or-later
"""WMAgent.secrets: complete or refused, and never shown."""

from __future__ import annotations

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.config import (
    couch_url,
    database_url,
    mod_config_options,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import (
    REQUIRED,
    mask,
    parse_secrets,
    problems_in_secrets,
    read_secrets,
    secret_values,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

GOOD = {key: f"value-of-{key.lower()}" for key in (*REQUIRED, "MDB_USER", "MDB_PASS")}


def write(path, secrets):
    path.write_text("# a comment\n" + "".join(f"{key}={value}\n" for key, value in secrets.items()))
    return path


def test_complete_secrets_are_read(tmp_path):
    assert read_secrets(write(tmp_path / "s", GOOD)) == GOOD


def test_the_parser_takes_quotes_exports_and_arrays():
    text = "export A='x y'\nB=\"z\"\nC=\nRESOURCE_OPP1=(name=T3 run=5)\nnot a line\n  # D=1\nE=a=b\n"
    assert parse_secrets(text) == {"A": "x y", "B": "z", "C": "", "RESOURCE_OPP1": "(name=T3 run=5)", "E": "a=b"}


@pytest.mark.parametrize("key", [*REQUIRED, "MDB_USER", "MDB_PASS"])
def test_each_required_key_is_missed_by_name(tmp_path, key):
    with pytest.raises(WMAgentError, match=rf"missing or blank: {key}\b"):
        read_secrets(write(tmp_path / "s", {k: v for k, v in GOOD.items() if k != key}))


@pytest.mark.parametrize("value", ["update-me", "FIXME", "https://update_me/x", "fix-me"])
def test_a_template_value_is_refused(tmp_path, value):
    with pytest.raises(WMAgentError, match="template: RUCIO_HOST"):
        read_secrets(write(tmp_path / "s", {**GOOD, "RUCIO_HOST": value}))


def test_missing_blank_and_unreadable_files_are_one_line_each(tmp_path):
    blank = tmp_path / "blank"
    blank.write_text("\n# nothing\n")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, words in [
        (tmp_path / "none", "does not exist"),
        (blank, "is blank"),
        (binary, "not text"),
        (tmp_path, "cannot be read"),
    ]:
        with pytest.raises(WMAgentError, match=words) as caught:
            read_secrets(path)
        assert "\n" not in str(caught.value)


def test_oracle_and_older_keys_stand_in_for_mariadbs():
    rest = {key: GOOD[key] for key in REQUIRED}
    assert problems_in_secrets({**rest, "ORACLE_USER": "u", "ORACLE_PASS": "p", "ORACLE_TNS": "t"}) == []
    assert problems_in_secrets({**rest, "MYSQL_USER": "u", "MYSQL_PASS": "p"}) == []
    assert "ORACLE_TNS" in problems_in_secrets({**rest, "ORACLE_USER": "u", "ORACLE_PASS": "p"})[0]


def test_urls_for_config_py(tmp_path):
    secrets = {**GOOD, "MDB_HOST": "db", "MDB_PORT": "3307", "COUCH_HOST": "c", "COUCH_PORT": "5984"}
    assert database_url(secrets, "wma") == "mysql://value-of-mdb_user:value-of-mdb_pass@db:3307/wma"
    assert database_url({"ORACLE_USER": "u", "ORACLE_PASS": "p", "ORACLE_TNS": "t"}, "x") == "oracle://u:p@t"
    assert couch_url(secrets) == "http://value-of-couch_user:value-of-couch_pass@c:5984"
    assert mod_config_options(secrets, "wma", tmp_path)["working_dir"] == str(tmp_path)


def test_nothing_secret_is_left_after_masking():
    secrets = {"MDB_PASS": "hunter2", "GRAFANA_TOKEN": "hunter2-long", "RUCIO_HOST": "https://r"}
    shown = mask("a hunter2-long b hunter2 https://r", secret_values(secrets))
    assert shown == "a ******** b ******** https://r"


def test_the_parts_of_composed_credentials_are_masked_too():
    values = secret_values({"AMQ_CREDENTIALS": "user@@@sesame@@@/topic/x"})
    assert mask("config.AgentStatusWatcher.passAMQ = 'sesame'", values).endswith("'********'")
