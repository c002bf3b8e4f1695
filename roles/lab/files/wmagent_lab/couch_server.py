# SPDX-License-Identifier: GPL-3.0-or-later
"""What every part of the CouchDB stand-in is handed: the request, and the server it was made of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .couch_errors import Document, StoreError, bad_request
from .couch_faults import Faults
from .couch_store import Store
from .couch_tasks import Tasks

NODE = "couchdb@127.0.0.1"


@dataclass
class Server:
    """One server.

    version:    the CouchDB it answers as; decides how many documents one ``_purge`` may name
    javascript: whether views, lists and updates are run; without, they are refused but for databases with nothing in
    faults:     what tests have go wrong
    tasks:      compactions that take time
    jobs, replications: what ``/_scheduler/jobs`` and ``/_scheduler/docs`` list
    clock:      seconds since 1970
    """

    store: Store
    version: str
    javascript: bool
    faults: Faults = field(default_factory=Faults)
    tasks: Tasks = field(default_factory=Tasks)
    jobs: list[Document] = field(default_factory=list)
    replications: list[Document] = field(default_factory=list)
    clock: Callable[[], float] = time.time


@dataclass
class Request:
    """One request. ``words``: the path, unquoted, in parts."""

    method: str
    path: str
    words: list[str]
    query: dict[str, str]
    body: Any = None
    authorized: bool = True
    content_type: str = ""

    def flag(self, name: str) -> bool:
        """Whether a query parameter is ``true``."""
        return self.query.get(name) == "true"

    def number(self, name: str) -> int | None:
        """A whole number of the query. Raises StoreError 400."""
        text = self.query.get(name)
        if text is None:
            return None
        if not text.removeprefix("-").isdigit():
            raise StoreError(400, "query_parse_error", f'Invalid value for integer: "{text}"')
        return int(text)

    def value(self, name: str) -> Any:
        """A query parameter that is JSON, None where it is not given. Raises StoreError 400."""
        if name not in self.query:
            return None
        try:
            return json.loads(self.query[name])
        except ValueError:
            raise bad_request("invalid UTF-8 JSON") from None

    def object(self) -> Document:
        """The body, which must be a JSON object. Raises StoreError 400."""
        if not isinstance(self.body, dict):
            raise bad_request("Request body must be a JSON object")
        return self.body
