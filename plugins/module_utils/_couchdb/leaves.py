# SPDX-License-Identifier: GPL-3.0-or-later
"""Live documents with all their leaf revisions: read, told apart by a digest, written with the revisions they have.

A leaf that lost a conflict is needed for ``_conflicts``, a deleted one so that a replication finds the same tree; so
all leaves of a live document belong to it. See CouchDB's documentation of ``_bulk_get``, and of ``new_edits`` for
``_bulk_docs``.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchLostError
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

Leaves = list[dict[str, Any]]
"""All leaf revisions of one document, with attachments and ``_revisions``."""

DESIGN = "_design/"
BATCH_BYTES = 2 * 1024 * 1024
_MOST_DOCUMENTS = 1000
_IDS_AT_ONCE = 10_000
_MODULUS = 1 << 256


@dataclass(frozen=True)
class Tally:
    """How much some documents are, and a digest of them that does not depend on their order.

    digest: sum of the SHA-256 of each leaf's canonical JSON; bytes: of that JSON
    """

    documents: int = 0
    leaves: int = 0
    bytes: int = 0
    digest: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.documents + other.documents,
            self.leaves + other.leaves,
            self.bytes + other.bytes,
            (self.digest + other.digest) % _MODULUS,
        )

    def as_note(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "documents": self.documents,
            "leaves": self.leaves,
            "bytes": self.bytes,
            "digest": f"{self.digest:064x}",
        }

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> Tally:
        """What :meth:`as_note` gave. Raises WMAgentError."""
        try:
            return cls(int(note["documents"]), int(note["leaves"]), int(note["bytes"]), int(note["digest"], 16))
        except (KeyError, TypeError, ValueError):
            raise WMAgentError(f"this is no tally of documents: {str(note)[:100]}") from None


def canonical(leaf: Mapping[str, Any], revs_limit: int) -> bytes:
    """What makes a leaf the same as another: id, revision, history, whether it is deleted, body, attachments. Pure.

    revs_limit: a longer history is cut there, as CouchDB does when it writes
    """
    same = dict(leaf)
    history = same.get("_revisions")
    if history:
        same["_revisions"] = {"start": history["start"], "ids": history["ids"][:revs_limit]}
    if "_attachments" in same:
        # CouchDB's own digest is of the compressed data.
        same["_attachments"] = {
            name: [item.get("content_type"), item.get("revpos"), item["data"]]
            for name, item in same["_attachments"].items()
        }
    return json.dumps(same, sort_keys=True, separators=(",", ":")).encode()


def tally_of(documents: Mapping[str, Leaves], revs_limit: int) -> Tally:
    """The tally of documents. Pure."""
    texts = [canonical(leaf, revs_limit) for leaves in documents.values() for leaf in leaves]
    digest = sum(int.from_bytes(hashlib.sha256(text).digest(), "big") for text in texts) % _MODULUS
    return Tally(len(documents), len(texts), sum(map(len, texts)), digest)


def read_names(client: CouchClient, database: str, after: str = "") -> Iterator[list[str]]:
    """Ids of live documents, design documents included, in CouchDB's order. Raises WMAgentError.

    after: only those that come after this one
    """
    while True:
        asked = {"limit": str(_IDS_AT_ONCE + 1)} | ({"startkey": json.dumps(after)} if after else {})
        path = path_of(database, f"_all_docs?{urlencode(asked)}")
        answer = client.get(path)
        rows = answer.get("rows") if isinstance(answer, Mapping) else None
        if not isinstance(rows, list):
            raise WMAgentError(f"{client.settings.where} answered {path} without rows")
        names = [row["id"] for row in rows if row["id"] != after]
        if names:
            yield names
        if len(rows) <= _IDS_AT_ONCE:
            return
        after = names[-1]


def read_leaves(client: CouchClient, database: str, names: Sequence[str]) -> dict[str, Leaves]:
    """All leaves of these documents. Raises WMAgentError, also where one of them is not there."""
    if not names:
        return {}
    path = path_of(database, "_bulk_get?revs=true&attachments=true")
    try:
        answer = client.post(path, {"docs": [{"id": name} for name in names]})
    except CouchLostError as error:
        # Large attachments: less at once.
        if len(names) == 1 or not (error.timed_out or "an answer of more than" in str(error)):
            raise
        middle = len(names) // 2
        return read_leaves(client, database, names[:middle]) | read_leaves(client, database, names[middle:])
    found: dict[str, Leaves] = {}
    results = answer.get("results") if isinstance(answer, Mapping) else None
    for result in results if isinstance(results, list) else ():
        found[result["id"]] = [one["ok"] for one in result["docs"] if "ok" in one]
        if len(found[result["id"]]) != len(result["docs"]) or not result["docs"]:
            raise WMAgentError(f"{database} does not tell all revisions of {result['id']}; was it deleted meanwhile?")
    if found.keys() != set(names):
        raise WMAgentError(f"{client.settings.where} answered {path} with something else than was asked for")
    return found


def write_leaves(client: CouchClient, database: str, documents: Mapping[str, Leaves]) -> None:
    """Write these revisions as they are, beside what is there. Raises WMAgentError where one was refused."""
    leaves = [leaf for leaves in documents.values() for leaf in leaves]
    if not leaves:
        return
    answers = client.post(path_of(database, "_bulk_docs"), {"docs": leaves, "new_edits": False})
    refused = [answer for answer in answers if "error" in answer]
    if refused:
        first = refused[0]
        said = first.get("reason") or first["error"]
        raise WMAgentError(f"{database} refused {len(refused)} documents, such as {first.get('id')} ({said})")


class Batches:
    """Cuts ids into batches of about the same bytes, by what the documents so far had."""

    def __init__(self, bytes_of_each: float, bytes_of_batch: int = BATCH_BYTES) -> None:
        self._each = max(1.0, bytes_of_each)
        self._target = bytes_of_batch

    @property
    def documents(self) -> int:
        """How many documents the next one may hold."""
        return max(1, min(_MOST_DOCUMENTS, int(self._target / self._each)))

    def saw(self, tally: Tally) -> None:
        """A batch was this much: larger documents count at once, smaller ones after a while."""
        each = tally.bytes / max(1, tally.documents)
        self._each = max(1.0, each, 0.7 * self._each + 0.3 * each)


def each_batch(
    names: Iterator[list[str]], batches: Batches, work: Callable[[Sequence[str]], Tally], in_flight: int
) -> Iterator[tuple[str, Tally]]:
    """Do work on every batch of ids, several at once; the last id and the tally of each, in order.

    Raises what the work raises. Leaving it early ends those under way.
    """
    with ThreadPoolExecutor(in_flight, thread_name_prefix="documents") as threads:
        waiting: deque[tuple[str, Future[Tally]]] = deque()

        def oldest() -> tuple[str, Tally]:
            last, future = waiting.popleft()
            tally = future.result()
            batches.saw(tally)
            return last, tally

        for page in names:
            start = 0
            while start < len(page):
                batch = page[start : start + batches.documents]
                start += len(batch)
                waiting.append((batch[-1], threads.submit(work, batch)))
                if len(waiting) > in_flight:
                    yield oldest()
        while waiting:
            yield oldest()


def tally_database(client: CouchClient, database: str, revs_limit: int, batches: Batches, in_flight: int) -> Tally:
    """Read every live document of a database. Raises WMAgentError."""
    total = Tally()
    names = read_names(client, database)
    work = lambda batch: tally_of(read_leaves(client, database, batch), revs_limit)  # noqa: E731
    for _, tally in each_batch(names, batches, work, in_flight):
        total += tally
    return total


def without_designs(pages: Iterator[list[str]]) -> Iterator[list[str]]:
    """Only documents that are no design documents."""
    for page in pages:
        yield [name for name in page if not name.startswith(DESIGN)]


def design_names(client: CouchClient, database: str) -> list[str]:
    """Ids of all live design documents. Raises WMAgentError."""
    path = path_of(database, "_design_docs")
    answer = client.get(path)
    if not isinstance(answer, Mapping) or not isinstance(answer.get("rows"), list):
        raise WMAgentError(f"{client.settings.where} answered {path} without rows")
    return [row["id"] for row in answer["rows"]]


def not_merged(client: CouchClient, source: str, target: str, revs_limit: int, names: Sequence[str]) -> list[str]:
    """Ids of documents of which the target lacks a leaf, or has it with other contents. Raises WMAgentError.

    One that was edited in the target has the leaf as an earlier revision, which is enough.
    """
    documents = read_leaves(client, source, names)
    asked = {name: [leaf["_rev"] for leaf in leaves] for name, leaves in documents.items()}
    unknown = client.post(path_of(target, "_revs_diff"), asked)
    if not isinstance(unknown, Mapping):
        raise WMAgentError(f"{client.settings.where} does not tell which revisions {target} has")
    there = [name for name in names if name not in unknown]
    theirs = read_leaves(client, target, there)
    wrong = [name for name in names if name in unknown]
    for name in there:
        texts = {leaf["_rev"]: canonical(leaf, revs_limit) for leaf in theirs[name]}
        ours = {leaf["_rev"]: canonical(leaf, revs_limit) for leaf in documents[name]}
        if any(texts[rev] != ours[rev] for rev in texts.keys() & ours.keys()):
            wrong.append(name)
    return wrong
