# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret gets into a report, and nothing else goes missing."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.markdown import to_markdown
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.redact import BLOT, redacted, redacted_text
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.write import checked
from hypothesis import given, settings
from hypothesis import strategies as st
from support.report_model import DIGEST, some_report

# Letters of no other word in a report, long enough to be found by chance nowhere.
SECRETS = st.text("QZXJKVW0123456789", min_size=8, max_size=24).map(lambda text: f"Zq{text}")
CARRIERS = st.sampled_from(
    [
        "http://wmagent:{}@localhost:5984/_all_dbs refused",
        "mysql://wmagent:p@{}@/wmagent",
        "https://{}@example.org/reqmgr2",
        "MDB_PASS={} is not accepted",
        "COUCH_PASS: {}, COUCH_USER: u",
        'config has "password": "{}" and more',
        "couchPassword = '{} with blanks'",
        "dbpasswd={};",
        "curl --token {} failed",
        "Authorization: Bearer {}",
        "Authorization: Basic {}==",
        "url?access_token={}&next=1",
        "ORACLE wmagent/{}@int2r_lb: ORA-01017",
        "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n{}\ncut off",
        "AMQ_CREDENTIALS=user@@@{}@@@topic",
    ]
)
SECRET_KEYS = st.sampled_from(
    ["password", "MDB_PASS", "couch_pass", "token", "apiKey", "client_secret", "Authorization"]
)


@settings(max_examples=60, deadline=None)
@given(secret=SECRETS, carrier=CARRIERS, key=SECRET_KEYS, before=st.text(max_size=10))
def test_a_seeded_secret_is_in_no_format(secret: str, carrier: str, key: str, before: str) -> None:
    report: Any = some_report(1, weeks=1)
    said = f"{before} {carrier.format(secret)}"
    agent = report["agents"][0]
    agent["reasons"], agent["gaps"] = [said], [said]
    agent["ledger"][0]["details"] = {"error": said, key: secret, "nested": {"list": [{key: [secret]}, said]}}
    report["fleet"]["differences"] = [{"agent": agent["name"], "what": "unknown", "details": said}]
    clean = checked(report)
    for text in (json.dumps(clean, ensure_ascii=False), to_markdown(clean)):
        assert secret not in text, text[text.index(secret) - 60 :][:120]
    assert redacted(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        f"digest {DIGEST}",
        "/data/srv/wmagent/current/auth/myproxy.pem expires in 5 h",
        "X509_USER_PROXY=/data/certs/myproxy.pem",
        "https://cmsweb.cern.ch/reqmgr2 answers 403: check the proxy",
        "secrets: /data/admin/wmagent/WMAgent.secrets",
        "3 of 5 checks passed: 2 left",
        "the password is wrong; check MDB_PASS",
        "wmagent_jobdump/fwjrs: 5 tombstones",
        "/store/data/Run2026A/MET/RAW/v1/000/file.root",
        "2.4.4-0123456789ab to 2.4.5.9-p1-aec2ba3bff37",
        "operator@controller",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted_text(text) == text


def test_a_whole_report_without_secrets_stays_as_it_is() -> None:
    report = some_report(4)
    before = copy.deepcopy(report)
    assert checked(report) == before
    assert report == before


def test_what_has_a_secret_s_name_but_is_none() -> None:
    assert redacted({"token": 3, "password": None, "cookie": True, "secrets": "/x"}) == {
        "token": 3,
        "password": None,
        "cookie": True,
        "secrets": "/x",
    }
    assert redacted({"password": "x"}) == {"password": BLOT}
