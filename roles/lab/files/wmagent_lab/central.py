# SPDX-License-Identifier: GPL-3.0-or-later
"""One stand-in for all central services: ReqMgr2, WMStats, DBS, Rucio, LogDB, WMArchive, CRIC, Grafana, alerts.

It says that there is no work, no data and no site, in each service's own words, so that the components of an agent
live. It keeps what agents store (their ``wmagentconfig``, documents for central CouchDB) in memory, and the status of a
request that stands in ``reqmgr_workload_cache``. It is an HTTP(S) proxy as well: a component that asks for a service by
its real name, which no setting can change, is answered here too, and nothing leaves the machine.

``python -m wmagent_lab.central PORT CERTIFICATE KEY``
"""

from __future__ import annotations

import json
import re
import signal
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

from .central_config import ReqMgr2
from .couch_errors import encoded
from .couch_standin import Couch
from .couch_store import Store, StoreError

NAME = "central"
DATABASES = (
    "workqueue",
    "workqueue_inbox",
    "wmstats",
    "wmstats_logdb",
    "reqmgr_workload_cache",
    "workloadsummary",
    "acdcserver",
)
REQUESTS = "reqmgr_workload_cache"
PRIORITY = 110000
"""RequestPriority of every request."""

Reply = tuple[int, Any, dict[str, str]]


def secrets(port: int) -> dict[str, str]:
    """The keys of ``WMAgent.secrets`` that name central services."""
    base = f"http://127.0.0.1:{port}"
    return {
        "GLOBAL_WORKQUEUE_URL": f"{base}/couchdb/workqueue",
        "WMSTATS_URL": f"{base}/couchdb/wmstats",
        "ACDC_URL": f"{base}/couchdb/acdcserver",
        "WORKLOAD_SUMMARY_URL": f"{base}/couchdb/workloadsummary",
        "REQUESTCOUCH_URL": f"{base}/couchdb/reqmgr_workload_cache",
        "CENTRAL_LOGDB_URL": f"{base}/couchdb/wmstats_logdb",
        "REQMGR2_URL": f"{base}/reqmgr2",
        "DBS3_URL": f"{base}/dbs/prod/global/DBSWriter",
        "DBS3_READER_URL": f"{base}/dbs/prod/global/DBSReader",
        "DQM_URL": f"{base}/dqm/offline",
        "WMARCHIVE_URL": f"{base}/wmarchive",
        "MSPILEUP_URL": f"{base}/ms-pileup/data/pileup",
        "RUCIO_ACCOUNT": "wma_lab",
        "RUCIO_HOST": f"{base}/rucio",
        "RUCIO_AUTH": f"{base}/rucio-auth",
    }


def wmagent_config() -> dict[str, Any]:
    """What ReqMgr2 keeps for an agent that nobody configured."""
    off = {"Threshold": 500, "Enabled": False}
    return {
        "UserDrainMode": False,
        "AgentDrainMode": False,
        "SpeedDrainMode": False,
        "SpeedDrainConfig": {"CondorPriority": off, "NoJobRetries": off, "EnableAllSites": off},
        "DiskUseThreshold": 85,
        "IgnoreDisks": ["/mnt/ramdisk"],
        "MaxRetries": {"default": 3},
        "CondorJobsFraction": 0.75,
        "CondorOverflowFraction": 0.2,
        "NoRetryExitCodes": [],
    }


class Services:
    """Answers by path; no sockets here."""

    def __init__(self) -> None:
        store = Store(None, int(time.time()))
        for name in DATABASES:
            store.create(name, int(time.time()))
        self.couch = Couch(store)
        self.reqmgr = ReqMgr2(self.couch)
        self.lock = threading.Lock()

    def answer(self, method: str, target: str, body: Any) -> Reply:
        """Status, JSON body and extra headers of one request."""
        path = urlsplit(target).path
        if path.startswith("/couchdb"):
            return self._couchdb(method, target.removeprefix("/couchdb"), body)
        if path.startswith("/reqmgr2/data/wmagentconfig/"):
            return (*self._agent_config(method, target, body), {})
        if path.startswith("/rucio-auth"):
            expires = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime(time.time() + 3600))
            return 200, {}, {"X-Rucio-Auth-Token": "lab", "X-Rucio-Auth-Token-Expires": expires}
        if path == "/reqmgr2/data/request":
            names = parse_qs(urlsplit(target).query).get("name", [])
            return 200, {"result": [self._request(name) for name in names]}, {}
        for start, reply in _FIXED:
            if path.startswith(start):
                return 200, reply, {}
        return 404, {"error": "not_found", "reason": f"the lab's stand-in knows no {path}"}, {}

    def _couchdb(self, method: str, target: str, body: Any) -> Reply:
        try:
            status, answer = self.couch.answer(method, target or "/", body)
        except StoreError as error:
            if "/_update/" in target:
                return 201, {"ok": True}, {}
            if re.search("/_design/[^/]+/", target) and method in ("GET", "POST"):
                # Central databases hold no work: each view whose design document is not here is empty.
                return 200, {"total_rows": 0, "offset": 0, "rows": []}, {}
            status, answer = error.status, error.body
        return status, answer, {}

    def _agent_config(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        """As ReqMgr2; an agent that it has not heard of is one whose deployment has just made itself known."""
        agent = unquote(urlsplit(target).path.rsplit("/", 1)[1])
        with self.lock:
            try:
                self.reqmgr.config(agent)
            except StoreError:
                self.reqmgr.put_config(agent, wmagent_config())
            return self.reqmgr.answer(method, target, body)

    def _request(self, name: str) -> dict[str, Any]:
        """A request as ReqMgr2 knows it, of the priority that the lab gives its workflows."""
        try:
            status = self.couch.answer("GET", f"/{REQUESTS}/{quote(name, safe='')}", None)[1]["RequestStatus"]
        except StoreError:
            status = "running-open"
        return {name: {"RequestName": name, "RequestPriority": PRIORITY, "RequestStatus": status}}


_EMPTY: dict[str, Any] = {"result": []}
# The site monitoring knows one site, since none at all means to an agent that the monitoring is down.
_SITE: dict[str, Any] = {
    "name": "T2_CH_CERN",
    "prod_status": "enabled",
    "core_cpu_intensive": 100,
    "core_io_intensive": 50,
    "core_production": 100,
    "core_max_used": 100,
}
# (start of the path, answer). The first that fits is taken.
_FIXED: tuple[tuple[str, Any], ...] = (
    ("/reqmgr2/", _EMPTY),
    ("/wmstatsserver/", _EMPTY),
    ("/ms-pileup/", _EMPTY),
    ("/wmarchive", {"result": [{"status": "ok", "ids": []}]}),
    ("/dbs/", []),
    ("/rucio/ping", {"version": "lab stand-in"}),
    ("/rucio/", []),
    ("/api/cms/site/query", {"desc": {"columns": []}, "result": []}),
    ("/api/datasources", {"responses": [{"hits": {"hits": [{"_source": {"data": _SITE}, "sort": [1700000000000]}]}}]}),
    ("/api/v2/alerts", {}),
    ("/dqm/", []),
    # Asked of localhost:5984, where production has its CouchDB, whatever the configuration says.
    ("/_scheduler/", {"total_rows": 0, "offset": 0, "jobs": [], "docs": []}),
    ("/_replicator/", {"total_rows": 0, "offset": 0, "rows": []}),
    ("/_active_tasks", []),
)


class Handler(BaseHTTPRequestHandler):
    """HTTP, and HTTPS inside CONNECT, around ``Services``."""

    protocol_version = "HTTP/1.1"
    server_version = "wmagent-lab-central-STAND-IN"
    services: ClassVar[Services]
    tls: ClassVar[ssl.SSLContext]
    log: ClassVar[bool] = False

    def do_CONNECT(self) -> None:
        """Speak TLS in the name of whichever host was asked for."""
        self.send_response(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        try:
            self.connection = self.tls.wrap_socket(self.connection, server_side=True)
        except (OSError, ssl.SSLError):
            self.close_connection = True
            return
        self.rfile = self.connection.makefile("rb", self.rbufsize)
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw
        target = self.path
        if "://" in target:
            parts = urlsplit(target)
            target = parts.path + (f"?{parts.query}" if parts.query else "")
        if "/_changes?" in target and "feed=continuous" in target:
            self._feed(target)
            return
        status, answer, headers = self.services.answer(self.command, target, body)
        sent = encoded(answer)
        self.send_response(status)
        self.send_header("Content-Type", sent.content_type)
        self.send_header("Content-Length", str(len(sent.data)))
        for key, value in {**headers, **sent.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent.data)
        if status >= 400 and "/_local/" not in self.path:
            print(self.command, self.path, status, flush=True)

    def _feed(self, target: str) -> None:
        """A feed of changes that never come: an agent's replicator holds it open until it ends, and asks again."""
        query = parse_qs(urlsplit(target).query)
        wait = int(query.get("timeout", ["10000"])[0]) / 1000
        last = json.dumps({"last_seq": query.get("since", ["0"])[0], "pending": 0}).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        time.sleep(wait)
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - names that http.server asks for

    def log_message(self, format: str, *args: Any) -> None:
        """Only what was refused is written down, by ``_serve``."""


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM."""
    port, certificate, key = int(arguments[0]), Path(arguments[1]), Path(arguments[2])
    Handler.services = Services()
    Handler.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Handler.tls.load_cert_chain(certificate, key)
    server = Server(("127.0.0.1", port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"Stand-in for all central services on port {port}; it answers 'nothing there' to everything.", flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
