# SPDX-License-Identifier: GPL-3.0-or-later
"""Which DBSBuffer rows may be deleted. Pure: facts in, plan out; docs/dbsbuffer.md tells the rules in words.

The unit is the *workflow* (all rows of one name): its files go together or stay together. Workflows hang together
where their files share a block, where a file of one is the parent of a file of the other, and where both have the same
input (a placeholder: a file that belongs to no workflow, with status GLOBAL, which WMCore's DBSBufferFile.addParents
makes for a parent that it doesn't know). One that stays keeps all that hang together with it, to any distance: that is
the fixed point of the rules on blocks and parents.

Facts come in groups of files that no rule tells apart, so that the database counts and this does not see single files.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass, field

DONE = "done"
INPUT = "input"
NOT_UPLOADED = "NOTUPLOADED"
NOT_IN_RUCIO = "not in Rucio"
UNKNOWN_STATUS = "status unknown"

FREE = "free"
"""Why a file of no workflow stays: for no reason of its own."""
OUTSIDE = "linked to a file of no workflow"

FINISHED = (DONE, INPUT)
"""States of files that may go. An input (status GLOBAL) was not made here, and has no age."""


@dataclass(frozen=True)
class Workflow:
    """One row of dbsbuffer_workflow.

    in_wmbs: its name is in wmbs_workflow
    namesake: lowest id of the rows of its name, None without a name. Which names are the same is the database's to say:
             to MariaDB's collation ``A`` is ``a``, as it is where WMCore marks a workflow as completed by its name
    """

    id: int
    name: str | None
    completed: int | None
    in_wmbs: bool
    namesake: int | None


@dataclass(frozen=True)
class Block:
    """One row of dbsbuffer_block. created: UNIX time, seconds."""

    id: int
    dataset: int
    status: str | None
    rule_id: str | None
    deleted: int | None
    created: int | None


@dataclass(frozen=True)
class Subscription:
    """One row of dbsbuffer_dataset_subscription."""

    dataset: int
    subscribed: int | None
    delete_blocks: int | None


@dataclass(frozen=True)
class FileGroup:
    """Files of one workflow row, block and dataset in one state.

    state:    DONE, INPUT, NOT_UPLOADED, NOT_IN_RUCIO or UNKNOWN_STATUS
    files:    how many
    dated:    how many have a LastModificationDate; WMCore writes none, so a file's age is mostly its block's
    oldest, newest: the first and the latest LastModificationDate, UNIX time, seconds
    first, last: lowest and highest id
    """

    workflow: int | None
    block: int | None
    dataset: int
    state: str
    files: int
    dated: int
    oldest: int | None
    newest: int | None
    first: int
    last: int


@dataclass(frozen=True)
class Outsiders:
    """Files of no workflow that are alike: they have a neighbour in the same workflow, and stay for the same reason.

    A neighbour is a file's parent or child. A file stands here once for each workflow among its neighbours.

    first:    lowest workflow row among the neighbours of each, None where no neighbour has a workflow
    workflow: row of one neighbour; None for neighbours of no workflow, or where there are no neighbours
    why:      FREE for a placeholder that may go once its neighbours have, else why it stays
    files:    how many
    """

    first: int | None
    workflow: int | None
    why: str
    files: int


@dataclass(frozen=True)
class Facts:
    """What the plan is made of.

    links:    is given workflow rows, and gives (child's workflow row, parent's workflow row) of all files with
              workflows of which either is one of those rows; may give others, too
    in_wmbs:  workflow row -> how many of its files are in wmbs_file_details
    """

    workflows: Iterable[Workflow]
    blocks: Iterable[Block]
    subscriptions: Iterable[Subscription]
    groups: Iterable[FileGroup]
    links: Callable[[Collection[int]], Iterable[tuple[int, int]]]
    in_wmbs: Iterable[tuple[int, int]]
    outsiders: Iterable[Outsiders]


@dataclass(frozen=True)
class Rules:
    """What a person may set.

    now:         UNIX time, seconds
    retention:   seconds that a workflow's newest file must be old
    block_rules: RucioInjector makes a rule for each block (its ``createBlockRules``), so a block needs one
    """

    now: float
    retention: float = 0
    block_rules: bool = True

    @property
    def cutoff(self) -> float:
        """The latest time that counts as old."""
        return self.now - self.retention


@dataclass
class Plan:
    """What may be deleted, and why the rest stays.

    workflows: rows of dbsbuffer_workflow that may go with all their files, row id -> name
    blocks:    rows of dbsbuffer_block that may go once no file is in them
    files:     how many files of those workflows there are
    placeholders: how many placeholders go with them, or already have nothing that they stand for
    first, last: lowest and highest id among them; 0 where there are none
    seen:      highest id of all files when the plan was made
    oldest:    time of the oldest dated file or block among them, UNIX time, seconds
    held:      name -> reason -> count, for each workflow that stays; ``#<row id>`` for a row without a name, and a name
               that begins with ``#`` has one more
    held_files: how many files of workflows stay
    held_blocks: reason -> how many blocks stay for a reason of their own
    """

    workflows: dict[int, str] = field(default_factory=dict)
    blocks: list[int] = field(default_factory=list)
    files: int = 0
    placeholders: int = 0
    first: int = 0
    last: int = 0
    seen: int = 0
    oldest: int | None = None
    held: dict[str, dict[str, int]] = field(default_factory=dict)
    held_files: int = 0
    held_blocks: dict[str, int] = field(default_factory=dict)


class _Connected:
    """Which things hang together, to any distance."""

    def __init__(self) -> None:
        self._above: dict[Hashable, Hashable] = {}

    def root(self, one: Hashable) -> Hashable:
        above = self._above.setdefault(one, one)
        while above != one:
            higher = self._above[above]
            self._above[one] = higher
            one, above = above, higher
        return one

    def join(self, one: Hashable, two: Hashable) -> None:
        self._above[self.root(one)] = self.root(two)


@dataclass
class _Unit:
    """All rows of one workflow name, while its facts are gathered."""

    name: str
    rows: list[int] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    files: int = 0
    outputs: int = 0
    newest: int | None = None
    oldest: int | None = None
    first: int = 0
    last: int = 0

    def add_times(self, oldest: int | None, newest: int | None) -> None:
        if newest is not None:
            self.newest = newest if self.newest is None else max(self.newest, newest)
        if oldest is not None:
            self.oldest = oldest if self.oldest is None else min(self.oldest, oldest)


def plan_cleanup(facts: Facts, rules: Rules) -> Plan:
    """Decide for every workflow and block. Each part of ``facts`` is read once, to its end, so it may be a stream."""
    planner = _Planner(rules)
    planner.read_subscriptions(facts.subscriptions)
    planner.read_blocks(facts.blocks)
    planner.read_workflows(facts.workflows)
    planner.read_groups(facts.groups)
    planner.read_in_wmbs(facts.in_wmbs)
    planner.read_outsiders(facts.outsiders)
    planner.judge()
    planner.follow_links(facts.links)
    return planner.plan()


class _Planner:
    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._unsubscribed: set[int] = set()
        self._to_delete: set[int] = set()
        self._created: dict[int, int | None] = {}
        self._block_problems: dict[int, str] = {}
        self._units: dict[int, _Unit] = {}
        self._unit_of: dict[int, int] = {}
        self._filled: dict[int, int] = {}
        self._held_blocks: set[int] = set()
        self._seen = 0
        self._counted: set[tuple[int, int]] = set()
        self._placeholders: Counter[int | None] = Counter()
        self._together = _Connected()
        self._neighbours: dict[int, dict[int, str]] = defaultdict(dict)

    def read_subscriptions(self, subscriptions: Iterable[Subscription]) -> None:
        for one in subscriptions:
            if one.subscribed != 1:
                self._unsubscribed.add(one.dataset)
            if one.delete_blocks == 1:
                self._to_delete.add(one.dataset)

    def read_blocks(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._created[block.id] = block.created
            if problem := self._block_problem(block):
                self._block_problems[block.id] = problem

    def _block_problem(self, block: Block) -> str:
        if block.status != "Closed":
            return "block not Closed"
        if self._rules.block_rules and block.rule_id in (None, "", "0"):
            return "block without a rule"
        if block.dataset in self._to_delete and block.deleted != 1:
            return "block not deleted yet"
        return ""

    def read_workflows(self, workflows: Iterable[Workflow]) -> None:
        for row in workflows:
            key = row.namesake if row.name and row.namesake is not None else row.id
            unit = self._units.setdefault(key, _Unit(_shown(row)))
            unit.rows.append(row.id)
            self._unit_of[row.id] = key
            if not row.name:
                unit.reasons["workflow without a name"] += 1
            if row.completed != 1:
                unit.reasons["task not completed"] += 1
            if row.in_wmbs:
                unit.reasons["still in WMBS"] = 1

    def read_groups(self, groups: Iterable[FileGroup]) -> None:
        for group in groups:
            self._seen = max(self._seen, group.last)
            key = self._unit_of.get(group.workflow) if group.workflow is not None else None
            if group.block is not None:
                self._put_into_block(group.block, key)
            if key is not None:
                self._add_group(self._units[key], key, group)

    def _put_into_block(self, block: int, key: int | None) -> None:
        if key is None:
            self._held_blocks.add(block)
        else:
            self._filled.setdefault(block, key)
            self._connect(key, self._filled[block], "shares a block with a workflow that stays")
        # A file of no workflow in it never goes, and neither does the block.

    def _add_group(self, unit: _Unit, key: int, group: FileGroup) -> None:
        unit.first = min(unit.first, group.first) if unit.files else group.first
        unit.last = max(unit.last, group.last)
        unit.files += group.files
        unit.outputs += group.files if group.state != INPUT else 0
        if group.state not in FINISHED:
            unit.reasons[f"file {group.state}"] += group.files
        if group.dataset in self._unsubscribed:
            unit.reasons["file of a dataset not subscribed yet"] += group.files
        created = self._created.get(group.block) if group.block is not None else None
        unit.add_times(group.oldest, group.newest)
        if group.dated < group.files:
            unit.add_times(created, created)
        if group.block is not None and (key, group.block) not in self._counted:
            problem = self._block_problems.get(group.block)
            problem = problem or ("" if group.block in self._created else "block missing")
            if problem:
                self._counted.add((key, group.block))
                unit.reasons[problem] += 1

    def _connect(self, one: int, two: int, how: str, back: str = "") -> None:
        if one != two:
            self._together.join(one, two)
            self._neighbours[one].setdefault(two, how)
            self._neighbours[two].setdefault(one, back or how)

    def read_in_wmbs(self, in_wmbs: Iterable[tuple[int, int]]) -> None:
        for row, files in in_wmbs:
            self._units[self._unit_of[row]].reasons["file still in WMBS"] += files

    def read_outsiders(self, outsiders: Iterable[Outsiders]) -> None:
        for one in outsiders:
            self._add_outsiders(one)

    def _add_outsiders(self, outsiders: Outsiders) -> None:
        first = None if outsiders.first is None else self._unit_of[outsiders.first]
        if outsiders.why == FREE and outsiders.workflow == outsiders.first:  # each file once
            self._placeholders[first] += outsiders.files
        if outsiders.workflow is None or first is None:
            return
        key = self._unit_of[outsiders.workflow]
        self._connect(first, key, "shares an input with a workflow that stays")
        if outsiders.why != FREE:
            self._units[key].reasons[outsiders.why] += outsiders.files

    def judge(self) -> None:
        """Find each reason that a workflow has to stay by itself; everything but links has been read."""
        for block in self._held_blocks:
            if block in self._filled:
                unit = self._units[self._filled[block]]
                unit.reasons["shares a block with a file of no workflow"] += 1
        for unit in self._units.values():
            self._judge_age(unit)

    def follow_links(self, links: Callable[[Collection[int]], Iterable[tuple[int, int]]]) -> None:
        """Ask for the links of what stays, then for those of what stays because of them, until nothing is new.

        Links among workflows that go tell nothing, and there are many more of them.
        """
        asked: set[int] = set()
        while new := self._rows_that_stay() - asked:
            for child, parent in links(new):
                self._connect(
                    self._unit_of[child],
                    self._unit_of[parent],
                    "child of a workflow that stays",
                    "parent of a workflow that stays",
                )
            asked |= new

    def _rows_that_stay(self) -> set[int]:
        staying = self._staying()
        return {row for key, unit in self._units.items() if self._together.root(key) in staying for row in unit.rows}

    def _staying(self) -> set[Hashable]:
        return {self._together.root(key) for key, unit in self._units.items() if unit.reasons}

    def plan(self) -> Plan:
        staying = self._staying()
        plan = Plan(seen=self._seen)
        for key, unit in sorted(self._units.items()):
            if self._together.root(key) in staying:
                plan.held[unit.name] = dict(unit.reasons) or self._reasons_of_others(key)
                plan.held_files += unit.files
            else:
                _take(plan, unit)
        # All neighbours of a placeholder hang together, so the first tells of all.
        plan.placeholders = sum(
            files for key, files in self._placeholders.items() if key is None or self._together.root(key) not in staying
        )
        self._decide_blocks(plan, staying)
        return plan

    def _judge_age(self, unit: _Unit) -> None:
        if self._rules.retention <= 0:
            return
        if unit.newest is None:
            # Inputs have no age, nor has a workflow without any file, as an interrupted run may leave it.
            if unit.outputs:
                unit.reasons["age unknown"] = 1
        elif unit.newest > self._rules.cutoff:
            unit.reasons["younger than the retention"] = 1

    def _reasons_of_others(self, key: int) -> dict[str, int]:
        # All neighbours stay as well: they hang together with what keeps this one.
        return dict(Counter(self._neighbours[key].values()))

    def _decide_blocks(self, plan: Plan, staying: set[Hashable]) -> None:
        reasons: Counter[str] = Counter()
        for block, created in self._created.items():
            if problem := self._block_problems.get(block):
                reasons[problem] += 1
            elif block in self._held_blocks:
                reasons["holds a file of no workflow"] += 1
            elif block in self._filled:
                if self._together.root(self._filled[block]) in staying:
                    reasons["holds a file of a workflow that stays"] += 1
                else:
                    plan.blocks.append(block)
            elif self._rules.retention > 0 and (created is None or created > self._rules.cutoff):
                reasons["empty, younger than the retention or of unknown age"] += 1
            else:
                plan.blocks.append(block)
        plan.held_blocks = dict(reasons)


def _shown(row: Workflow) -> str:
    if not row.name:
        return f"#{row.id}"
    return f"#{row.name}" if row.name.startswith("#") else row.name


def _take(plan: Plan, unit: _Unit) -> None:
    plan.workflows |= {row: unit.name for row in unit.rows}
    if not unit.files:
        return
    plan.first = min(plan.first, unit.first) if plan.files else unit.first
    plan.last = max(plan.last, unit.last)
    plan.files += unit.files
    if unit.oldest is not None:
        plan.oldest = unit.oldest if plan.oldest is None else min(plan.oldest, unit.oldest)
