# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of CouchDB to compact, in which order; no server here.

A compaction writes what is live into a new file beside the old one, and only then takes the old one away. A database's
also sorts all ids in a second new file (``.compact.meta``), which took a fifth of the first with documents of 1 kB and
half of it with tombstones only (CouchDB 3.5.0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import Sizes
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

NO_SIZES = Sizes(0, 0, 0)

DATABASES = "databases"
VIEWS = "views"

WORTH_IT = "worth it"
BELOW = "too little to gain"
NO_ROOM = "no room"
LEFT_ALONE = "left alone"
RUNS = "being compacted"


@dataclass(frozen=True)
class Rules:
    """What is worth a compaction, and what has to stay free.

    minimum_fragmentation: share of the file that is given back, 0 to 1
    minimum_gain:          bytes that are given back, whatever the share
    large_gain:            bytes that make it worth it at any share
    leave_alone:           seconds for which a part is left alone that its last compaction left as it was
    minimum_free:          bytes that have to stay free beside a compaction's new file

    Raises WMAgentError for numbers that make no sense.
    """

    minimum_fragmentation: float
    minimum_gain: int
    large_gain: int
    leave_alone: float
    minimum_free: int

    def __post_init__(self) -> None:
        if not 0 <= self.minimum_fragmentation <= 1:
            raise WMAgentError(f"minimum_fragmentation is {self.minimum_fragmentation:g}; it is a share from 0 to 1")
        for name in ("minimum_gain", "large_gain", "minimum_free"):
            if getattr(self, name) < 0:
                raise WMAgentError(f"{name} is {getattr(self, name)}; it is a number of bytes, 0 or more")

    def worth_it(self, sizes: Sizes) -> bool:
        """Whether a file of these sizes is worth a compaction."""
        gain = sizes.reclaimable
        share_counts = sizes.fragmentation >= self.minimum_fragmentation
        return gain > 0 and gain >= self.minimum_gain and (share_counts or gain >= self.large_gain)


USUAL_RULES = Rules(0.5, 64 * 1024**2, 10 * 1024**3, 7 * 86_400, 1024**3)
"""What couchdb_compact goes by unless it is told otherwise."""


@dataclass(frozen=True)
class Part:
    """What is compacted in one go: a database (``view`` is empty) or the index of one design document."""

    database: str
    view: str
    sizes: Sizes
    compacting: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Which part it is, whatever its size."""
        return self.database, self.view

    @property
    def kind(self) -> str:
        """Which folder its files are in."""
        return VIEWS if self.view else DATABASES

    def __str__(self) -> str:
        return f"{self.database}/_design/{self.view}" if self.view else self.database


@dataclass(frozen=True)
class Remembered:
    """A part was still worth a compaction right after one. at: UNIX time; reclaimable: bytes unused at that time."""

    at: float
    reclaimable: int


@dataclass(frozen=True)
class Disks:
    """Where the files are. disk_of: kind of part → a name of the disk; free: name of the disk → free bytes.

    A disk without an entry in ``free`` is one that nobody could look at; ``unknown`` says why.
    """

    disk_of: Mapping[str, str]
    free: Mapping[str, int]
    unknown: str = ""

    def free_for(self, part: Part) -> int | None:
        """Free bytes where the part is, None where unknown."""
        return self.free.get(self.disk_of.get(part.kind, ""))


@dataclass(frozen=True)
class Decision:
    """What becomes of a part. why: one of this module's words; reason: the same in a sentence."""

    part: Part
    due: bool
    why: str
    reason: str
    needed: int = field(default=0)


def new_files(part: Part) -> int:
    """Bytes that a compaction writes before it takes the old file away: a view's live part, a database's twice."""
    return part.sizes.active if part.view else 2 * part.sizes.active


def needed_bytes(part: Part, rules: Rules) -> int:
    """Bytes that have to be free before its compaction begins: its new files, and what must stay free."""
    return new_files(part) + rules.minimum_free


def plan(
    parts: Iterable[Part],
    rules: Rules,
    disks: Disks,
    remembered: Mapping[tuple[str, str], Remembered],
    now: float,
) -> list[Decision]:
    """What to compact, in this order, followed by what not.

    The emptiest file comes first, since it gives most back for least copying; its gain counts as free for those
    that follow on the same disk. Those that CouchDB compacts now come last: what that leaves is known by then.
    """
    wanted: list[Part] = []
    rest: list[Decision] = []
    for part in parts:
        held = _held_back(part, rules, remembered.get(part.key), now)
        if held is None:
            wanted.append(part)
        else:
            rest.append(held)
    wanted.sort(key=lambda part: (part.compacting, -part.sizes.fragmentation, -part.sizes.reclaimable, part.key))
    due, without_room = _fit(wanted, rules, disks)
    rest.sort(key=lambda decision: decision.part.key)
    return [*due, *without_room, *rest]


def worst_case(decisions: Iterable[Decision]) -> int:
    """Bytes that the compactions may need at worst.

    One runs at a time. All of a file may turn out to be live, where it was written to meanwhile.
    """
    return max((max(one.part.sizes.file, new_files(one.part)) for one in decisions if one.due), default=0)


def _held_back(part: Part, rules: Rules, remembered: Remembered | None, now: float) -> Decision | None:
    sizes = part.sizes
    if not rules.worth_it(sizes):
        if part.compacting:
            return Decision(part, False, RUNS, "CouchDB compacts it now")
        return Decision(part, False, BELOW, f"would give back {sizes.reclaimable} bytes ({sizes.fragmentation:.0%})")
    # One that is noted for a time to come was noted by a clock that went wrong, and holds nothing back.
    if remembered is None or not 0 <= now - remembered.at < rules.leave_alone:
        return None
    if sizes.reclaimable > 2 * remembered.reclaimable:
        return None
    days = (now - remembered.at) / 86400
    return Decision(
        part, False, LEFT_ALONE, f"its last compaction, {days:.1f} days ago, could not give this back either"
    )


def _fit(wanted: Sequence[Part], rules: Rules, disks: Disks) -> tuple[list[Decision], list[Decision]]:
    free = dict(disks.free)
    due: list[Decision] = []
    waiting = list(wanted)
    while True:
        fitting = next((part for part in waiting if _fits(part, rules, disks, free)), None)
        if fitting is None:
            break
        waiting.remove(fitting)
        free[disks.disk_of[fitting.kind]] += fitting.sizes.reclaimable
        reason = f"gives back {fitting.sizes.reclaimable} bytes ({fitting.sizes.fragmentation:.0%})"
        if fitting.compacting:
            reason += "; CouchDB compacts it now, and is waited for: only what that leaves is compacted"
        due.append(Decision(fitting, True, WORTH_IT, reason, needed_bytes(fitting, rules)))
    held = [
        Decision(part, False, NO_ROOM, no_room(part, rules, disks, free), needed_bytes(part, rules)) for part in waiting
    ]
    return due, held


def _fits(part: Part, rules: Rules, disks: Disks, free: Mapping[str, int]) -> bool:
    there = free.get(disks.disk_of.get(part.kind, ""))
    return there is not None and there >= needed_bytes(part, rules)


def no_room(part: Part, rules: Rules, disks: Disks, free: Mapping[str, int]) -> str:
    """Why a part does not fit, in a sentence."""
    there = free.get(disks.disk_of.get(part.kind, ""))
    if there is None:
        return disks.unknown or "nobody knows how much is free where it is"
    return f"needs {needed_bytes(part, rules)} bytes free, {there} are"
