# SPDX-License-Identifier: GPL-3.0-or-later
"""Find a database's tombstones and purge those that nobody needs any more.

A tombstone is a document all of whose leaf revisions are deleted. All of them are purged in one request: CouchDB would
count a document of which it lost only the winning one as live again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.feed import BEGINNING, Change, Page, read_pages
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.index_warmer import Warmer
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.notes import read_note, write_note
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_guard import Guard
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_requests import (
    Leaves,
    Purger,
    read_largest_batch,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from ansible_collections.dmwm.wmagent.plugins.module_utils._progress import report

NOTE = "purge"
YOUNG = "younger than min_age"
CHANGED = "changed meanwhile"

_PAGE = 10_000
_SMALL_PAGE = 1000
_LONGEST_PAUSE = 10.0

_AGE_FIELDS = ("timestamp", "updatetime")


@dataclass(frozen=True)
class Found:
    """Tombstones of one page.

    held: those that stay, by reason; sequence: after the page; tells_more: whether there was any change on it
    """

    going: list[Leaves]
    held: dict[str, str]
    sequence: str
    tells_more: bool


@dataclass
class Progress:
    """What came of one database so far.

    counted: tombstones that the database had at first
    tombstones: found since the last run; held: those that stay, by reason; unknown: what could not be found out
    stopped_by: why it ended before its end, '' where it did not
    """

    name: str
    counted: int = 0
    tombstones: int = 0
    going: int = 0
    purged: int = 0
    held: Counter[str] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)
    seconds: float = 0.0
    stopped_by: str = ""

    @property
    def rate(self) -> float:
        """Documents purged per second, reading them included."""
        return self.purged / self.seconds if self.seconds else 0.0


def told_age(document: Mapping[str, Any] | None, now: float) -> float | None:
    """Seconds since the newest time that a document tells, None where it tells none. Pure.

    Jobs tell each transition's time, reports and elements of the workqueue one of their own (WMCore's ChangeState and
    CouchWorkQueueElement). Most tombstones hold nothing but their revision.
    """
    if document is None:
        return None
    states = document.get("states")
    places = [document, *(states.values() if isinstance(states, Mapping) else ())]
    times = [
        place[key]
        for place in places
        if isinstance(place, Mapping)
        for key in _AGE_FIELDS
        if isinstance(place.get(key), int | float) and not isinstance(place[key], bool)
    ]
    return now - max(times) if times else None


def _find(page: Page, guard: Guard, min_age: float, now: float) -> Found:
    held: dict[str, str] = {}
    candidates: list[Change] = []
    for change in page.changes:
        if not change.deleted:
            continue
        age = told_age(change.document, now) if min_age else None
        if age is not None and age < min_age:
            held[change.name] = YOUNG
        else:
            candidates.append(change)
    held |= guard.reasons([change.name for change in candidates]) if candidates else {}
    going = [(change.name, change.leaves) for change in candidates if change.name not in held]
    return Found(going, held, page.sequence, bool(page.changes))


def find_tombstones(
    client: CouchClient,
    database: str,
    guard: Guard,
    min_age: float,
    page_size: int = _PAGE,
    clock: Callable[[], float] = time.time,
) -> Iterator[Found]:
    """Tombstones since the last run, a page at a time. Raises WMAgentError.

    min_age: seconds; a tombstone that tells it is younger stays
    """
    since = str(read_note(client, database, NOTE).get("since", BEGINNING))
    for page in read_pages(client, database, since, page_size, documents=bool(min_age)):
        # The guard looks after the page was read: what was deleted later is not on it.
        yield _find(page, guard, min_age, clock())


def count_tombstones(client: CouchClient, progress: Progress, guard: Guard, min_age: float, limits: Limits) -> None:
    """Note what :func:`purge_tombstones` would purge. Changes nothing. Raises WMAgentError."""
    progress.unknown = guard.unknown
    progress.counted = read_database(client, progress.name).tombstones
    for found in find_tombstones(client, progress.name, guard, min_age):
        _count(progress, found)
        report(f"counts tombstones of {progress.name}", progress.tombstones, progress.counted, "tombstones")
        if reason := limits.reason(0):
            progress.stopped_by = reason
            break


def _count(progress: Progress, found: Found) -> None:
    progress.tombstones += len(found.going) + len(found.held)
    progress.going += len(found.going)
    progress.held.update(found.held.values())


def purge_tombstones(
    client: CouchClient,
    progress: Progress,
    guard: Guard,
    min_age: float,
    limits: Limits,
    in_flight: int,
    share: float = 1.0,
) -> None:
    """Purge a database's tombstones, and note how far that came; where something is unknown, only count them.

    share: of the time to be at work, more than 0; below 1 in small steps with a pause after each, so that others wait
           for little at a time

    Raises WMAgentError; what was purged by then is purged, and the next run goes on.
    """
    if guard.unknown:
        count_tombstones(client, progress, guard, min_age, limits)
        return
    database = progress.name
    info = read_database(client, database)
    progress.counted = info.tombstones
    started = time.monotonic()
    with (
        Purger(client, database, read_largest_batch(client), in_flight) as purger,
        Warmer(client, database, info.purged_infos_limit, info.shards, lambda: not limits.reason(0)) as warmer,
    ):
        nothing_held = True
        for found in find_tombstones(client, database, guard, min_age, _PAGE if share >= 1 else _SMALL_PAGE):
            _count(progress, found)
            _purge_page(found.going, purger, warmer, limits, share, progress)
            # One that stays is to be seen again: the note does not pass over it.
            nothing_held = nothing_held and not progress.held.total()
            if nothing_held and not progress.stopped_by and found.tells_more:
                write_note(client, database, NOTE, {"since": found.sequence})
            progress.seconds = time.monotonic() - started
            progress.stopped_by = progress.stopped_by or limits.reason(0)
            if progress.stopped_by:
                break
        warmer.wait()
    progress.seconds = time.monotonic() - started


def _purge_page(
    going: list[Leaves], purger: Purger, warmer: Warmer, limits: Limits, share: float, progress: Progress
) -> None:
    step = warmer.stretch if share >= 1 else min(warmer.stretch, purger.size.documents)
    for start in range(0, len(going), step):
        if reason := limits.reason(0):
            progress.stopped_by = reason
            return
        began = time.monotonic()
        result = purger.purge(going[start : start + step])
        progress.purged += result.documents
        seen = progress.purged + progress.held.total()
        report(f"purges {progress.name}", seen, max(seen, progress.counted), "tombstones")
        if result.left:
            progress.held[CHANGED] += len(result.left)
        warmer.purged()
        if share < 1:
            # Whoever asks a view waits until it has followed all purges.
            warmer.wait()
            time.sleep(min(_LONGEST_PAUSE, (time.monotonic() - began) * (1 / share - 1)))
