# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be deleted, read literally from the rules: start with everything, take back what may not go, until all may.

It is slow, knows neither SQL nor groups, and shares no code with the planner that it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB
from support.dbsbuffer.rows import Block, File, Rows, Workflow


@dataclass(frozen=True)
class Deletable:
    """Ids of what may go.

    files:        files of a workflow
    placeholders: files of no workflow
    workflows:    rows of dbsbuffer_workflow
    """

    files: frozenset[int]
    placeholders: frozenset[int]
    workflows: frozenset[int]
    blocks: frozenset[int]


def same_name_in(dialect: str) -> Callable[[str], str]:
    """What makes names equal that are the same to the database: MariaDB compares by its default collation."""
    return (lambda name: name.casefold().rstrip(" ")) if dialect == MARIADB else str


def deletable(
    rows: Rows, now: float, retention: float, block_rules: bool = True, same_name: Callable[[str], str] = str
) -> Deletable:
    """retention: seconds; 0: age plays no part. same_name: makes names equal that are the same to the database."""
    return _BruteForce(rows, now, retention, block_rules, same_name).answer()


def oldest(rows: Rows, files: frozenset[int]) -> int | None:
    """The earliest time that is known of any of these files."""
    created = {row.id: row.create_time for row in rows.blocks}
    times = [
        created.get(file.block_id) if file.modified is None else file.modified
        for file in rows.files
        if file.id in files
    ]
    return min((time for time in times if time is not None), default=None)


def without(rows: Rows, gone: Deletable) -> Rows:
    """The same database without what may go."""
    files = gone.files | gone.placeholders
    return replace(
        rows,
        workflows=[row for row in rows.workflows if row.id not in gone.workflows],
        blocks=[row for row in rows.blocks if row.id not in gone.blocks],
        files=[row for row in rows.files if row.id not in files],
        parents=[row for row in rows.parents if row.child not in files and row.parent not in files],
        runlumis=[row for row in rows.runlumis if row.filename not in files],
        file_locations=[row for row in rows.file_locations if row.filename not in files],
        checksums=[row for row in rows.checksums if row.fileid not in files],
    )


class _BruteForce:
    def __init__(
        self, rows: Rows, now: float, retention: float, block_rules: bool, same_name: Callable[[str], str]
    ) -> None:
        self.rows = rows
        self.name = {row.id: same_name(row.name or "") for row in rows.workflows}
        self.wmbs_names = {same_name(name) for name in rows.wmbs_names}
        self.retention = retention
        self.latest = now - retention
        self.block_rules = block_rules
        self.workflows = {row.id: row for row in rows.workflows}
        self.blocks = {row.id: row for row in rows.blocks}
        self.files = {row.id: row for row in rows.files}
        self.dataset = {row.id: row.dataset_id for row in rows.assocs}
        self.linked = {row.id: self._linked_with(row.id) for row in rows.files}
        self.going_files = set(self.files)
        self.going_workflows = set(self.workflows)

    def _linked_with(self, one: int) -> set[int]:
        # Nothing links a file with itself; a placeholder that is stays, as next to any other file of no workflow.
        parents = {row.parent for row in self.rows.parents if row.child == one}
        children = {row.child for row in self.rows.parents if row.parent == one}
        return parents | children

    def answer(self) -> Deletable:
        while self._take_back():
            pass
        return Deletable(
            files=frozenset(one for one in self.going_files if self.files[one].workflow is not None),
            placeholders=frozenset(one for one in self.going_files if self.files[one].workflow is None),
            workflows=frozenset(self.going_workflows),
            blocks=frozenset(row.id for row in self.rows.blocks if self._block_goes(row)),
        )

    def _take_back(self) -> bool:
        """Whether something had to be taken back."""
        files = {one for one in self.going_files if not self._file_may_go(self.files[one])}
        workflows = {one for one in self.going_workflows if not self._workflow_may_go(self.workflows[one])}
        self.going_files -= files
        self.going_workflows -= workflows
        return bool(files or workflows)

    def _workflow_may_go(self, row: Workflow) -> bool:
        same_name = [other for other in self.rows.workflows if self.name[other.id] == self.name[row.id]]
        ids = {other.id for other in same_name}
        files = [file for file in self.rows.files if file.workflow in ids]
        return (
            bool(row.name)
            and all(other.completed == 1 for other in same_name)
            and self.name[row.id] not in self.wmbs_names
            and self._old_enough(files)
            and all(file.id in self.going_files for file in files)
        )

    def _old_enough(self, files: list[File]) -> bool:
        # An input was not made here, and has no age of its own.
        if self.retention <= 0 or all(file.status == "GLOBAL" for file in files):
            return all(time is None or self.retention <= 0 or time <= self.latest for time in map(self._time, files))
        known = [time for time in map(self._time, files) if time is not None]
        return bool(known) and max(known) <= self.latest

    def _time(self, file: File) -> int | None:
        if file.modified is not None:
            return file.modified
        block = self.blocks.get(file.block_id) if file.block_id is not None else None
        return block.create_time if block else None

    def _file_may_go(self, file: File) -> bool:
        return (
            self._subscribed(self.dataset[file.dataset_algo])
            and file.lfn not in self.rows.wmbs_lfns
            and self.linked[file.id] <= self.going_files
            and (self._placeholder_may_go(file) if file.workflow is None else self._workflows_file_may_go(file))
        )

    def _subscribed(self, dataset: int) -> bool:
        return all(row.subscribed == 1 for row in self.rows.subscriptions if row.dataset_id == dataset)

    def _placeholder_may_go(self, file: File) -> bool:
        return (
            file.status == "GLOBAL"
            and file.block_id is None
            and all(self.files[other].workflow is not None for other in self.linked[file.id])
        )

    def _workflows_file_may_go(self, file: File) -> bool:
        if file.workflow not in self.going_workflows or not self._done(file):
            return False
        if file.block_id is None:
            return True
        block = self.blocks.get(file.block_id)
        return block is not None and self._block_may_go(block) and self._all_go_from(file.block_id)

    def _done(self, file: File) -> bool:
        never_registered = (
            "unmerged" in file.lfn
            or file.lfn.startswith("MCFakeFile")
            or "BACKFILL" in file.lfn
            or file.lfn.startswith("/store/user")
        )
        return file.status == "GLOBAL" or (file.status == "InDBS" and (file.in_phedex == 1 or never_registered))

    def _block_may_go(self, block: Block) -> bool:
        to_be_deleted = any(
            row.delete_blocks == 1 for row in self.rows.subscriptions if row.dataset_id == block.dataset_id
        )
        return (
            block.status == "Closed"
            and not (self.block_rules and block.rule_id in ("0", "", None))
            and not (to_be_deleted and block.deleted != 1)
        )

    def _all_go_from(self, block: int) -> bool:
        return all(file.id in self.going_files for file in self.rows.files if file.block_id == block)

    def _block_goes(self, block: Block) -> bool:
        if not self._block_may_go(block):
            return False
        if any(file.block_id == block.id for file in self.rows.files):
            return self._all_go_from(block.id)
        return self.retention <= 0 or (block.create_time is not None and block.create_time <= self.latest)
