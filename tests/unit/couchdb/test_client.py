# SPDX-License-Identifier: GPL-3.0-or-later
"""The CouchDB client against servers that answer well, badly or not at all."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import (
    CouchClient,
    CouchError,
    CouchLostError,
    CouchSettings,
    settings_from_secrets,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.server import (
    compare_databases,
    describe,
    local_database,
    read_databases,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.couch import Couch, info, serving

SECRETS = {"COUCH_USER": "u", "COUCH_PASS": "s3cret-word", "COUCH_HOST": "127.0.0.1", "COUCH_PORT": "5984"}


def test_settings():
    settings = settings_from_secrets(SECRETS)
    assert (settings.host, settings.port, settings.user, settings.tls) == ("127.0.0.1", 5984, "u", False)
    assert "s3cret-word" not in repr(settings) + settings.where
    files = {"COUCH_CA_FILE": "/ca", "COUCH_CERT_FILE": "/cert", "COUCH_KEY_FILE": "/key"}
    secure = settings_from_secrets(SECRETS | files | {"COUCH_PORT": "6984"})
    assert (secure.tls, secure.ca, secure.cert, secure.key) == (True, "/ca", "/cert", "/key")
    assert not settings_from_secrets(SECRETS | files).cert  # upstream's secrets name a certificate for plain HTTP too
    assert settings_from_secrets(SECRETS | {"COUCH_HOST": "https://couch.example"}).tls


@pytest.mark.parametrize(
    "wrong", [{"COUCH_USER": ""}, {"COUCH_PASS": ""}, {"COUCH_HOST": ""}, {"COUCH_PORT": ""}, {"COUCH_PORT": "http"}]
)
def test_what_is_missing_is_named(wrong):
    with pytest.raises(WMAgentError, match=next(iter(wrong))):
        settings_from_secrets(SECRETS | wrong)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {"error": "unauthorized", "reason": "Name or password is incorrect."}), "refuses user u"),
        ((401, b"<html>login</html>"), "refuses user u"),
        ((403, {"error": "forbidden", "reason": "no"}), "refuses user u"),
        ((200, b"<html><body>Welcome to another service</body></html>"), "is no JSON"),
        ((502, b"Bad gateway"), "is no JSON"),
        ((500, {"error": "boom", "reason": "it broke"}), "status 500: it broke"),
        ((200, b""), "is no JSON"),
    ],
)
def test_bad_answers(answer, said):
    with serving(lambda request, body: answer) as settings, pytest.raises(WMAgentError) as error:
        CouchClient(settings, timeout=5).get("/")
    text = str(error.value)
    assert said in text and "\n" not in text and "s3cret-word" not in text


def test_nobody_answers():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        with pytest.raises(WMAgentError, match="cannot be reached"):
            CouchClient(CouchSettings("127.0.0.1", port, "u", "p"), timeout=5).get("/")
        listener.listen()
        with pytest.raises(WMAgentError, match=r"within 0\.2 s"):
            CouchClient(CouchSettings("127.0.0.1", port, "u", "p"), timeout=0.2).get("/")


def test_no_tls_where_tls_is_wanted():
    with serving(Couch()) as settings, pytest.raises(WMAgentError, match=r"TLS|within|reached"):
        CouchClient(dataclasses.replace(settings, tls=True), timeout=1).get("/")


def test_a_reading():
    couch = Couch(names=["a", "b/c", "_users", "_global_changes"])
    with serving(couch) as settings:
        reading = read_databases(settings)
    assert sorted(reading["databases"]) == ["_users", "a", "b/c"]
    assert reading["databases"]["a"] == {
        "seq": 5,
        "state": reading["databases"]["b/c"]["state"],
        "purges": 0,
        "docs": 3,
        "deleted": 1,
        "created": "1795359380",
    }
    assert (reading["server"], reading["replicated"]) == ("abc", [])
    assert describe(reading) == "3 CouchDB databases"


def test_many_databases_are_asked_for_in_batches():
    couch = Couch(names=[f"d{number}" for number in range(250)])
    with serving(couch) as settings:
        assert len(read_databases(settings)["databases"]) == 250
    assert couch.asked.count("POST /_dbs_info") == 3


def test_a_database_that_cannot_be_told_about_is_an_error():
    for answer in ({"key": "a", "error": "not_found"}, info("other"), info("a", seq="nonsense")):
        couch = Couch(names=["a"])
        couch.infos["a"] = answer
        with serving(couch) as settings, pytest.raises(WMAgentError):
            read_databases(settings)


def test_another_service_is_no_couchdb():
    with serving(lambda *asked: (200, {"hello": "world"})) as settings, pytest.raises(WMAgentError, match="no CouchDB"):
        read_databases(settings)


CHANGES = [
    ({"seq": "6-g1AAB"}, "was written"),
    ({"seq": "5-g1BBB"}, "has another update sequence"),
    ({"doc_count": 2}, "has another number of documents"),
    ({"doc_del_count": 2}, "has another number of deleted documents"),
    ({"purge_seq": "1-g1AAB"}, "was purged"),
    ({"instance_start_time": "1795359999"}, "was deleted and made anew"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_changes_are_told(change, said):
    couch = Couch()
    with serving(couch) as settings:
        before = read_databases(settings)
        assert compare_databases(before, read_databases(settings)) == []
        couch.infos["b/c"] = info("b/c", **change)
        after = read_databases(settings)
    assert compare_databases(before, after) == [f"b/c: {said}"]
    assert compare_databases(json.loads(json.dumps(before)), after) == [f"b/c: {said}"]


def test_databases_that_come_and_go():
    one, two = Couch(names=["a"]), Couch(names=["b"])
    with serving(one) as first, serving(two) as second:
        assert compare_databases(read_databases(first), read_databases(second)) == ["a: was deleted", "b: was created"]


def test_a_database_under_replication_is_named_and_left_out():
    couch = Couch(names=["a", "b/c"])
    with serving(couch) as settings:
        url = f"http://u:p@127.0.0.1:{settings.port}/b%2Fc/"
        couch.jobs = [{"target": url}, {"target": "https://central.example/couchdb/a/"}]
        before = read_databases(settings)
        couch.infos["b/c"] = info("b/c", seq="9-g1AAC")
        after = read_databases(settings)
        couch.infos["a"] = info("a", seq="9-g1AAC")
        last = read_databases(settings)
    assert after["replicated"] == ["b/c"]
    assert describe(after) == "1 CouchDB databases (b/c under replication left out)"
    assert compare_databases(before, after) == []
    assert compare_databases(before, last) == ["a: was written"]
    for one, two in ((before | {"replicated": []}, after), (before, after | {"replicated": []})):
        assert compare_databases(one, two) == []


def test_where_a_replication_goes():
    here = CouchSettings("agent.example", 5984, "u", "p")
    assert local_database("workqueue_inbox", here) == "workqueue_inbox"
    assert local_database("http://localhost:5984/workqueue_inbox", here) == "workqueue_inbox"
    assert local_database({"url": "http://agent.example:5984/a%2Fb/"}, here) == "a/b"
    assert local_database("http://127.0.0.1:5985/workqueue_inbox", here) is None
    assert local_database("https://central.example/couchdb/wmstats", here) is None
    assert local_database(None, here) is None


@pytest.mark.parametrize("wrong", [{}, None, {"databases": {}}])
def test_what_is_no_reading_is_an_error(wrong):
    good = {"server": "x", "databases": {}, "replicated": []}
    with pytest.raises(WMAgentError, match="no reading"):
        compare_databases(good, wrong)
    with pytest.raises(WMAgentError, match="no reading"):
        compare_databases(wrong, good)


def test_a_proxy_that_says_nothing_of_its_kind():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(
            target=answer_once, args=(listener, b"HTTP/1.1 502 Bad gateway\r\nContent-Length: 12\r\n\r\nnothing here")
        )
        thread.start()
        settings = CouchSettings("127.0.0.1", listener.getsockname()[1], "u", "p")
        with pytest.raises(CouchError, match="is no JSON"):
            CouchClient(settings, timeout=5).post("/", {})
        thread.join()


def answer_once(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(answer)


def test_a_connection_that_was_kept_and_died_costs_nothing_but_a_read():
    couch = Couch()
    with serving(couch) as settings:
        client = CouchClient(settings, timeout=5)
        client.get("/_all_dbs")
    with pytest.raises(CouchLostError, match="cannot be reached"):
        client.post("/_dbs_info", {"keys": []})
    with pytest.raises(CouchLostError):
        client.get("/_all_dbs")


def test_what_is_missing_can_be_asked_for():
    with serving(lambda request, body: (404, {"error": "not_found", "reason": "missing"})) as settings:
        client = CouchClient(settings, timeout=5)
        assert client.find("/a/_local/x") is None
        with pytest.raises(CouchError) as error:
            client.get("/a/_local/x")
    assert (error.value.status, error.value.reason) == (404, "missing")


def test_a_certificate_that_is_not_there(tmp_path):
    settings = CouchSettings("127.0.0.1", 6984, "u", "p", tls=True, ca=str(tmp_path / "none"))
    with pytest.raises(WMAgentError, match="check COUCH_CA_FILE"):
        CouchClient(settings)
