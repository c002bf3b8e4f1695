# SPDX-License-Identifier: GPL-3.0-or-later
"""An OCI registry over HTTP(S) as an image repository."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release import manifest as documents
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.credentials import find_credentials
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import check_digest
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import CHUNK, Repository, VerifyingReader

_PATH = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*")
_PAGES = 1000


class RegistryRepository(Repository):
    """One repository of a registry that speaks the OCI distribution API.

    location: ``http(s)://host[:port]/path``
    timeout:  seconds the registry may stay silent
    ca_file:  certificates to trust; the system's where None

    Credentials: see ``credentials.find_credentials``. Every method raises WMAgentError where the registry does not
    answer as it should.
    """

    def __init__(self, location: str, *, timeout: float = 60, ca_file: str | None = None) -> None:
        self._requests = _import_requests()
        parts = urlsplit(location)
        self.location = location.rstrip("/")
        if parts.username or parts.password or parts.query or parts.fragment or not parts.hostname:
            self.location = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
            raise WMAgentError(
                f"registry {self.location}: give the plain URL, and credentials by environment or docker's config.json"
            )
        path = parts.path.strip("/")
        if not _PATH.fullmatch(path):
            raise WMAgentError(
                f"registry {self.location} needs a repository path in lower case, like http://host:5000/cms/wmagent"
            )
        if ca_file is not None and not Path(ca_file).is_file():
            raise WMAgentError(f"certificate file {ca_file} for {self.location} does not exist; give its right path")
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._base = f"{self._root}/v2/{path}"
        self._path = path
        self._timeout = timeout
        self._verify: str | bool = ca_file or True
        self._credentials = find_credentials(
            parts.netloc, secure=parts.scheme == "https" or _is_this_machine(parts.hostname)
        )
        self._authorization: str | None = self._credentials.basic()
        self._session = self._requests.Session()
        self._session.trust_env = True

    def all_names(self) -> list[str]:
        """All tags, over all pages."""
        names: list[str] = []
        url = f"{self._base}/tags/list?n=1000"
        for _page in range(_PAGES):
            response = self._request("GET", url, expected=(200, 404))
            if response.status_code == 404:
                break
            names.extend(self._json(response).get("tags") or [])
            following = response.links.get("next", {}).get("url")
            if not following:
                break
            url = urljoin(url, following)
        return sorted(names)

    def read_manifest(self, name: str) -> tuple[str, bytes] | None:
        """Digest and content of a manifest, or None; the registry's own digest header must agree with the content."""
        response = self._request(
            "GET",
            f"{self._base}/manifests/{name}",
            headers={"Accept": documents.MANIFEST_TYPE},
            expected=(200, 404),
            stream=True,
        )
        with contextlib.closing(response):
            if response.status_code == 404:
                return None
            content = self._limited(response)
        digest = documents.digest_of(content)
        told = response.headers.get("Docker-Content-Digest", digest)
        if told != digest:
            raise WMAgentError(
                f"manifest {name} of {self.location} is not what its digest {told} says; copy the image again"
            )
        return digest, content

    def open_blob(self, digest: str, size: int | None = None) -> VerifyingReader:
        """A verifying stream of the download."""
        response = self._request("GET", self._blob_url(digest), expected=(200, 404), stream=True)
        if response.status_code == 404:
            response.close()
            raise WMAgentError(f"blob {digest} is missing in {self.location}; copy or build the image again")
        return VerifyingReader(_Download(response, self._errors), digest, self.location, size)

    def has_blob(self, digest: str, size: int | None = None) -> bool:
        """True where the registry knows the blob, with this size if given."""
        response = self._request("HEAD", self._blob_url(digest), expected=(200, 404))
        if response.status_code == 404:
            return False
        length = response.headers.get("Content-Length")
        return size is None or length is None or int(length) == size

    def put_blob(self, digest: str, source: Path | bytes) -> None:
        """Upload one blob in one piece; the registry checks the digest."""
        length = len(source) if isinstance(source, bytes) else source.stat().st_size
        if self.has_blob(digest, length):
            return
        start = self._request("POST", f"{self._base}/blobs/uploads/", expected=(202,))
        place = urljoin(f"{self._base}/blobs/uploads/", start.headers.get("Location", ""))
        place += ("&" if "?" in place else "?") + f"digest={digest}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        if isinstance(source, bytes):
            self._request("PUT", place, headers=headers, data=source, expected=(201,))
        else:
            with source.open("rb") as stream:
                self._request("PUT", place, headers=headers, data=stream, expected=(201,))

    def put_manifest(self, name: str, content: bytes) -> str:
        """Upload a manifest under ``name``."""
        headers = {"Content-Type": documents.MANIFEST_TYPE}
        self._request("PUT", f"{self._base}/manifests/{name}", headers=headers, data=content, expected=(201,))
        return documents.digest_of(content)

    def _blob_url(self, digest: str) -> str:
        return f"{self._base}/blobs/{check_digest(digest)}"

    def _request(self, method: str, url: str, *, expected: tuple[int, ...], **arguments: Any) -> Any:
        """One request; asks for a token once where the registry wants one."""
        response = self._send(method, url, **arguments)
        if response.status_code == 401 and self._log_in(response.headers.get("WWW-Authenticate", "")):
            data: Any = arguments.get("data")
            if hasattr(data, "seek"):
                data.seek(0)
            response = self._send(method, url, **arguments)
        if response.status_code in expected:
            return response
        response.close()
        if response.status_code in (401, 403):
            raise WMAgentError(
                f"{self.location} refuses to {_verb(method)} (HTTP {response.status_code}); "
                f"{self._credentials.advice()}"
            )
        raise WMAgentError(
            f"{self.location} answers HTTP {response.status_code} to {method} {urlsplit(url).path}; look into its log"
        )

    def _send(self, method: str, url: str, *, headers: dict[str, str] | None = None, **arguments: Any) -> Any:
        headers = {"Accept-Encoding": "identity", **(headers or {})}
        # An upload location may stand on another host, which must not see the credentials.
        if self._authorization and urlsplit(url).netloc == urlsplit(self._root).netloc:
            headers["Authorization"] = self._authorization
        with self._errors():
            return self._session.request(
                method,
                url,
                headers=headers,
                timeout=self._timeout,
                verify=self._verify,
                auth=_keep_headers,
                allow_redirects=method in ("GET", "HEAD"),
                **arguments,
            )

    def _log_in(self, challenge: str) -> bool:
        """Get a bearer token from the service that ``challenge`` names; False where that is not what is wanted."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() != "bearer":
            return False
        fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = urljoin(self._root, fields.get("realm", ""))
        if urlsplit(realm).scheme not in ("http", "https"):
            return False
        if self._credentials.secret and urlsplit(self._root).scheme == "https" and urlsplit(realm).scheme != "https":
            raise WMAgentError(f"{self.location} wants its password sent to {realm} in the clear; give a token instead")
        query = {
            "service": fields.get("service", ""),
            "scope": fields.get("scope") or f"repository:{self._path}:pull,push",
        }
        basic = self._credentials.basic()
        with self._errors():
            response = self._session.get(
                realm,
                params={key: value for key, value in query.items() if value},
                headers={"Authorization": basic} if basic else {},
                timeout=self._timeout,
                verify=self._verify,
                auth=_keep_headers,
            )
        if response.status_code != 200:
            raise WMAgentError(
                f"{realm} gives no token for {self.location} (HTTP {response.status_code}); "
                f"{self._credentials.advice()}"
            )
        answer = self._json(response)
        token = answer.get("token") or answer.get("access_token")
        self._authorization = f"Bearer {token}"
        return bool(token)

    def _json(self, response: Any) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise WMAgentError(f"{self.location} does not answer like an OCI registry; check the URL")
        return answer

    def _limited(self, response: Any) -> bytes:
        content = bytearray()
        with self._errors():
            for chunk in response.iter_content(CHUNK):
                content += chunk
                if len(content) > documents.MAX_DOCUMENT:
                    raise WMAgentError(
                        f"a manifest of {self.location} is larger than {documents.MAX_DOCUMENT} bytes; check the URL"
                    )
        return bytes(content)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the HTTP library raises into one line."""
        errors = self._requests.exceptions
        try:
            yield
        except errors.SSLError as error:
            raise WMAgentError(f"{self.location} cannot be trusted ({_innermost(error)}); give its CA file") from None
        except errors.Timeout:
            raise WMAgentError(
                f"{self.location} did not answer within {self._timeout:g} s; check that the registry is up"
            ) from None
        except (errors.RequestException, OSError) as error:
            raise WMAgentError(
                f"{self.location} cannot be reached ({_innermost(error)}); check the URL and that the registry is up"
            ) from None


class _Download:
    """A response body as a file."""

    def __init__(self, response: Any, errors: Any) -> None:
        self._response = response
        self._errors = errors

    def read(self, size: int = -1, /) -> bytes:
        with self._errors():
            try:
                return bytes(self._response.raw.read(None if size < 0 else size, decode_content=False))
            except Exception as error:  # urllib3's own family; a cut connection must not look like an end
                raise OSError(str(error)) from error

    def close(self) -> None:
        self._response.close()


def _import_requests() -> Any:
    try:
        import requests
    except ImportError:
        raise WMAgentError(
            "a registry over HTTP needs the Python library 'requests' on the controller; pip install requests"
        ) from None
    return requests


def _keep_headers(request: Any) -> Any:
    """An ``auth`` that adds nothing: without it a ~/.netrc entry would replace our Authorization header."""
    return request


def _is_this_machine(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _verb(method: str) -> str:
    return "let us read" if method in ("GET", "HEAD") else "let us write"


def _innermost(error: BaseException) -> str:
    """The last words of a nested error, in one line, without the addresses of objects."""
    seen: BaseException = error
    for _depth in range(10):
        inner = seen.__cause__ or seen.__context__ or getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            break
        seen = inner
    return " ".join(str(seen).split())[:200] or type(seen).__name__
