# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON over HTTP(S) from central services, with the agent's host certificate where there is one.

Nothing but an answer that is what was asked for counts as an answer: no redirect to a login page, no page of a proxy,
no half of one.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_LARGEST_ANSWER = 256 * 1024 * 1024
_PIECE = 1024 * 1024


class CentralError(WMAgentError):
    """A central service gave no usable answer. status: HTTP's, 0 where there was none."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Certificates:
    """Files for TLS; '' for none.

    cert, key: the client certificate, both or neither
    ca:        a file or a folder (as X509_CERT_DIR) with what to trust; '' for the system's
    """

    cert: str = ""
    key: str = ""
    ca: str = ""


class CentralClient:
    """Requests to one service, one at a time.

    url:     ``http[s]://host[:port][/path]``
    name:    the service in words, for messages
    timeout: seconds for each answer, from the first byte to the last

    Raises WMAgentError for a URL that is none and for certificates that cannot be read.
    """

    def __init__(self, url: str, name: str, timeout: float, certificates: Certificates) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise WMAgentError(f"{name}: its URL is none; write http[s]://host[:port]/path in WMAgent.secrets")
        self._host, self._port, self._path = parts.hostname, port, parts.path.rstrip("/")
        self._tls = _context(name, certificates) if parts.scheme == "https" else None
        self._timeout = timeout
        self.where = f"{name} at {parts.scheme}://{parts.hostname}{f':{port}' if port else ''}{self._path}"

    def get(self, path: str) -> Any:
        """The JSON of an answer with status 200. Raises CentralError."""
        return self.request("GET", path)

    def post(self, path: str, body: Any) -> Any:
        """The JSON of an answer with status 2xx. Raises CentralError."""
        return self.request("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        """The JSON of an answer with status 2xx. Raises CentralError."""
        return self.request("PUT", path, body)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One request; nothing is sent twice. path: below the URL, quoted. Raises CentralError."""
        connection = self._connection()
        try:
            status, data = self._exchange(connection, method, path, body)
        except TimeoutError:
            raise CentralError(f"{self.where} did not answer within {self._timeout:g} s; try again later") from None
        except ssl.SSLError as error:
            raise CentralError(
                f"{self.where} and this host agree on no TLS session ({error.reason or error}); "
                "check host_cert, host_key and ca_path"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CentralError(f"{self.where} cannot be reached ({' '.join(str(why).split())[:200]})") from None
        finally:
            connection.close()
        return self._answer(path, status, data)

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)

    def _exchange(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any) -> tuple[int, bytes]:
        end = time.monotonic() + self._timeout
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, self._path + path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        pieces, size = [], 0
        # The library's own limit is for each piece: a service that sends a byte now and then would hold it for ever.
        while piece := response.read1(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > _LARGEST_ANSWER:
                raise http.client.HTTPException(f"an answer of more than {_LARGEST_ANSWER} bytes")
            if time.monotonic() > end:
                raise TimeoutError
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return response.status, b"".join(pieces)

    def _answer(self, path: str, status: int, data: bytes) -> Any:
        what = path.partition("?")[0]
        if status in (401, 403):
            raise CentralError(
                f"{self.where} refuses this host (status {status}); check host_cert, host_key and their registration",
                status,
            )
        if 300 <= status < 400:
            raise CentralError(
                f"{self.where} sends {what} elsewhere (status {status}), as to a login page; check host_cert and "
                "host_key",
                status,
            )
        if status >= 400:
            raise CentralError(f"{self.where} answered {what} with status {status}", status)
        try:
            return json.loads(data)
        except ValueError:
            raise CentralError(
                f"{self.where} answered {what} with something that is no JSON; is a proxy in between?", status
            ) from None


def _context(name: str, certificates: Certificates) -> ssl.SSLContext:
    ca = certificates.ca
    if bool(certificates.cert) != bool(certificates.key):
        raise WMAgentError("host_cert and host_key belong together; give both or neither")
    try:
        is_folder = bool(ca) and Path(ca).is_dir()
        context = ssl.create_default_context(
            cafile=ca if ca and not is_folder else None, capath=ca if is_folder else None
        )
        if certificates.cert:
            # A password cannot be asked for: nobody is there to type it.
            context.load_cert_chain(certificates.cert, certificates.key, password="")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WMAgentError(
            f"{name}: the certificates cannot be read ({reason}); check host_cert, host_key and ca_path"
        ) from None
    return context
