# SPDX-License-Identifier: GPL-3.0-or-later
"""A small CouchDB client on the standard library: time limits on everything, one-line errors, no password anywhere."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_TLS_PORTS = (443, 6984)
_LARGEST_ANSWER = 64 * 1024 * 1024


@dataclass(frozen=True)
class CouchSettings:
    """How to reach an agent's CouchDB.

    tls:  HTTPS
    ca:   file with the CA that the server's certificate must chain to; empty for the system's
    cert, key: files of a client certificate, both or neither
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""

    @property
    def where(self) -> str:
        """The server in words, without user or password."""
        return f"CouchDB at {'https' if self.tls else 'http'}://{self.host}:{self.port}"


def settings_from_secrets(secrets: Mapping[str, str]) -> CouchSettings:
    """CouchDB's settings out of ``WMAgent.secrets``.

    secrets: COUCH_USER COUCH_PASS COUCH_HOST COUCH_PORT; over TLS (ports 443 and 6984, or a COUCH_HOST that begins
             with ``https://``) also COUCH_CA_FILE, and COUCH_CERT_FILE with COUCH_KEY_FILE.

    Raises WMAgentError that names the missing or wrong key.
    """
    for key in ("COUCH_USER", "COUCH_PASS", "COUCH_HOST", "COUCH_PORT"):
        if not secrets.get(key):
            raise WMAgentError(f"WMAgent.secrets has no {key}; fill it in")
    port = secrets["COUCH_PORT"]
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise WMAgentError("WMAgent.secrets: COUCH_PORT is no port; write a number, upstream's is 5984")
    scheme, _, host = secrets["COUCH_HOST"].rpartition("://")
    tls = scheme == "https" or (not scheme and int(port) in _TLS_PORTS)
    return CouchSettings(
        host=host.strip("/"),
        port=int(port),
        user=secrets["COUCH_USER"],
        password=secrets["COUCH_PASS"],
        tls=tls,
        ca=secrets.get("COUCH_CA_FILE", "") if tls else "",
        cert=secrets.get("COUCH_CERT_FILE", "") if tls else "",
        key=secrets.get("COUCH_KEY_FILE", "") if tls else "",
    )


class CouchClient:
    """One connection to a server, opened again for each request that needs it."""

    def __init__(self, settings: CouchSettings, timeout: float = 30) -> None:
        self.settings = settings
        self._timeout = timeout

    def get(self, path: str) -> Any:
        """The JSON answer to a GET. Raises WMAgentError."""
        return self.request("GET", path)

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer to a POST of JSON. Raises WMAgentError."""
        return self.request("POST", path, body)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer to one request.

        path: begins with ``/``, quoted as URLs want it.

        Raises WMAgentError: unreachable, time limit, wrong password, an answer that is no JSON, an error answer.
        """
        status, text = self._exchange(method, path, None if body is None else json.dumps(body).encode())
        where = self.settings.where
        try:
            answer = json.loads(text)
        except ValueError:
            if status == 401:
                raise self._denied(None) from None
            start = " ".join(text[:60].decode("utf-8", "replace").split())
            raise WMAgentError(
                f"{where} answered {path} with something that is no JSON (status {status}, {start!r}); "
                "is another service or a proxy on this port?"
            ) from None
        if status in (401, 403):
            raise self._denied(answer)
        if status >= 400:
            raise WMAgentError(f"{where} answered {path} with status {status}: {_reason(answer)}")
        return answer

    def _denied(self, answer: Any) -> WMAgentError:
        return WMAgentError(
            f"{self.settings.where} refuses user {self.settings.user} ({_reason(answer)}); "
            "check COUCH_USER and COUCH_PASS in WMAgent.secrets"
        )

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        where = self.settings.where
        connection: http.client.HTTPConnection | None = None
        try:
            connection = self._connection()
            connection.request(method, path, body, self._headers())
            response = connection.getresponse()
            text = response.read(_LARGEST_ANSWER + 1)
        except TimeoutError:
            raise WMAgentError(f"{where} did not answer within {self._timeout:g} s; look at its load") from None
        except ssl.SSLError as error:
            raise WMAgentError(
                f"{where} and this host agree on no TLS session ({error.reason or error}); "
                "check COUCH_CA_FILE and the server's certificate"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = (
                error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
            )
            raise WMAgentError(
                f"{where} cannot be reached ({reason}); is it running, and do COUCH_HOST and COUCH_PORT name it?"
            ) from None
        finally:
            if connection is not None:
                connection.close()
        if len(text) > _LARGEST_ANSWER:
            raise WMAgentError(f"{where} answered {path} with more than {_LARGEST_ANSWER} bytes")
        return response.status, text

    def _connection(self) -> http.client.HTTPConnection:
        settings = self.settings
        if not settings.tls:
            return http.client.HTTPConnection(settings.host, settings.port, timeout=self._timeout)
        context = ssl.create_default_context(cafile=settings.ca or None)
        if settings.cert and settings.key:
            context.load_cert_chain(settings.cert, settings.key)
        return http.client.HTTPSConnection(settings.host, settings.port, timeout=self._timeout, context=context)

    def _headers(self) -> dict[str, str]:
        token = base64.b64encode(f"{self.settings.user}:{self.settings.password}".encode()).decode()
        return {"Accept": "application/json", "Content-Type": "application/json", "Authorization": f"Basic {token}"}


def _reason(answer: Any) -> str:
    if isinstance(answer, dict):
        return str(answer.get("reason") or answer.get("error") or "no reason given")[:200]
    return "no reason given"
