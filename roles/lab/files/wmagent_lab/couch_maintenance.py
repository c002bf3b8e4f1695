# SPDX-License-Identifier: GPL-3.0-or-later
"""Compaction of databases and of views, and the clean-up of indexes."""

from __future__ import annotations

from . import couch_purge, couch_views
from . import couch_sizes as sizes
from .couch_errors import Answer, Document
from .couch_server import NODE, Server
from .couch_store import Database
from .couch_tasks import Task


def compact(server: Server, database: Database, design: str | None) -> Answer:
    """``_compact`` and ``_compact/<design document>``: begun, or done at once where no test wants it to take time."""
    if design is None:
        _start(server, database, "", lambda: _compact_database(server, database), database.counts["live"])
        return 202, {"ok": True}
    index = couch_views.index_of(database, design)
    _start(server, database, design, lambda: _compact_index(server, index), index.sequence)
    return 202, {"ok": True}


def _start(server: Server, database: Database, design: str, finish: object, total: int) -> None:
    begin, seconds = server.clock(), server.faults.compaction_seconds
    assert callable(finish)
    if not seconds:
        finish()
        database.touched += 1
        return
    if design:
        couch_views.index_of(database, design).compacting = True
    else:
        database.compacting = True
    server.tasks.start(
        Task((database.name, design), begin, begin + seconds, _description(database, design, total), finish)
    )


def _description(database: Database, design: str, total: int) -> Document:
    row: Document = {
        "node": NODE,
        "pid": "<0.100.0>",
        "process_status": "running",
        "database": f"shards/00000000-7fffffff/{database.name}.{database.created}",
        "type": "view_compaction" if design else "database_compaction",
        "total_changes": total,
    }
    return row | ({"design_document": f"_design/{design}", "phase": "view"} if design else {"phase": "document_copy"})


def _compact_database(server: Server, database: Database) -> None:
    database.compacting = False
    if server.faults.disk_full:
        return
    for entry in database.documents.values():
        entry.tree.forget_old_bodies()
    couch_purge.forget_old(database)
    compacted = database.info()["sizes"]["active"] + sizes.COMPACTED_SLACK
    database.file_size = min(database.file_size, compacted)
    database.touched += 1


def _compact_index(server: Server, index: couch_views.Index) -> None:
    index.compacting = False
    if not server.faults.disk_full:
        index.compact()


def cleanup(database: Database) -> Answer:
    """``_view_cleanup``."""
    couch_views.cleanup(database)
    return 202, {"ok": True}
