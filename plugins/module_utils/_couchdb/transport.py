# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP request to CouchDB by python-couchdb, whose connections are kept open between requests.

The library knows how CouchDB speaks; what it leaves to its user is done here: TLS with a CA of one's own, and answers
of a proxy in between, which have no JSON and sometimes no content type.
"""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

try:
    from couchdb import http as couchdb
except ImportError:
    couchdb = None

_STATUS = {"Unauthorized": 401, "Forbidden": 403, "ResourceNotFound": 404, "ResourceConflict": 409}
_STATUS |= {"PreconditionFailed": 412}
_LARGEST_ANSWER = 256 * 1024 * 1024
_READ_AGAIN = frozenset(["GET", "HEAD"])


class NoJsonError(Exception):
    """An answer that CouchDB does not give. status: HTTP's; start: how it begins, '' where that is unknown."""

    def __init__(self, status: int, start: str = "") -> None:
        super().__init__(status, start)
        self.status = status
        self.start = start


class Transport:
    """Requests to one server, from any number of threads.

    url: ``http[s]://host:port``; timeout: seconds of silence; context: for TLS

    Raises WMAgentError where python-couchdb is missing.
    """

    def __init__(
        self, url: str, credentials: tuple[str, str] | None, timeout: float, context: ssl.SSLContext | None
    ) -> None:
        if couchdb is None:
            raise WMAgentError(
                "python-couchdb is missing; run with the tools environment that is staged with an image, "
                "or install the package CouchDB"
            )
        self._url = url
        self._credentials = credentials
        # Nothing is sent again by the library: a request that writes may have been done.
        self._session = couchdb.Session(timeout=timeout, retryable_errors=())
        self._session.connection_pool = _pool(timeout, context)

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of the answer; a request that only reads is sent once more where the connection was lost.

        Raises OSError and http.client.HTTPException for what the network does, NoJsonError for what is no CouchDB.
        """
        try:
            return self._once(method, path, body)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            # After a restart of the server every connection that was kept is dead.
            self._session.connection_pool.forget()
            if method not in _READ_AGAIN:
                raise
        return self._once(method, path, body)

    def _once(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        text = None if body is None else json.dumps(body)
        try:
            status, _, data = self._session.request(method, self._url + path, text, headers, self._credentials)
        except couchdb.ServerError as error:
            (status, said) = error.args[0]
            return _refused(status, said)
        except couchdb.HTTPError as error:
            return _refused(_STATUS[type(error).__name__], error.args[0] if error.args else "")
        except (TypeError, AttributeError):
            # The library takes an error without content type, or a very long one, for granted.
            raise NoJsonError(0) from None
        finally:
            # The library would keep documents of a database that may be made anew.
            self._session.cache.by_url.clear()
        answer = data.read(_LARGEST_ANSWER + 1) if data is not None else b""
        if len(answer) > _LARGEST_ANSWER:
            raise http.client.HTTPException(f"an answer of more than {_LARGEST_ANSWER} bytes")
        try:
            return status, json.loads(answer)
        except ValueError:
            raise NoJsonError(status, " ".join(answer[:60].decode("utf-8", "replace").split())) from None


def _refused(status: int, said: Any) -> tuple[int, Any]:
    if isinstance(said, tuple) and len(said) == 2:
        return status, {"error": said[0], "reason": said[1]}
    raise NoJsonError(status)


def _pool(timeout: float, context: ssl.SSLContext | None) -> Any:
    class Pool(couchdb.ConnectionPool):
        """The library's, but for TLS."""

        def get(self, url: str) -> http.client.HTTPConnection:
            """A kept connection or a new one."""
            scheme, host = urlsplit(url)[:2]
            with self.lock:
                kept = self.conns.setdefault((scheme, host), [])
                if kept:
                    connection: http.client.HTTPConnection = kept.pop()
                    return connection
            if scheme == "https":
                connection = http.client.HTTPSConnection(host, timeout=timeout, context=context)
            else:
                connection = http.client.HTTPConnection(host, timeout=timeout)
            connection.connect()
            return connection

        def forget(self) -> None:
            """Close what was kept."""
            with self.lock:
                kept = [connection for some in self.conns.values() for connection in some]
                self.conns.clear()
            for connection in kept:
                connection.close()

    return Pool(timeout)
