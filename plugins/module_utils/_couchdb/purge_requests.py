# SPDX-License-Identifier: GPL-3.0-or-later
"""``_purge``: how much one request may hold on this server, several of them at once, what came of each.

Limits of a request: 100 documents and 1,000 revisions unless ``[purge]`` says otherwise, up to CouchDB 3.5.0; from
3.5.1 on there is none (CouchDB's documentation of ``[purge]`` and its release notes).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchError
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, version
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

Leaves = tuple[str, tuple[str, ...]]
"""A document and its leaf revisions."""

_UNLIMITED_FROM = (3, 5, 1)
_DEFAULT_DOCUMENTS = 100
_DEFAULT_REVISIONS = 1000
_ENOUGH_DOCUMENTS = 1000
"""Where there is no limit: larger requests gain nothing, and are a longer wait for others."""
_TOO_LARGE = frozenset([400, 413])


@dataclass(frozen=True)
class Batch:
    """How much one request may hold."""

    documents: int
    revisions: int

    def halved(self) -> Batch:
        """Half of it."""
        return Batch(max(1, self.documents // 2), self.revisions)


def largest_batch(server_version: str, configured: Mapping[str, str]) -> Batch:
    """What this server takes. Pure.

    configured: its ``[purge]`` section
    """
    numbers = tuple(int(number) for number in re.findall(r"\d+", server_version)[:3])
    if numbers >= _UNLIMITED_FROM:
        return Batch(_ENOUGH_DOCUMENTS, 10 * _ENOUGH_DOCUMENTS)
    return Batch(
        min(_ENOUGH_DOCUMENTS, _number(configured, "max_document_id_number", _DEFAULT_DOCUMENTS)),
        _number(configured, "max_revisions_number", _DEFAULT_REVISIONS),
    )


def _number(configured: Mapping[str, str], key: str, default: int) -> int:
    text = str(configured.get(key, ""))
    return max(1, int(text)) if text.isdigit() else default


def read_largest_batch(client: CouchClient) -> Batch:
    """What this server takes, by its version and configuration. Raises WMAgentError."""
    configured = client.get("/_node/_local/_config/purge")
    return largest_batch(version(client), configured if isinstance(configured, Mapping) else {})


def batches(tombstones: Iterable[Leaves], size: Batch) -> Iterator[list[Leaves]]:
    """Lists that fit one request each, in order; a document with more leaves than fit has one of its own. Pure."""
    batch: list[Leaves] = []
    revisions = 0
    for name, leaves in tombstones:
        if batch and (len(batch) >= size.documents or revisions + len(leaves) > size.revisions):
            yield batch
            batch, revisions = [], 0
        batch.append((name, leaves))
        revisions += len(leaves)
    if batch:
        yield batch


@dataclass
class Purged:
    """What came of requests. left: documents of which not all leaves were purged, since they have changed."""

    documents: int = 0
    left: list[str] = field(default_factory=list)


class Purger:
    """Sends requests for one database, several at once.

    in_flight: how many at once
    """

    def __init__(self, client: CouchClient, database: str, size: Batch, in_flight: int) -> None:
        self.size = size
        self._client = client
        self._path = path_of(database, "_purge")
        self._threads = ThreadPoolExecutor(in_flight, thread_name_prefix="purge")

    def __enter__(self) -> Purger:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def purge(self, tombstones: Sequence[Leaves]) -> Purged:
        """Purge all of these. Raises WMAgentError once those already sent have come back."""
        result = Purged()
        for one in self._threads.map(self._send, list(batches(tombstones, self.size))):
            result.documents += one.documents
            result.left += one.left
        return result

    def _send(self, batch: list[Leaves]) -> Purged:
        try:
            answer = self._client.post(self._path, {name: list(leaves) for name, leaves in batch})
        except CouchError as error:
            if error.status not in _TOO_LARGE or len(batch) == 1:
                raise
            # Another proxy or setting than was read: it is smaller from here on.
            self.size = self.size.halved()
            middle = len(batch) // 2
            halves = [self._send(batch[:middle]), self._send(batch[middle:])]
            return Purged(sum(half.documents for half in halves), [name for half in halves for name in half.left])
        return self._compared(batch, answer)

    def _compared(self, batch: list[Leaves], answer: Any) -> Purged:
        purged = answer.get("purged") if isinstance(answer, Mapping) else None
        if not isinstance(purged, Mapping):
            raise WMAgentError(f"{self._client.settings.where} does not tell what it purged by {self._path}")
        left = [name for name, leaves in batch if set(purged.get(name) or ()) != set(leaves)]
        return Purged(len(batch) - len(left), left)
