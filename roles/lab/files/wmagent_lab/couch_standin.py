# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for CouchDB, for machines and tests without one. It says in each answer what it is.

``python -m wmagent_lab.couch_standin PORT ACCOUNT_FILE DATA_FILE``. It answers as CouchDB 3.5.0 does, step by step
(tests/unit/lab/test_couch_transcripts.py). Not modelled: continuous replication and ``_replicator``, Mango indexes,
partitions, access for others than the admin, feeds that stay open. Without the package quickjs-ng it has no views: a
view of a database that holds nothing that a view would show is empty, and any other is refused with 501.
"""

from __future__ import annotations

import base64
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from .couch_errors import Answer, ConnectionLostError, StoreError, bad_request, encoded
from .couch_routes import JSON_ONLY, VENDOR, VERSION, Couch
from .couch_store import Store

__all__ = ["VENDOR", "VERSION", "Couch", "Store", "StoreError", "main", "make_server", "serving"]


class Handler(BaseHTTPRequestHandler):
    """HTTP around ``Couch``."""

    protocol_version = "HTTP/1.1"
    server_version = "wmagent-lab-couchdb-STAND-IN"
    # Head and body are sent apart; without this each answer waits 40 ms for the other side's acknowledgement.
    disable_nagle_algorithm = True
    couch: ClassVar[Couch]
    authorization: ClassVar[str]

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, body = self._answer(raw)
        except StoreError as error:
            status, body = error.status, error.body
        except ConnectionLostError:
            self.close_connection = True
            return
        sent = encoded(body)
        self.send_response(status)
        self.send_header("Content-Type", sent.content_type)
        self.send_header("Content-Length", str(len(sent.data)))
        for key, value in {**_etag(status, body), **sent.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent.data)

    def _answer(self, raw: bytes) -> Answer:
        words = urlsplit(self.path).path.strip("/").split("/")
        kind = self.headers.get("Content-Type") or ""
        authorized = self.headers.get("Authorization") == self.authorization
        body: Any = raw
        if not _takes_bytes(words):
            named = len(words) > 1 and words[1] in JSON_ONLY
            if self.command == "POST" and (raw or named) and authorized and not kind.startswith("application/json"):
                raise StoreError(415, "bad_content_type", "Content-Type must be application/json")
            try:
                body = json.loads(raw) if raw else None
            except ValueError:
                raise bad_request("invalid UTF-8 JSON") from None
        return self.couch.answer(self.command, self.path, body, authorized=authorized, content_type=kind)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - names that http.server asks for

    def log_message(self, format: str, *args: Any) -> None:
        """No line for each request: the log would grow for as long as the lab runs."""


def _takes_bytes(words: list[str]) -> bool:
    """Whether the body is not JSON: attachments and update functions."""
    if len(words) > 3 and words[1] == "_design":
        return words[3] == "_update" or not words[3].startswith("_")
    return len(words) > 2 and not words[0].startswith("_") and not words[1].startswith("_")


def _etag(status: int, body: Any) -> dict[str, str]:
    revision = (body.get("_rev") or body.get("rev")) if isinstance(body, dict) and status < 300 else None
    return {"ETag": f'"{revision}"'} if revision else {}


def make_server(couch: Couch, user: str, password: str, port: int = 0) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 that is not running yet; port 0 for any."""
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    handler = type("CouchHandler", (Handler,), {"couch": couch, "authorization": f"Basic {token}"})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    return server


@contextmanager
def serving(couch: Couch, user: str = "admin", password: str = "stand-in") -> Iterator[int]:  # noqa: S107
    """For tests: the port of a server in a thread. Faults are had from ``couch.faults``."""
    server = make_server(couch, user, password)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM."""
    port, account_file, data_file = int(arguments[0]), Path(arguments[1]), Path(arguments[2])
    account = json.loads(account_file.read_text(encoding="utf-8"))
    store = Store(data_file, int(time.time()))
    couch = Couch(store)
    server = make_server(couch, account["user"], account["password"], port)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    views = "views by QuickJS" if couch.javascript else "no views (quickjs-ng is not installed)"
    print(f"This is a STAND-IN for CouchDB on port {port}, not CouchDB: {views}, no replication.", flush=True)
    saver = threading.Thread(target=_save_often, args=(store,), daemon=True)
    saver.start()
    server.serve_forever()
    store.save()
    return 0


def _save_often(store: Store) -> None:
    """Each second, less often where the saving itself takes long."""
    took = 0.0
    while True:
        time.sleep(max(1.0, 10 * took))
        begin = time.monotonic()
        store.save()
        took = time.monotonic() - begin


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
