# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a database is better purged and compacted, or rotated: by what each costs on this server. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import Database

PURGE = "purge"
ROTATE = "rotate"
NONE = "none"


@dataclass(frozen=True)
class Rates:
    """What a server does in a second.

    purges:     tombstones found and purged, indexes following
    copies:     live documents read, written and read again
    indexed:    live documents in all indexes of the database; inf where it has none
    compacted:  bytes of live documents, as JSON
    each_bytes: of a live document with all its leaves, as JSON
    measured:   whether on this server
    """

    purges: float
    copies: float
    indexed: float
    compacted: float
    each_bytes: float
    measured: bool = True


# Measured on a CouchDB 3.5.0 with two shards, on two cores that had other work, with jobs as JobDump's and two views.
DEFAULT_RATES = Rates(purges=1100, copies=950, indexed=1200, compacted=1.2e6, each_bytes=350, measured=False)
ROTATION_SECONDS = 10.0
"""Watching for writers, making and deleting databases, settings, notes: whatever the size."""


@dataclass(frozen=True)
class Work:
    """How much there is to do. view_bytes: of all indexes, in use."""

    documents: int
    tombstones: int
    view_bytes: int = 0

    @classmethod
    def of(cls, database: Database) -> Work:
        """What there is to do in a database."""
        return cls(database.documents, database.tombstones, sum(view.sizes.active for view in database.views))


@dataclass(frozen=True)
class Choice:
    """What is better, why, and the seconds that each takes."""

    choice: str
    reason: str
    seconds: Mapping[str, float]


def estimate(work: Work, rates: Rates) -> dict[str, float]:
    """Seconds of a purge with its compaction, and of a rotation."""
    bytes_left = work.documents * rates.each_bytes + work.view_bytes
    return {
        PURGE: work.tombstones / rates.purges + bytes_left / rates.compacted,
        # Copied away, and back.
        ROTATE: ROTATION_SECONDS + 2 * work.documents / rates.copies + work.documents / rates.indexed,
    }


def choose(work: Work, rates: Rates, minimum_tombstones: int, obstacles: Sequence[str]) -> Choice:
    """The faster of those that are possible. A purge where both take the same: it deletes no database.

    obstacles: why the database may not be rotated, one line each
    """
    seconds = estimate(work, rates)
    if work.tombstones < max(1, minimum_tombstones):
        return Choice(NONE, f"{work.tombstones} tombstones are too few", seconds)
    if obstacles:
        return Choice(PURGE, f"it may not be rotated: {'; '.join(obstacles)}", seconds)
    faster = ROTATE if seconds[ROTATE] < seconds[PURGE] else PURGE
    said = f"a purge takes about {seconds[PURGE]:.0f} s, a rotation {seconds[ROTATE]:.0f} s"
    return Choice(faster, said + ("" if rates.measured else ", by rates of another server"), seconds)
