# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of the CouchDB stand-in that are not a success, and answers that are not JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]
"""One JSON object."""

Answer = tuple[int, Any]
"""HTTP status and JSON body (or ``Raw``)."""


class StoreError(Exception):
    """An answer that is not a success: HTTP status, CouchDB's ``error`` word and ``reason``."""

    def __init__(self, status: int, error: str, reason: str, **more: Any) -> None:
        super().__init__(reason)
        self.status = status
        self.body: Document = {"error": error, "reason": reason, **more}


class ConnectionLostError(Exception):
    """No answer at all: the connection ends, as when the server dies."""


@dataclass(frozen=True)
class Raw:
    """A body that is sent as it is."""

    data: bytes
    content_type: str
    headers: dict[str, str] = field(default_factory=dict)


def encoded(body: Any) -> Raw:
    """A body as it is sent, where it is not that already: as JSON."""
    return body if isinstance(body, Raw) else Raw(json.dumps(body).encode() + b"\n", "application/json")


def missing_database() -> StoreError:
    """What CouchDB says of a database that is not there."""
    return StoreError(404, "not_found", "Database does not exist.")


def bad_request(reason: str) -> StoreError:
    """400 with this reason."""
    return StoreError(400, "bad_request", reason)


def missing(reason: str = "missing") -> StoreError:
    """404 with this reason."""
    return StoreError(404, "not_found", reason)


def not_modelled(what: str) -> StoreError:
    """501: CouchDB has it, the stand-in does not."""
    return StoreError(501, "not_implemented", f"this is a stand-in: it has no {what}")


def not_allowed(methods: str) -> StoreError:
    """405: ``methods``, comma separated, are those that would do."""
    return StoreError(405, "method_not_allowed", f"Only {methods} allowed")
