# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a compaction has come, and whether it ever ends; no server here.

A compaction copies what was there when it began, then what was written meanwhile, and so on, until nothing is left.
So it ends only where it copies faster than others write.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COPYING = "document_copy"
"""The phase in which CouchDB's task counts changes; in those that follow it counts other things."""

VIEW_COPYING = "view"
"""What a view's task does; it counts rows, which cannot be compared with changes."""

RESTARTS_AT_MOST = 3


@dataclass(frozen=True)
class Shard:
    """One shard's task. phase: CouchDB's word; done, total: in that phase."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class Sample:
    """One look. at: seconds; written: number of the database's update sequence; shards: shard → its task."""

    at: float
    written: int
    shards: Mapping[str, Shard]


@dataclass(frozen=True)
class Progress:
    """What the looks tell.

    percent:    of what the tasks count now; None where there is no task
    per_second: changes copied; written_per_second: changes that others wrote meanwhile
    eta:        seconds until this pass over the data ends; None where nothing moves
    converging: False where it was seen for long enough that it will not end
    """

    percent: int | None
    per_second: float
    written_per_second: float
    eta: float | None
    converging: bool

    def __str__(self) -> str:
        percent = "no figure yet" if self.percent is None else f"{self.percent} %"
        eta = "" if self.eta is None else f", {self.eta:.0f} s left"
        return f"{percent}, {self.per_second:.1f} changes/s copied, {self.written_per_second:.1f}/s written{eta}"


def progress(samples: Sequence[Sample], patience: float) -> Progress:
    """What a row of looks tells, the last being the newest.

    patience: seconds for which others must have written at least as much as was copied, before it counts as one that
              does not converge
    """
    if not samples:
        return Progress(None, 0.0, 0.0, None, True)
    last = samples[-1]
    window = [sample for sample in samples if sample.at >= last.at - patience]
    seconds = last.at - window[0].at
    copied = sum(_copied(*pair) for pair in itertools.pairwise(window))
    written = max(0, last.written - window[0].written)
    total = sum(shard.total for shard in last.shards.values())
    done = sum(shard.done for shard in last.shards.values())
    rate = copied / seconds if seconds > 0 else 0.0
    return Progress(
        percent=min(100, 100 * done // total) if total else None,
        per_second=rate,
        written_per_second=written / seconds if seconds > 0 else 0.0,
        eta=max(0, total - done) / rate if rate > 0 else None,
        converging=not (_outrun(samples, window, patience, copied, written) or _goes_in_circles(samples)),
    )


def _copied(before: Sample, after: Sample) -> int:
    """Changes copied between two looks; a task seen anew has copied what it says."""
    copied = 0
    for name, shard in after.shards.items():
        known = before.shards.get(name, Shard("", 0, 0))
        begun_anew = known.phase != shard.phase or shard.done < known.done
        copied += shard.done if begun_anew else shard.done - known.done
    return copied


def _outrun(samples: Sequence[Sample], window: Sequence[Sample], patience: float, copied: int, written: int) -> bool:
    """Whether what remains has not shrunk for as long as the patience lasts.

    What remains is the difference of what is written and what is copied, so it shrinks only where more is copied.
    """
    watched_long_enough = len(window) > 2 and samples[-1].at - samples[0].at >= patience
    copying = all(any(shard.phase == COPYING for shard in sample.shards.values()) for sample in window)
    return watched_long_enough and copying and written > 0 and written >= copied


def _goes_in_circles(samples: Sequence[Sample]) -> bool:
    """Whether a shard's pass over what was written meanwhile has begun again and again with no less to do."""
    passes: dict[str, list[int]] = {}
    for before, after in itertools.pairwise(samples):
        for name, shard in after.shards.items():
            known = before.shards.get(name)
            if known is None or shard.phase != COPYING:
                continue
            if known.phase != COPYING or shard.done < known.done:
                passes.setdefault(name, []).append(shard.total)
    return any(
        len(totals) > RESTARTS_AT_MOST
        and all(later >= earlier > 0 for earlier, later in zip(totals[-4:], totals[-3:], strict=False))
        for totals in passes.values()
    )
