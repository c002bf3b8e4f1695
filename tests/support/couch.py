# SPDX-License-Identifier: GPL-3.0-or-later
"""A few canned answers in CouchDB's place, for tests of what is made of them; no CouchDB."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchSettings


@contextmanager
def serving(answers) -> Iterator[CouchSettings]:
    """A server with an answer (status, body) for each "METHOD path"; bodies that are not bytes are sent as JSON."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = answers(f"{self.command} {self.path}", json.loads(body) if body else None)
            text = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if isinstance(said, bytes) else "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = answer  # noqa: N815 - names that http.server looks for

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield CouchSettings("127.0.0.1", server.server_port, "u", "s3cret-word")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def info(name, seq="5-g1AAA", **more):
    return {
        "key": name,
        "info": {
            "db_name": name,
            "update_seq": seq,
            "purge_seq": "0-g1AAA",
            "doc_count": 3,
            "doc_del_count": 1,
            "instance_start_time": "1795359380",
        }
        | more,
    }


class Couch:
    """Answers as a CouchDB that holds some databases."""

    def __init__(self, names=("a", "b/c", "_users"), jobs=(), tasks=()):
        self.names, self.jobs, self.tasks = list(names), list(jobs), list(tasks)
        self.infos = {name: info(name) for name in self.names}
        self.asked = []

    def __call__(self, request, body):
        self.asked.append(request)
        answers = {
            "GET /": {"couchdb": "Welcome", "version": "3.5.0", "uuid": "abc"},
            "GET /_all_dbs": self.names,
            "GET /_scheduler/jobs?limit=10000": {"total_rows": 0, "offset": 0, "jobs": self.jobs},
            "GET /_active_tasks": self.tasks,
        }
        if request == "POST /_dbs_info":
            return 200, [self.infos[name] for name in body["keys"]]
        return (200, answers[request]) if request in answers else (404, {"error": "not_found", "reason": "missing"})
