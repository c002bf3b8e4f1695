# SPDX-License-Identifier: GPL-3.0-or-later
"""What compaction, purge and rotation would give back of a database, and which of them is the cheapest. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import Database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.strategy import (
    DEFAULT_RATES,
    PURGE,
    ROTATE,
    Rates,
    Work,
    estimate,
)

COMPACT = "compact"

_TOMBSTONE_BYTES = 200
"""Active bytes of a tombstone with a short history, in both of a file's trees; measured on CouchDB 3.5.0."""
_NEARLY_ALL = 0.9
"""A remedy that gives back so much of what the best one does is as good, if it is cheaper."""


@dataclass(frozen=True)
class Remedy:
    """gives_back: bytes on disk, estimated; seconds: what it takes, by rates that were measured on another server."""

    gives_back: int
    seconds: float


def remedies_of(database: Database, rates: Rates = DEFAULT_RATES) -> dict[str, Remedy]:
    """Each remedy's bytes and seconds. Purge counts the compaction that has to follow it."""
    unused = database.sizes.reclaimable + sum(view.sizes.reclaimable for view in database.views)
    tombstones = min(database.tombstones * _TOMBSTONE_BYTES, database.sizes.active)
    each = database.sizes.external / database.documents if database.documents else rates.each_bytes
    seconds = estimate(Work.of(database), replace(rates, each_bytes=each))
    compaction = seconds[PURGE] - database.tombstones / rates.purges
    return {
        COMPACT: Remedy(unused, round(compaction + tombstones / rates.compacted, 1)),
        PURGE: Remedy(unused + tombstones, round(seconds[PURGE], 1)),
        ROTATE: Remedy(unused + tombstones, round(seconds[ROTATE], 1)),
    }


def cheapest(remedies: dict[str, Remedy]) -> str:
    """The quickest of those that give nearly all back; '' where none gives anything."""
    best = max(remedy.gives_back for remedy in remedies.values())
    if not best:
        return ""
    good = {name: one.seconds for name, one in remedies.items() if one.gives_back >= _NEARLY_ALL * best}
    return min(good, key=lambda name: good[name])
