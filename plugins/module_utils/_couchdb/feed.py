# SPDX-License-Identifier: GPL-3.0-or-later
"""A database's feed of changes, page by page: every document once, with all its leaf revisions.

See CouchDB's documentation of ``GET /{db}/_changes``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

BEGINNING = "0"


@dataclass(frozen=True)
class Change:
    """The newest change of one document.

    leaves:   all leaf revisions, losing ones included
    deleted:  whether all of them are tombstones: CouchDB lets a tombstone win only where there is nothing else
    document: the winning leaf's body, only where asked for; None for one that cannot be read
    """

    name: str
    sequence: str
    leaves: tuple[str, ...]
    deleted: bool
    document: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Page:
    """Some changes in their order, and the sequence after them. last: whether none came later when it was read."""

    changes: list[Change]
    sequence: str
    last: bool


def read_pages(
    client: CouchClient, database: str, since: str = BEGINNING, limit: int = 10_000, documents: bool = False
) -> Iterator[Page]:
    """All changes after a sequence up to the database's end. Raises WMAgentError.

    since: a sequence of this database; of an earlier one of the same name it means the beginning
    """
    with ThreadPoolExecutor(1, thread_name_prefix="changes") as thread:
        page = read_page(client, database, since, limit, documents)
        while not page.last:
            # The next one is read while this one is worked on.
            following = thread.submit(read_page, client, database, page.sequence, limit, documents)
            yield page
            page = following.result()
        yield page


def read_page(client: CouchClient, database: str, since: str, limit: int, documents: bool = False) -> Page:
    """The next so many changes after a sequence. Raises WMAgentError."""
    asked = {"style": "all_docs", "since": since, "limit": limit} | ({"include_docs": "true"} if documents else {})
    path = path_of(database, f"_changes?{urlencode(asked)}")
    answer = client.get(path)
    try:
        changes = [
            Change(
                row["id"],
                str(row["seq"]),
                tuple(leaf["rev"] for leaf in row["changes"]),
                bool(row.get("deleted")),
                row.get("doc"),
            )
            for row in answer["results"]
        ]
        return Page(changes, str(answer["last_seq"]), not changes or answer["pending"] == 0)
    except (KeyError, TypeError):
        text = f"{client.settings.where} answered _changes of {database} with something unexpected"
        raise WMAgentError(f"{text}; is a proxy in between?") from None
