# SPDX-License-Identifier: GPL-3.0-or-later
"""Small random DBSBuffer databases: every column takes all its values, and yet many workflows may be cleaned."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st
from support.dbsbuffer.rows import (
    Assoc,
    Block,
    Checksum,
    Dataset,
    File,
    FileLocation,
    Location,
    Parent,
    Rows,
    RunLumi,
    Subscription,
    Workflow,
)

CUTOFF = 1_700_000_000
"""Ages are drawn around it: give a cleanup this time as "older than"."""

OLD, NEW = CUTOFF - 86_400, CUTOFF + 86_400

MAX_FILES = 25
_DANGLING_BLOCK = 999

REGISTERED = (
    "/store/data/Run1/A/{}.root",
    "/store/mc/Run1/A/{}.root",
    "/store/mc/MCFakeFile/{}.root",
    "/store/data/x/store/user/{}.root",
)
"""LFNs of the kinds that are registered; the last two only look like others."""

NEVER_REGISTERED = (
    "/store/unmerged/Run1/{}.root",
    "/store/data/unmerged-{}.root",
    "MCFakeFile-{}.root",
    "/store/data/BACKFILL/{}.root",
    "/store/user/somebody/{}.root",
    "/store/users/{}.root",
)
"""LFNs of the kinds that never are."""


_integers = lru_cache(maxsize=None)(st.integers)


class _Draw:
    """Draws values, each attribute with its own share of values that stand in a cleanup's way."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self._dirt: dict[str, int] = {}

    def number(self, low: int, high: int) -> int:
        return int(self.draw(_integers(low, high)))

    def one_of(self, values: Sequence[Any]) -> Any:
        return values[self.number(0, len(values) - 1)] if len(values) > 1 else values[0]

    def dirty(self, attribute: str) -> bool:
        """Whether this row's attribute is to be in the way; never in many databases. Shrinks to "no"."""
        if attribute not in self._dirt:
            self._dirt[attribute] = self.one_of((0, 0, 0, 5, 30))
        percent = self._dirt[attribute]
        return bool(percent) and self.number(0, 99) >= 100 - percent

    def value(self, attribute: str, clean: Sequence[Any], dirt: Sequence[Any]) -> Any:
        return self.one_of(dirt if self.dirty(attribute) else clean)


@st.composite
def databases(draw: Any) -> Rows:
    """One database: 1-6 workflow names, 0-25 files."""
    d = _Draw(draw)
    workflows = _workflows(d)
    datasets = [Dataset(number, f"/Primary/Era-{number}/RAW") for number in range(1, d.number(1, 3) + 1)]
    bogus = Dataset(len(datasets) + 1, "bogus")
    assocs = [Assoc(dataset.id, dataset.id) for dataset in [*datasets, bogus]]
    if d.dirty("second assoc"):
        assocs.append(Assoc(len(assocs) + 1, 1))
    subscriptions = _subscriptions(d, datasets)
    locations = [Location(number, f"T{number}_XX_Site") for number in range(1, d.number(1, 2) + 1)]
    blocks = _blocks(d, datasets, subscriptions, locations)
    files = _files(d, workflows, assocs, bogus, blocks)
    return Rows(
        workflows=workflows,
        datasets=[*datasets, bogus],
        assocs=assocs,
        subscriptions=subscriptions,
        locations=locations,
        blocks=blocks,
        files=files,
        parents=_parents(d, files),
        **_details(d, files, locations),
        wmbs_names=_some(d, "in wmbs", sorted({row.name for row in workflows if row.name}), "unknown_to_dbsbuffer"),
        wmbs_lfns=_some(d, "lfn in wmbs", [file.lfn for file in files], "/store/data/unknown_to_dbsbuffer.root"),
    )


def _workflows(d: _Draw) -> list[Workflow]:
    rows: list[Workflow] = []
    for number in range(1, d.number(1, 6) + 1):
        # To MariaDB one is the other but for its task, to Oracle and to Python it is not.
        name = d.value("like another", (f"request_{number}",), ("Request_1", "request_1 ", "#1"))
        name = None if d.dirty("no name") else name
        for task in range(1, d.number(1, 3) + 1):
            completed = d.value("completed", (1,), (0, None, 2))
            rows.append(Workflow(len(rows) + 1, name, f"/request_{number}/Task{task}", completed))
    return rows


def _subscriptions(d: _Draw, datasets: list[Dataset]) -> list[Subscription]:
    rows: list[Subscription] = []
    for dataset in datasets:
        for site in range(1, d.number(0, 2) + 1):
            subscribed = d.value("subscribed", (1,), (0, None, 2))
            delete_blocks = d.one_of((0, 1, None))
            rows.append(Subscription(len(rows) + 1, dataset.id, f"T{site}_XX_Disk", subscribed, delete_blocks))
    return rows


def _blocks(
    d: _Draw, datasets: list[Dataset], subscriptions: list[Subscription], locations: list[Location]
) -> list[Block]:
    deleted_by_rule = {row.dataset_id for row in subscriptions if row.delete_blocks == 1}
    rows: list[Block] = []
    for number in range(1, d.number(0, 5) + 1):
        dataset = d.one_of(datasets)
        rows.append(
            Block(
                number,
                dataset.id,
                f"{dataset.path}#{number}",
                d.one_of(locations).id,
                d.value("block age", (OLD, OLD, None), (NEW, CUTOFF)),
                d.value("block status", ("Closed",), ("Open", "Pending", "InDBS", None, "")),
                d.value("deleted", (1,) if dataset.id in deleted_by_rule else (0, 1, None), (0, None, 2)),
                d.value("rule", ("abc",), ("0",)),
            )
        )
    return rows


def _files(d: _Draw, workflows: list[Workflow], assocs: list[Assoc], bogus: Dataset, blocks: list[Block]) -> list[File]:
    files = []
    for number in range(1, d.number(0, MAX_FILES) + 1):
        kind = d.one_of(("output", "output", "output", "output", "never registered", "input"))
        if kind == "input":
            assoc = next(row for row in assocs if row.dataset_id == bogus.id)
            files.append(
                File(
                    number,
                    _lfn(d, number, REGISTERED),
                    assoc.id,
                    d.value("input block", (None,), [None, *(row.id for row in blocks)]),
                    d.value("input status", ("GLOBAL",), ("InDBS", "NOTUPLOADED", None)),
                    d.value("input in_phedex", (1,), (0, None)),
                    d.value("input workflow", (None,), [row.id for row in workflows]),
                    d.value("input age", (None,), (OLD, NEW)),
                )
            )
        else:
            files.append(
                _output(d, number, kind, workflows, [row for row in assocs if row.dataset_id != bogus.id], blocks)
            )
    return files


def _output(
    d: _Draw, number: int, kind: str, workflows: list[Workflow], assocs: list[Assoc], blocks: list[Block]
) -> File:
    assoc = d.one_of(assocs)
    own = [row.id for row in blocks if row.dataset_id == assoc.dataset_id]
    registered = kind == "output"
    return File(
        number,
        _lfn(d, number, REGISTERED if registered else NEVER_REGISTERED),
        assoc.id,
        d.value("block", own or (None,), [None, _DANGLING_BLOCK, *(row.id for row in blocks)]),
        d.value(
            "status",
            ("InDBS",) if registered else ("InDBS", "GLOBAL", None, ""),
            ("NOTUPLOADED", "GLOBAL", None, "", "OTHER"),
        ),
        d.value("in_phedex", (1,) if registered else (0, 1), (0, None, 2)),
        d.value("workflow", [row.id for row in workflows], (None,)),
        d.value("age", (None, None, OLD), (NEW, CUTOFF)),
    )


def _lfn(d: _Draw, number: int, kinds: Sequence[str]) -> str:
    return str(d.value("lfn", kinds, REGISTERED + NEVER_REGISTERED)).format(number)


def _parents(d: _Draw, files: list[File]) -> list[Parent]:
    """Within a workflow, and from inputs to whatever; where dirty, between any two files in any direction."""
    links: dict[Parent, None] = {}
    by_workflow: dict[int, list[int]] = {}
    inputs = [file.id for file in files if file.workflow is None]
    for file in files:
        if file.workflow is not None:
            others = by_workflow.setdefault(file.workflow, [])
            if others and d.number(0, 2) == 2:
                links[Parent(file.id, d.one_of(others))] = None
            others.append(file.id)
            if inputs and d.number(0, 3) == 3:
                links[Parent(file.id, d.one_of(inputs))] = None
        if d.dirty("parents"):
            links[Parent(file.id, d.one_of(files).id)] = None
    return list(links)


def _details(d: _Draw, files: list[File], locations: list[Location]) -> dict[str, Any]:
    """Up to two lumis, locations and checksums for each file, from one number: they decide nothing."""
    runlumis: list[RunLumi] = []
    file_locations: list[FileLocation] = []
    checksums: list[Checksum] = []
    for file in files:
        number = d.number(0, 80)
        lumis, places, sums, odd = number % 3, number // 3 % 3, number // 9 % 3, number // 27
        runlumis += [RunLumi(file.id, 1 + odd, lumi, (100, None, 0)[odd]) for lumi in range(lumis)]
        file_locations += [FileLocation(file.id, place.id) for place in locations[:places]]
        checksums += [Checksum(file.id, kind, "abcdef" if odd else None) for kind in range(1, sums + 1)]
    return {"runlumis": runlumis, "file_locations": file_locations, "checksums": checksums}


def _some(d: _Draw, attribute: str, values: Sequence[str], stranger: str) -> list[str]:
    return [value for value in values if d.dirty(attribute)] + [stranger] * d.number(0, 1)
