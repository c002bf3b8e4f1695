# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent leaves in DBSBuffer over its life, file by file, from a seed. Pure; ``generator`` writes it.

A *family* is a chain of one to three steps. Each step fills one dataset and is run by one to three workflows, so that
blocks mix workflows; a step's files are children of the step before, or of inputs that all share. A family is
connected: one file that stays keeps all of its workflows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from support.dbsbuffer.rows import Block, Dataset, File, Parent, Subscription, Workflow

CLEAN, STUCK, RECENT = "clean", "stuck", "recent"
BOGUS = 1
"""The id of dataset ``bogus`` and of its association; inputs belong to it."""

LOCATIONS = 8
_CONCURRENT = 24
_BLOCK_FILES = (80, 140)
_INPUT_EVERY = 20
_LARGEST_FAMILY = 5000
_TIERS = ("GEN-SIM-RAW", "AODSIM", "MINIAODSIM")
_TASKS = ("", "/MergeOutput", "/LogCollect", "/CleanupUnmerged")


def location_of(block: int) -> int:
    """The id of a block's location."""
    return 1 + block % LOCATIONS


@dataclass
class _Step:
    dataset: Dataset
    tasks: list[list[Workflow]]
    deletes_blocks: bool
    unused: list[list[Workflow]]
    recent: list[int] = field(default_factory=list)
    first: int = 0
    block: int | None = None
    room: int = 0
    count: int = 0


@dataclass
class _Family:
    kind: str
    size: int
    steps: list[_Step]
    has_inputs: bool
    stuck_at: int
    done: int = 0
    inputs: list[int] = field(default_factory=list)
    fresh_input: int | None = None


class AgentLife:
    """Iterate over :meth:`files` once; ``workflows``, ``blocks`` and the other lists are complete afterwards."""

    def __init__(self, files: int, seed: int, eligible: float, begin: int, end: int) -> None:
        self.total = files
        self.eligible_files = round(files * eligible)
        self.begin, self.end = begin, end
        self.workflows: list[Workflow] = []
        self.datasets: list[Dataset] = [Dataset(BOGUS, "bogus")]
        self.subscriptions: list[Subscription] = []
        self.blocks: dict[int, Block] = {}
        self.eligible_names: list[str] = []
        self.wmbs_workflows: list[Workflow] = []
        self.wmbs_lfns: list[str] = []
        self._random = random.Random(seed)
        self._emitted = 0
        self._families = 0

    def files(self) -> Iterator[tuple[File, list[Parent]]]:
        """Every file in the order of its id, with its parents, which came before."""
        waiting = self._plan()
        active: list[_Family] = []
        while waiting or active:
            while waiting and len(active) < _CONCURRENT:
                active.append(self._family(*waiting.pop()))
            family = self._random.choice(active)
            # A job's outputs come together.
            for _ in range(min(self._random.randint(1, 5), family.size - family.done)):
                yield self._file(family)
            if family.done == family.size:
                active.remove(family)

    def _plan(self) -> list[tuple[str, int]]:
        """All families to come, the last one first: those that are still running come last of all."""
        staying = self.total - self.eligible_files
        plan = [(CLEAN, size) for size in self._sizes(self.eligible_files)]
        plan += [(STUCK, size) for size in self._sizes(staying // 2)]
        self._random.shuffle(plan)
        return [(RECENT, size) for size in self._sizes(staying - staying // 2)] + plan

    def _sizes(self, total: int) -> list[int]:
        largest = max(40, min(_LARGEST_FAMILY, total // 20))
        sizes = []
        while total:
            size = min(total, int(30 * (largest / 30) ** self._random.random()))
            sizes.append(size)
            total -= size
        return sizes

    def _family(self, kind: str, size: int) -> _Family:
        self._families += 1
        has_inputs = size > 1 and self._random.random() < 0.6
        steps = [self._step(kind, number, has_inputs) for number in range(self._random.randint(1, 3))]
        at = self._random.randrange(size)
        if has_inputs and at % _INPUT_EVERY == 0 and at + 1 < size:
            at += 1  # an input is never stuck
        return _Family(kind, size, steps, has_inputs, at)

    def _step(self, kind: str, number: int, has_inputs: bool) -> _Step:
        family = f"{self._families:06d}"
        dataset = Dataset(len(self.datasets) + 1, f"/Primary{family}/Run3Winter-v{family}/{_TIERS[number]}")
        self.datasets.append(dataset)
        deletes_blocks = self._random.random() < 0.3
        for site in range(1, self._random.randint(1, 2) + 1):
            subscribed = int(kind != RECENT or self._random.random() < 0.5)
            subscription = Subscription(
                len(self.subscriptions) + 1, dataset.id, f"T{site}_XX_Disk", subscribed, int(deletes_blocks)
            )
            self.subscriptions.append(subscription)
        # Workflows of the first step are connected by their inputs alone.
        several = self._random.randint(1, 3) if number or has_inputs else 1
        tasks = [self._workflow(kind, f"{family}_{number}_{one}") for one in range(several)]
        return _Step(dataset, tasks, deletes_blocks, unused=list(tasks))

    def _workflow(self, kind: str, key: str) -> list[Workflow]:
        name = f"cmsunified_task_PPD-Run3Winter-{key}__v1_T_250101_120000_{key[:6]}"
        rows = [
            Workflow(len(self.workflows) + 1 + number, name, f"/{name}/Production{task}", int(kind != RECENT))
            for number, task in enumerate(_TASKS[: self._random.randint(2, len(_TASKS))])
        ]
        self.workflows += rows
        if kind == RECENT:
            self.wmbs_workflows += rows
        elif kind == CLEAN:
            self.eligible_names.append(name)
        return rows

    def _file(self, family: _Family) -> tuple[File, list[Parent]]:
        self._emitted += 1
        position, family.done = family.done, family.done + 1
        if family.has_inputs and position % _INPUT_EVERY == 0 and family.done < family.size:
            file = self._input(family)
            parents: list[int] = []
        else:
            number = self._random.randrange(len(family.steps))
            # A step starts when the one before has a file.
            while number and not family.steps[number - 1].first:
                number -= 1
            step = family.steps[number]
            fresh = bool(step.unused)
            file = self._output(family, step, position)
            parents = self._parents(family, number, fresh)
            step.first = step.first or file.id
            step.recent = [*step.recent[-9:], file.id]
        if family.kind == RECENT:
            self.wmbs_lfns.append(file.lfn)
        return file, [Parent(file.id, parent) for parent in parents]

    def _input(self, family: _Family) -> File:
        family.inputs = [*family.inputs[-4:], self._emitted]
        family.fresh_input = self._emitted
        lfn = f"/store/mc/Input/Primary{family.steps[0].dataset.id:06d}/GEN/{self._name()}"
        return File(self._emitted, lfn, BOGUS, None, "GLOBAL", 1, None, None)

    def _parents(self, family: _Family, number: int, fresh: bool) -> list[int]:
        """The first file of each workflow, and of each input, keeps the family connected."""
        found = [family.fresh_input] if family.fresh_input else []
        family.fresh_input = None
        if number:
            before = family.steps[number - 1]
            return found + ([before.first] if fresh else self._random.sample(before.recent, min(2, len(before.recent))))
        if not family.inputs:
            return []
        other = family.inputs[0] if fresh else self._random.choice(family.inputs)
        return found if other in found else [*found, other]

    def _output(self, family: _Family, step: _Step, position: int) -> File:
        tasks = step.unused.pop() if step.unused else self._random.choice(step.tasks)
        step.count += 1
        stuck = family.kind == STUCK and (position == family.stuck_at or self._random.random() < 0.01)
        unmerged = not stuck and self._random.random() < 0.03
        _, primary, era, tier = step.dataset.path.split("/")
        root = "/store/unmerged" if unmerged else "/store/mc"
        lfn = f"{root}/Run3Winter/{primary}/{tier}/{era}/{step.count // 1000 + 2_500_000}/{self._name()}"
        status, in_phedex = self._progress(family, stuck, unmerged, position)
        block = None if status == "NOTUPLOADED" else self._block(family, step, settled=bool(in_phedex) or unmerged)
        task = tasks[1 if len(tasks) > 2 or self._random.random() < 0.9 else 0]
        # Agents leave it empty; a few were touched by hand.
        modified = self._now() if self._random.random() < 0.01 else None
        # Associations are numbered as their datasets.
        return File(self._emitted, lfn, step.dataset.id, block, status, in_phedex, task.id, modified)

    def _progress(self, family: _Family, stuck: bool, unmerged: bool, position: int) -> tuple[str, int]:
        """How far a file is: status and in_phedex."""
        settled = family.kind != RECENT or position < 0.6 * family.size
        if settled and not stuck:
            return "InDBS", 0 if unmerged else 1
        uploaded = self._random.random() < 0.5 if stuck else position < 0.8 * family.size
        return ("InDBS", 0) if uploaded else ("NOTUPLOADED", 0)

    def _block(self, family: _Family, step: _Step, settled: bool) -> int:
        """The block that the next file of a dataset goes to; it is closed once all of its files are settled."""
        if not step.room or step.block is None:
            step.room = self._random.randint(*_BLOCK_FILES)
            step.block = len(self.blocks) + 1
            self.blocks[step.block] = Block(
                step.block,
                step.dataset.id,
                f"{step.dataset.path}#{self._uuid()}",
                location_of(step.block),
                self._now(),
                "Closed",
                int(step.deletes_blocks),
                f"{self._random.getrandbits(128):032x}",
            )
        step.room -= 1
        if not settled:
            status = self._random.choice(("Open", "Pending", "InDBS")) if family.kind == RECENT else "InDBS"
            self.blocks[step.block] = self.blocks[step.block]._replace(status=status, deleted=0, rule_id="0")
        return step.block

    def _now(self) -> int:
        return self.begin + (self.end - self.begin) * self._emitted // self.total

    def _name(self) -> str:
        return f"{self._uuid()}.root"

    def _uuid(self) -> str:
        text = f"{self._random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
