# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables are worth writing anew to give space back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MINIMUM_BYTES = 64 * 1024 * 1024
"""A gain that is worth writing a table anew."""

_MARGIN = 1.2
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Size:
    """What a table takes.

    rows:    exact
    data, indexes: bytes in use by rows and by indexes, half-empty pages counted whole
    free:    bytes of its file that nothing uses
    packed:  bytes that its rows and their index entries would take in a table written anew
    unknown: in words, why the bytes that are None are
    """

    rows: int
    data: int | None = None
    indexes: int | None = None
    free: int | None = None
    packed: int | None = None
    unknown: str = ""

    @property
    def total(self) -> int | None:
        """Bytes of its file, or of its segments."""
        if self.data is None or self.indexes is None:
            return None
        return self.data + self.indexes + (self.free or 0)


@dataclass(frozen=True)
class Decision:
    """Whether to write a table anew. gain: bytes that it should give back, None for unknown. reason: in words."""

    table: str
    optimize: bool
    gain: int | None
    reason: str


def plan_optimize(
    sizes: Mapping[str, Size],
    *,
    before: Mapping[str, Size] | None = None,
    minimum_fragmentation: float = 0.3,
    minimum_bytes: int = MINIMUM_BYTES,
    free_disk: int | None = None,
    in_place: bool = False,
) -> list[Decision]:
    """Which tables are worth writing anew, those that are first and by gain, largest first. Pure.

    before:    sizes before rows were deleted, for tables whose ``packed`` nobody knows (Oracle)
    minimum_fragmentation: share of a table that is to be gained, 0 … 1
    minimum_bytes: what is to be gained
    free_disk: bytes free where the tables are written anew; each that was gives its gain to the next
    in_place:  no second copy is written, so no room is needed for one (Oracle)
    """
    gains: dict[str, int] = {}
    decisions: list[Decision] = []
    for table, size in sizes.items():
        gain = _gain(size, (before or {}).get(table))
        if gain is None:
            decisions.append(Decision(table, False, None, f"what it would give back is unknown: {size.unknown}"))
        elif gain < minimum_bytes or gain < minimum_fragmentation * (size.total or 0):
            decisions.append(Decision(table, False, gain, f"it would give back {_share(gain, size)}, which is little"))
        else:
            gains[table] = gain
    chosen: list[Decision] = []
    while gains and (table := _largest_that_fits(gains, sizes, free_disk, in_place)):
        gain = gains.pop(table)
        chosen.append(Decision(table, True, gain, f"it gives back {_share(gain, sizes[table])}"))
        free_disk = None if free_disk is None else free_disk + gain
    refused = [
        Decision(table, False, gain, _no_room(_needed(sizes[table], gain), free_disk)) for table, gain in gains.items()
    ]
    return [*chosen, *sorted([*refused, *decisions], key=lambda one: -(one.gain or 0))]


def _gain(size: Size, before: Size | None) -> int | None:
    if size.total is None:
        return None
    packed = size.packed
    if packed is None and before and before.total is not None and before.rows:
        packed = before.total * size.rows // before.rows
    if packed is None:
        return None
    # What is free for certain counts even where the estimate of the rest is off.
    return max(size.total - packed, size.free or 0, 0)


def _largest_that_fits(
    gains: Mapping[str, int], sizes: Mapping[str, Size], free_disk: int | None, in_place: bool
) -> str:
    fitting = [
        table
        for table, gain in gains.items()
        if in_place or (free_disk is not None and _needed(sizes[table], gain) <= free_disk)
    ]
    return max(fitting, key=lambda table: gains[table], default="")


def _needed(size: Size, gain: int) -> int:
    return int(((size.total or 0) - gain) * _MARGIN)


def _share(gain: int, size: Size) -> str:
    return f"{gain / _MEGABYTE:.1f} of {(size.total or 0) / _MEGABYTE:.1f} MB"


def _no_room(needed: int, free_disk: int | None) -> str:
    if free_disk is None:
        return "how much is free on the database's disk is unknown from here, and a second copy has to fit there"
    return (
        f"its second copy needs {needed / _MEGABYTE:.1f} MB on the database's disk, "
        f"which has {free_disk / _MEGABYTE:.1f} MB free"
    )
