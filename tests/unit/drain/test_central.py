# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to central services: certificates, time limits, answers of no use."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.central import (
    CentralClient,
    CentralError,
    Certificates,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.certificates import make_certificate
from support.drain.central import AGENT, config
from wmagent_lab.central_config import ReqMgr2, serving


@contextmanager
def answering(pieces: list[bytes], pause: float = 0) -> Iterator[int]:
    """A server that sends these bytes after whatever request, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                try:
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(pause)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def client(port: int, timeout: float = 5) -> CentralClient:
    return CentralClient(f"http://127.0.0.1:{port}/reqmgr2/", "ReqMgr2", timeout, Certificates())


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([b""], "cannot be reached"),
        ([b"rubbish\r\n\r\n"], "cannot be reached"),
        ([b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"result": []}'], "cannot be reached"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}   \r\n"], "cannot be reached"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], "no JSON"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], "no JSON"),
    ],
)
def test_half_an_answer_is_none(pieces, said):
    with answering(pieces) as port, pytest.raises(CentralError, match=said) as caught:
        client(port).get("/data/wmagentconfig/a")
    assert "\n" not in str(caught.value)


def test_a_service_that_sends_a_byte_now_and_then_is_given_up():
    pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b" "] * 40]
    begin = time.monotonic()
    with pytest.raises(CentralError, match=r"within 0\.5 s"), answering(pieces, 0.1) as port:
        client(port, 0.5).get("/")
    assert time.monotonic() - begin < 8


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(CentralError, match="cannot be reached"):
        client(port).get("/")


@pytest.mark.parametrize("url", ["", "reqmgr2", "ftp://host/x", "http://", "http://host:x/", "http://host:0/"])
def test_what_is_no_url_is_said_so(url):
    with pytest.raises(WMAgentError, match="its URL is none"):
        CentralClient(url, "ReqMgr2", 1, Certificates())


def test_the_host_certificate_opens_the_door(tmp_path):
    certificate = str(make_certificate(tmp_path))
    key = str(tmp_path / "key.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(certificate)
    # So that a refusal comes with the handshake.
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    service = ReqMgr2()
    service.put_config(AGENT, config())
    with serving(service, tls) as port:

        def ask(**files: str) -> object:
            return CentralClient(f"https://127.0.0.1:{port}/reqmgr2", "ReqMgr2", 5, Certificates(**files)).get(
                f"/data/wmagentconfig/{AGENT}"
            )

        assert ask(cert=certificate, key=key, ca=certificate)
        with pytest.raises(CentralError, match=r"no TLS session|cannot be reached"):
            ask(ca=certificate)
        with pytest.raises(CentralError, match="no TLS session"):
            ask(cert=certificate, key=key)
        with pytest.raises(WMAgentError, match="belong together"):
            ask(cert=certificate, ca=certificate)
        with pytest.raises(WMAgentError, match="cannot be read"):
            ask(cert=certificate, key=str(tmp_path / "none"), ca=certificate)
        with pytest.raises(WMAgentError, match="cannot be read"):
            ask(ca=str(tmp_path / "none"))


def test_a_proxy_that_answers_with_a_page():
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>log in</html>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(CentralError, match="is a proxy in between"):
            client(server.server_port).get("/")
        thread.join(5)
