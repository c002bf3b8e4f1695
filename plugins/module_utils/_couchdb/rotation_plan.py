# SPDX-License-Identifier: GPL-3.0-or-later
"""Which databases are rotated, and what is to be done about a rotation that an earlier run began. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import Database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_marker import NEW, OLD, Marker, Stage


class Step(Enum):
    """What is to be done about a copy.

    CONTINUE:  the old database is as it was copied: go on with the rotation
    FINISH:    the old database is gone: fill the new one. Deletes nothing, and the agent needs it
    DROP:      delete the copy: it is stale, empty, or was kept long enough
    KEEP:      nothing yet
    LEAVE:     nothing; a person has to look
    """

    CONTINUE = "continue"
    FINISH = "finish"
    DROP = "drop"
    KEEP = "keep"
    LEAVE = "leave"


@dataclass(frozen=True)
class There:
    """The database of a copy, as it is now. seen: see State; note: what a rotation left in it."""

    seen: tuple[int, ...]
    note: Mapping[str, str]


@dataclass(frozen=True)
class Copy:
    """A database whose name is one of a copy. database: the one it is of; empty: it never held a document."""

    name: str
    database: str
    marker: Marker | None
    empty: bool = False


@dataclass(frozen=True)
class Decision:
    """What is to be done about a copy, and why."""

    step: Step
    reason: str


def decide(copy: Copy, there: There | None, now: float, keep: float) -> Decision:
    """What is to be done about a copy. Pure.

    there: its database, None where that is missing; now: UNIX time; keep: seconds that a copy is kept after its end

    A copy is deleted only where its database exists, and either was not replaced or the new one was verified.
    """
    marker = copy.marker
    if marker is None:
        if copy.empty and there:
            return Decision(Step.DROP, "a rotation ended before it copied anything")
        return Decision(Step.LEAVE, "its name is that of a rotation's copy, but it has no marker; look what it is")
    if marker.stage is Stage.DONE:
        return _decide_done(marker, there, now, keep)
    is_old = there is not None and there.note.get("role") == OLD and there.note.get("token") == marker.token
    if marker.stage is Stage.COPYING:
        if there is None:
            return Decision(
                Step.LEAVE, "the database is missing, and this copy of it is not complete; look for a backup"
            )
        if not is_old or there.seen != marker.state.seen:
            return Decision(Step.DROP, "the database was written to, so that the copy begun is of no use")
        return Decision(Step.CONTINUE, "a rotation was interrupted while it copied")
    if not is_old or there is None:
        return Decision(Step.FINISH, "a rotation was interrupted before the new database was complete")
    if there.seen != marker.state.seen:
        return Decision(Step.DROP, "the database was written to, so that the copy is of no use")
    return Decision(Step.CONTINUE, "a rotation was interrupted before the old database was deleted")


def _decide_done(marker: Marker, there: There | None, now: float, keep: float) -> Decision:
    if there is None or there.note.get("role") not in (OLD, NEW):
        # Deleted, perhaps made anew, by somebody else: the copy may be all that is left.
        return Decision(Step.LEAVE, "the database that was rotated is gone; look whether the copy is needed")
    if now < marker.done + keep:
        return Decision(Step.KEEP, "kept for a while")
    return Decision(Step.DROP, "kept long enough after the rotation")


def is_due(database: Database, minimum_share: float, minimum_tombstones: int) -> bool:
    """Whether tombstones outnumber live documents so far that a database is worth to be rotated. Pure."""
    return database.tombstones >= max(1, minimum_tombstones) and database.tombstone_share >= minimum_share


def room_needed(database: Database) -> int:
    """Bytes that the copy may take. Pure.

    The old database goes before the new one is filled, so there are never more than two. What is copied is live; what
    a database says is ``active`` holds tombstones too, ``external`` is uncompressed, and a file that grew by many
    writes is larger than a compacted one: half as much again was enough by far whenever it was measured.
    """
    return int(1.5 * max(database.sizes.active, database.sizes.external))
