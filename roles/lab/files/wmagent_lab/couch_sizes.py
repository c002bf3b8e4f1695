# SPDX-License-Identifier: GPL-3.0-or-later
"""How large the files would be. The figures are fitted to a real CouchDB 3.5.0 (q=2, documents of 500 bytes).

``external`` counts documents as JSON, ``active`` what a compaction would keep, ``file`` grows with every write.
"""

from __future__ import annotations

from typing import Any

EMPTY_FILE = 16710
"""A new database: two shards with one header each."""

COMPACTED_SLACK = 22510
"""What a compacted file has above ``active``."""

HEADER = 4096
"""Each commit ends with a header on a block of its own, one in each shard that was written to."""

PURGE_INFO = 61
"""A purged document, remembered for the indexes."""

REWRITTEN = 170
"""B-tree nodes that a change of a known document writes again."""

EMPTY_INDEX = 8540
INDEX_SLACK = 4500
TOMBSTONE = 2


def leaf(body: int, revisions: int) -> int:
    """Active bytes of a leaf with this history, in both trees."""
    return 90 + 25 * min(revisions, 1000) + body // 2


def index_row(key: Any, value: Any) -> int:
    """External bytes of one row of a view."""
    return _json(key) + _json(value) + 6


def index_active(external: int, rows: int) -> int:
    """Active bytes of an index."""
    return external * 9 // 10 + 4 * rows


def _json(value: Any) -> int:
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, list | tuple):
        return 2 + sum(_json(item) + 1 for item in value)
    if isinstance(value, dict):
        return 2 + sum(len(key) + 4 + _json(item) for key, item in value.items())
    return len(str(value))
