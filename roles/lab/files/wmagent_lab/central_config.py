# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for what ReqMgr2 tells of agents and requests, and for the CouchDB behind it.

It answers as WMCore.ReqMgr.Service.Auxiliary and .Request do: a GET of an agent's configuration leaves out id and
revision, a PUT replaces all but ``ConfigType`` and makes what is not there, a POST makes it only once; requests are
asked for by name, and those that it does not know are left out. Below ``/couchdb`` it is the CouchDB stand-in itself.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

from .couch_errors import Raw, StoreError, encoded
from .couch_standin import Couch
from .couch_store import Store

DATABASE = "reqmgr_auxiliary"
KIND = "WMAGENT_CONFIG"

_CONFIG = "/reqmgr2/data/wmagentconfig/"
_REQUEST = "/reqmgr2/data/request"
_GONE = 404

Reply = tuple[int, Any]


class ReqMgr2:
    """Answers by path; no sockets here.

    requests: name -> its document; None for one whose document was deleted, on which ReqMgr2 fails
    before:   called with ``METHOD /path`` before each request; what it returns is the answer, None for the usual one
    seen:     all requests
    """

    def __init__(self, couch: Couch | None = None) -> None:
        self.couch = couch or Couch(Store(None, 1))
        self.requests: dict[str, dict[str, Any] | None] = {}
        self.before: Callable[[str], Reply | None] = lambda request: None
        self.seen: list[str] = []
        if DATABASE not in self.couch.store.databases:
            self.couch.answer("PUT", f"/{DATABASE}", None)

    def answer(self, method: str, target: str, body: Any) -> Reply:
        """Status and JSON (bytes: as they are) of one request."""
        self.seen.append(f"{method} {target}")
        replaced = self.before(f"{method} {target}")
        if replaced is not None:
            return replaced
        path = urlsplit(target).path
        try:
            if path.startswith("/couchdb/"):
                status, found = self.couch.answer(method, target.removeprefix("/couchdb"), body)
                return status, found
            if path.startswith(_CONFIG):
                return self._config(method, unquote(path.removeprefix(_CONFIG)), body)
            if path == _REQUEST and method == "GET":
                return self._request(parse_qs(urlsplit(target).query))
        except StoreError as error:
            return error.status, error.body
        return _GONE, {"error": "not_found"}

    def config(self, agent: str) -> dict[str, Any]:
        """An agent's configuration. Raises StoreError where there is none."""
        return {key: value for key, value in self._document(agent).items() if not key.startswith("_")}

    def put_config(self, agent: str, config: dict[str, Any]) -> Any:
        """Replace it, as another client's PUT does."""
        return self._config("PUT", agent, config)[1]

    def _document(self, agent: str) -> dict[str, Any]:
        found: dict[str, Any] = self.couch.answer("GET", self._path(agent), None)[1]
        return found

    def _path(self, agent: str) -> str:
        return f"/{DATABASE}/{KIND}_{quote(agent, safe='')}"

    def _config(self, method: str, agent: str, body: Any) -> Reply:
        if method == "GET":
            return 200, {"result": [self.config(agent)]}
        if method not in ("PUT", "POST") or not isinstance(body, dict) or not body:
            return 400, {"error": "bad request"}
        document = {"ConfigType": KIND, **body}
        if method == "PUT":
            try:
                old = self._document(agent)
                document = {"ConfigType": old["ConfigType"], **body, "_rev": old["_rev"]}
            except StoreError as error:
                if error.status != _GONE:
                    raise
        return 200, {"result": [self.couch.answer("PUT", self._path(agent), document)[1]]}

    def _request(self, query: dict[str, list[str]]) -> Reply:
        names, mask = query.get("name", []), query.get("mask", [])
        if any(self.requests.get(name, {}) is None for name in names):
            return 500, {"error": "internal"}
        known = {name: found for name in names if (found := self.requests.get(name))}
        if mask:
            known = {name: {key: found.get(key) for key in mask} for name, found in known.items()}
        return 200, {"result": [known] if known else []}


class Handler(BaseHTTPRequestHandler):
    """HTTP around ``ReqMgr2``."""

    protocol_version = "HTTP/1.1"
    server_version = "wmagent-lab-reqmgr2-STAND-IN"
    disable_nagle_algorithm = True
    service: ClassVar[ReqMgr2]

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, found = self.service.answer(self.command, self.path, json.loads(raw) if raw else None)
        sent = Raw(found, "text/html") if isinstance(found, bytes) else encoded(found)
        self.send_response(status)
        self.send_header("Content-Type", sent.content_type)
        self.send_header("Content-Length", str(len(sent.data)))
        self.end_headers()
        self.wfile.write(sent.data)

    do_GET = do_PUT = do_POST = _serve  # noqa: N815 - names that http.server asks for

    def log_message(self, format: str, *args: Any) -> None:
        """No line for each request."""


@contextmanager
def serving(service: ReqMgr2, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server in a thread."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ReqMgr2Handler", (Handler,), {"service": service}))
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
