# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner's facts made from plain rows, for tests without a database; what ``facts.py`` has the database count."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable

from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import (
    DONE,
    FREE,
    INPUT,
    NOT_IN_RUCIO,
    NOT_UPLOADED,
    UNKNOWN_STATUS,
    Block,
    Facts,
    FileGroup,
    Outsiders,
    Subscription,
    Workflow,
)
from support.dbsbuffer.rows import File, Rows


def facts_of(rows: Rows, same_name: Callable[[str], str] = str) -> Facts:
    """Every part is a sorted list, or gives one. same_name: makes names equal that are the same to the database."""
    links, outsiders = _connections(rows)
    wmbs_lfns = set(rows.wmbs_lfns)
    in_wmbs = Counter(file.workflow for file in rows.files if file.workflow is not None and file.lfn in wmbs_lfns)
    return Facts(
        workflows=_workflows(rows, same_name),
        blocks=_sorted(
            Block(row.id, row.dataset_id, row.status, row.rule_id, row.deleted, row.create_time) for row in rows.blocks
        ),
        subscriptions=_sorted(
            Subscription(row.dataset_id, row.subscribed, row.delete_blocks) for row in rows.subscriptions
        ),
        groups=_sorted(_groups(rows)),
        links=links_among(links),
        in_wmbs=_sorted(in_wmbs.items()),
        outsiders=_sorted(Outsiders(*key, files) for key, files in outsiders.items()),
    )


def links_among(links: Collection[tuple[int, int]]) -> Callable[[Collection[int]], list[tuple[int, int]]]:
    """These links as a part of facts: those with an end in the rows that are asked for."""
    return lambda rows: _sorted(link for link in links if set(link) & set(rows))


def comparable(facts: Facts) -> dict[str, list]:
    """What is the same for the same facts, wherever they come from."""
    parts = {part: _sorted(values) for part, values in vars(facts).items() if part != "links"}
    rows = [workflow.id for workflow in parts["workflows"]]
    # Others may come with those that were asked for.
    some = {row: _sorted(link for link in facts.links([row]) if row in link) for row in rows}
    return parts | {"links": [_sorted(facts.links(rows)) if rows else [], some]}


def _sorted(values: Iterable) -> list:
    return sorted(values, key=repr)


def _workflows(rows: Rows, same_name: Callable[[str], str]) -> list[Workflow]:
    in_wmbs = {same_name(name) for name in rows.wmbs_names}
    names = {row.id: None if row.name is None else same_name(row.name) for row in rows.workflows}
    first: dict[str, int] = {}
    for row in sorted(rows.workflows):
        if (name := names[row.id]) is not None:
            first.setdefault(name, row.id)
    return _sorted(
        Workflow(row.id, row.name, row.completed, names[row.id] in in_wmbs, first.get(names[row.id]))
        for row in rows.workflows
    )


def _groups(rows: Rows) -> list[FileGroup]:
    dataset = {row.id: row.dataset_id for row in rows.assocs}
    members: dict[tuple, list[File]] = defaultdict(list)
    for file in rows.files:
        if file.workflow is not None or file.block_id is not None:
            members[file.workflow, file.block_id, dataset[file.dataset_algo], state(file)].append(file)
    groups = []
    for key, files in members.items():
        times = [file.modified for file in files if file.modified is not None]
        ids = [file.id for file in files]
        span = min(times, default=None), max(times, default=None)
        groups.append(FileGroup(*key, len(files), len(times), *span, min(ids), max(ids)))
    return groups


def state(file: File) -> str:
    """As :class:`FileGroup` has it."""
    if file.status == "NOTUPLOADED":
        return NOT_UPLOADED
    if file.status == "GLOBAL":
        return INPUT
    if file.status != "InDBS":
        return UNKNOWN_STATUS
    unregistered = (
        file.lfn.startswith(("MCFakeFile", "/store/user")) or "unmerged" in file.lfn or "BACKFILL" in file.lfn
    )
    return DONE if file.in_phedex == 1 or unregistered else NOT_IN_RUCIO


def _connections(rows: Rows) -> tuple[set[tuple[int, int]], Counter]:
    files = {file.id: file for file in rows.files}
    links = {(files[link.child].workflow, files[link.parent].workflow) for link in rows.parents}
    neighbours: dict[int, list[int | None]] = defaultdict(list)
    for child, parent in rows.parents:
        neighbours[child].append(files[parent].workflow)
        neighbours[parent].append(files[child].workflow)
    outsiders: Counter[tuple[int | None, int | None, str]] = Counter()
    for file in rows.files:
        if file.workflow is None:
            near = set(neighbours[file.id])
            first = min(near - {None}, default=None)
            why = _why_outsider(rows, file, None in near)
            outsiders.update((first, workflow, why) for workflow in near or {None})
    return {link for link in links if None not in link and link[0] != link[1]}, outsiders


def _why_outsider(rows: Rows, file: File, linked_to_another: bool) -> str:
    dataset = {row.id: row.dataset_id for row in rows.assocs}[file.dataset_algo]
    if file.block_id is not None or file.status != "GLOBAL" or linked_to_another:
        return "linked to a file of no workflow"
    if file.lfn in rows.wmbs_lfns:
        return "input still in WMBS"
    if any(row.subscribed != 1 for row in rows.subscriptions if row.dataset_id == dataset):
        return "input of a dataset not subscribed yet"
    return FREE
