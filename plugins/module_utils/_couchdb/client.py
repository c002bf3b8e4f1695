# SPDX-License-Identifier: GPL-3.0-or-later
"""A CouchDB client: time limits on everything, one-line errors, no password anywhere."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.transport import NoJsonError, Transport
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_TLS_PORTS = (443, 6984)


class CouchError(WMAgentError):
    """CouchDB refused a request. status: HTTP's; reason: CouchDB's own words."""

    def __init__(self, text: str, status: int = 0, reason: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


class CouchLostError(CouchError):
    """No answer came: nobody knows whether the request was carried out. timed_out: the server may still be at it."""

    def __init__(self, text: str, timed_out: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out


@dataclass(frozen=True)
class CouchSettings:
    """How to reach a CouchDB.

    user: '' for nobody in particular
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
    """Requests to one server, from any number of threads.

    timeout: seconds that the server may stay silent

    Raises WMAgentError where python-couchdb is missing or a certificate's file is not to be read.
    """

    def __init__(self, settings: CouchSettings, timeout: float = 30) -> None:
        self.settings = settings
        self._timeout = timeout
        scheme = "https" if settings.tls else "http"
        self._transport = Transport(
            f"{scheme}://{settings.host}:{settings.port}",
            (settings.user, settings.password) if settings.user else None,
            timeout,
            _tls_context(settings),
        )

    def get(self, path: str) -> Any:
        """The JSON answer to a GET. Raises CouchError."""
        return self.request("GET", path)

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer to a POST of JSON. Raises CouchError."""
        return self.request("POST", path, body)

    def put(self, path: str, body: Any = None) -> Any:
        """The JSON answer to a PUT of JSON. Raises CouchError."""
        return self.request("PUT", path, body)

    def delete(self, path: str) -> Any:
        """The JSON answer to a DELETE. Raises CouchError."""
        return self.request("DELETE", path)

    def find(self, path: str) -> Any:
        """The JSON answer to a GET, None where there is no such thing (404). Raises CouchError."""
        try:
            return self.get(path)
        except CouchError as error:
            if error.status != 404:
                raise
        return None

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer to one request.

        path: begins with ``/``, quoted as URLs want it.

        Raises CouchLostError (unreachable, time limit, connection lost) and CouchError (refused, an answer that is no
        CouchDB's).
        """
        where = self.settings.where
        try:
            status, answer = self._transport.request(method, path, body)
        except TimeoutError:
            raise CouchLostError(f"{where} did not answer within {self._timeout:g} s; look at its load", True) from None
        except ssl.SSLError as error:
            raise CouchError(
                f"{where} and this host agree on no TLS session ({error.reason or error}); "
                "check COUCH_CA_FILE and the server's certificate"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = (
                error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
            )
            raise CouchLostError(
                f"{where} cannot be reached ({reason}); is it running, and do COUCH_HOST and COUCH_PORT name it?"
            ) from None
        except NoJsonError as error:
            if error.status == 401:
                raise self._denied(401, None) from None
            raise CouchError(
                f"{where} answered {path} with something that is no JSON (status {error.status or 'unknown'}, "
                f"{error.start!r}); "
                "is another service or a proxy on this port?",
                error.status,
            ) from None
        if status in (401, 403):
            raise self._denied(status, answer)
        if status >= 400:
            text = f"{where} answered {path} with status {status}: {_reason(answer)}"
            raise CouchError(text, status, _reason(answer))
        return answer

    def _denied(self, status: int, answer: Any) -> CouchError:
        return CouchError(
            f"{self.settings.where} refuses user {self.settings.user} ({_reason(answer)}); "
            "check COUCH_USER and COUCH_PASS in WMAgent.secrets",
            status,
            _reason(answer),
        )


def _tls_context(settings: CouchSettings) -> ssl.SSLContext | None:
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca or None)
        if settings.cert and settings.key:
            context.load_cert_chain(settings.cert, settings.key)
    except OSError as error:
        raise WMAgentError(
            f"the certificates for {settings.where} are not to be read ({error.strerror or error}); "
            "check COUCH_CA_FILE, COUCH_CERT_FILE and COUCH_KEY_FILE"
        ) from None
    return context


def _reason(answer: Any) -> str:
    if isinstance(answer, dict):
        return str(answer.get("reason") or answer.get("error") or "no reason given")[:200]
    return "no reason given"
