# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's central services over HTTP."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator

import pytest
from support.agent import processes  # noqa: F401 - makes the lab's own package importable
from wmagent_lab.central import Handler, Server, Services


@pytest.fixture
def port() -> Iterator[int]:
    server = Server(("127.0.0.1", 0), type("CentralHandler", (Handler,), {"services": Services()}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_a_list_function_of_a_central_database_answers_as_it_wrote(port):
    """What WMCore's DrainStatusAPI asks the central WorkQueue for (WorkQueueBackend.getElements)."""
    design = {
        "views": {"all": {"map": "function (doc) { emit(doc._id, null); }"}},
        "lists": {"filter": "function (head, req) { send('['); while (getRow()) { send('1'); } send(']'); }"},
    }
    assert ask(port, "PUT", "/couchdb/workqueue/_design/WorkQueue", design)[0] == 201
    assert ask(port, "PUT", "/couchdb/workqueue/one", {})[0] == 201
    listed = "/couchdb/workqueue/_design/WorkQueue/_list/filter/all"
    assert ask(port, "POST", listed, {"keys": ["one"]}) == ask(port, "GET", listed) == (200, "[1]")
    assert ask(port, "GET", "/couchdb/workqueue/one")[0] == 200
