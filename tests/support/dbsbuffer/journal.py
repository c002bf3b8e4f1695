# SPDX-License-Identifier: GPL-3.0-or-later
"""All that an agent's writers and a cleanup commit, in one order, and a judge of what the cleanup took.

Every commit is made and written down under one lock. What two sessions fight for is locked in the database until its
commit, so the order of the journal is an order in which the database may have done all of it.

A deletion sees what was committed when its last lock was given (*early*); its commit comes later (*late*). What a lock
protects (a file's own state, links to it, rows of it) must be right late. Anything else may change in between unseen,
so it is wrong where a file was needed for the same reason both early and late.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.driver_errors import DatabaseBusyError
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan, Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.dbsbuffer.brute_force import deletable
from support.dbsbuffer.rows import Block, File, Parent, Rows, Subscription, Workflow

FILE, BLOCK, WORKFLOW = "dbsbuffer_file", "dbsbuffer_block", "dbsbuffer_workflow"
LOCKED = ("dbsbuffer_file_parent", "wmbs_file_details")
"""Tables that a cleanup on Oracle holds. H2 has no LOCK TABLE, so :class:`TableLocks` stands in for it."""

_DELETE = re.compile(r"DELETE FROM (\w+) WHERE (.*)", re.DOTALL)
_LOCK = re.compile(r"LOCK TABLE (\w+) IN SHARE ROW EXCLUSIVE MODE WAIT (\d+)")
_WRITE = re.compile(r"(?:INSERT\s+(?:/\*.*?\*/\s+)?INTO|DELETE FROM|UPDATE)\s+(\w+)", re.DOTALL | re.IGNORECASE)


class State:
    """A database as plain data that changes."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.workflows = {row.id: row for row in rows.workflows}
        self.blocks = {row.id: row for row in rows.blocks}
        self.files = {row.id: row for row in rows.files}
        self.subscriptions = {row.id: row for row in rows.subscriptions}
        self.links = set(rows.parents)
        self.names = Counter(rows.wmbs_names)
        self.lfns = dict.fromkeys(rows.wmbs_lfns, False)
        self.details: dict[str, dict[int, list[Any]]] = {
            part: defaultdict(list) for part in ("runlumis", "file_locations", "checksums")
        }
        for part, details in self.details.items():
            for row in getattr(rows, part):
                details[row[0]].append(row)

    def rows(self) -> Rows:
        """As rows that a database has."""
        parts = {part.name: getattr(self._rows, part.name) for part in fields(Rows)}
        return Rows(
            **parts
            | {part: [row for own in details.values() for row in own] for part, details in self.details.items()}
            | {
                "workflows": list(self.workflows.values()),
                "blocks": list(self.blocks.values()),
                "files": list(self.files.values()),
                "subscriptions": list(self.subscriptions.values()),
                "parents": list(self.links),
                "wmbs_names": list(self.names.elements()),
                "wmbs_lfns": list(self.lfns),
            }
        )

    def linked(self, number: int) -> dict[int, Parent]:
        """Files that a file is linked to in either direction, and the links."""
        return {link.parent if link.child == number else link.child: link for link in self.links if number in link}

    def rows_of(self, number: int) -> list[Any]:
        """All rows that belong to a file, links apart."""
        return [row for details in self.details.values() for row in details.get(number, ())]

    # Changes, each of a row that has to be there, or must not.

    def add_workflow(self, row: Workflow) -> None:
        self.workflows[row.id] = row

    def complete(self, name: str, completed: int = 1) -> None:
        for row in self.workflows.values():
            if row.name == name:
                self.workflows[row.id] = row._replace(completed=completed)

    def add_name(self, name: str) -> None:
        self.names[name] += 1

    def remove_name(self, name: str) -> None:
        del self.names[name]

    def add_lfn(self, lfn: str, relied: bool = False) -> None:
        """relied: whoever added it found a file with this LFN in DBSBuffer, and goes by that."""
        self.lfns[lfn] = relied

    def remove_lfn(self, lfn: str) -> None:
        del self.lfns[lfn]

    def add_file(self, row: File) -> None:
        assert row.id not in self.files, row
        self.files[row.id] = row

    def change_file(self, number: int, **columns: Any) -> None:
        self.files[number] = self.files[number]._replace(**columns)

    def add_detail(self, part: str, row: Any) -> None:
        assert row[0] in self.files, row
        self.details[part][row[0]].append(row)

    def add_link(self, link: Parent) -> None:
        assert link not in self.links and set(link) <= self.files.keys(), link
        self.links.add(link)

    def add_block(self, row: Block) -> None:
        self.blocks[row.id] = row

    def change_block(self, number: int, **columns: Any) -> None:
        self.blocks[number] = self.blocks[number]._replace(**columns)

    def set_subscription(self, row: Subscription) -> None:
        self.subscriptions[row.id] = row

    def delete(self, step: Step) -> None:
        """What a cleanup deleted in one transaction."""
        for number in step.files:
            del self.files[number]
            for details in self.details.values():
                details.pop(number, None)
        self.links = {link for link in self.links if not step.files & set(link)}
        for number in step.blocks:
            del self.blocks[number]
        for number in step.workflows:
            del self.workflows[number]


@dataclass
class Step:
    """One transaction of a cleanup. seen: how many commits it saw after its last lock; plan: the number of its plan."""

    files: set[int] = field(default_factory=set)
    blocks: set[int] = field(default_factory=set)
    workflows: set[int] = field(default_factory=set)
    lfns: set[str] = field(default_factory=set)
    seen: int = 0
    plan: int = -1


@dataclass
class Entry:
    """One commit: of a writer its changes, of the cleanup what it deleted."""

    changes: list[Callable[[State], None]]
    step: Step | None = None


@dataclass
class Planned:
    """A plan; it was made of the state after ``first`` to ``last`` commits."""

    first: int
    last: int
    plan: Plan


class Journal:
    """Commits in their order."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.entries: list[Entry] = []
        self.plans: list[Planned] = []
        self.gone: set[str] = set()

    def length(self) -> int:
        """Commits so far; one that the database has made is among them."""
        with self.lock:
            return len(self.entries)

    def commit(self, connection: Any, changes: list[Callable[[State], None]], step: Step | None = None) -> None:
        """Commit a session's transaction."""
        with self.lock:
            connection.commit()
            if changes or step:
                self.entries.append(Entry(changes, step))
            if step:
                self.gone |= step.lfns

    def is_gone(self, lfn: str) -> bool:
        """Whether the cleanup has deleted a file of this name."""
        with self.lock:
            return lfn in self.gone

    def planning(self, make_plan: Callable[[Any, Rules], Plan]) -> Callable[[Any, Rules], Plan]:
        """The same, with every plan kept."""

        def planned(connection: Any, rules: Rules) -> Plan:
            before = self.length()
            plan = make_plan(connection, rules)
            self.plans.append(Planned(before, self.length(), plan))
            return plan

        return planned


class TableLocks:
    """Oracle's table locks as far as needed: many write, or one holds the table, in the order in which they came."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._writers: dict[str, set[object]] = {table: set() for table in LOCKED}
        self._holder: dict[str, object | None] = dict.fromkeys(LOCKED)
        self._waiting: dict[str, int] = dict.fromkeys(LOCKED, 0)

    def write(self, table: str, who: object) -> None:
        """As by INSERT, UPDATE or DELETE, until :meth:`release`."""
        with self._changed:
            if who in self._writers[table] or self._holder[table] is who:
                return
            if not self._changed.wait_for(lambda: not self._holder[table] and not self._waiting[table], timeout=10):
                raise DatabaseBusyError(f"ORA-00054: {table} is held")
            self._writers[table].add(who)

    def hold(self, table: str, who: object, seconds: float) -> None:
        """As by LOCK TABLE."""
        with self._changed:
            self._waiting[table] += 1
            free = self._changed.wait_for(
                lambda: self._holder[table] in (None, who) and not self._writers[table] - {who}, timeout=seconds
            )
            self._waiting[table] -= 1
            self._changed.notify_all()
            if not free:
                raise DatabaseBusyError(f"ORA-00054: {table} is written to")
            self._holder[table] = who

    def release(self, who: object) -> None:
        """At the end of a transaction."""
        with self._changed:
            for table in LOCKED:
                self._writers[table].discard(who)
                if self._holder[table] is who:
                    self._holder[table] = None
            self._changed.notify_all()


class Session:
    """A session of a writer or of the cleanup; otherwise as the ``Connection`` in it.

    pause: called before each statement
    """

    def __init__(
        self, connection: Any, journal: Journal, locks: TableLocks, pause: Callable[[], None] = lambda: None
    ) -> None:
        self.connection = connection
        self._journal = journal
        self._locks = locks
        self._pause = pause
        self._step = Step()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def oracle(self) -> bool:
        return self.connection.dialect != MARIADB

    def query(self, sql: str, params: Any = ()) -> list[tuple[Any, ...]]:
        self._pause()
        rows: list[tuple[Any, ...]] = self.connection.query(sql, params)
        if "FOR UPDATE" in sql:
            self._step.seen = self._journal.length()
        return rows

    def execute(self, sql: str, params: Any = ()) -> int:
        self._pause()
        if lock := _LOCK.fullmatch(sql):
            self._locks.hold(lock[1], self, float(lock[2]))
            self._step.seen = self._journal.length()
            return 0
        if self.oracle and (write := _WRITE.match(sql)) and write[1].lower() in LOCKED:
            self._locks.write(write[1].lower(), self)
        if match := _DELETE.fullmatch(sql):
            self._note(match[1], match[2], params)
        return int(self.connection.execute(sql, params))

    def _note(self, table: str, condition: str, params: Any) -> None:
        wanted = {FILE: self._step.files, BLOCK: self._step.blocks, WORKFLOW: self._step.workflows}.get(table)
        if wanted is not None:
            wanted |= {row[0] for row in self.connection.query(f"SELECT id FROM {table} WHERE {condition}", params)}
        if table == FILE:
            rows = self.connection.query(f"SELECT lfn FROM {table} WHERE {condition}", params)
            self._step.lfns |= {row[0] for row in rows}

    def begin(self) -> None:
        self._step = Step(plan=len(self._journal.plans) - 1)
        self.connection.begin()

    def commit(self) -> None:
        """The cleanup's own; a writer's transaction ends with :meth:`transaction`."""
        step = self._step
        self._journal.commit(self.connection, [], step if step.files or step.blocks or step.workflows else None)
        self._locks.release(self)

    def rollback(self) -> None:
        self.connection.rollback()
        self._locks.release(self)

    def close(self) -> None:
        self.connection.close()
        self._locks.release(self)

    @contextmanager
    def transaction(self) -> Iterator[list[Callable[[State], None]]]:
        """One transaction of a writer; put what it changes into the list."""
        changes: list[Callable[[State], None]] = []
        self.connection.begin()
        try:
            yield changes
            self._journal.commit(self.connection, changes)
        except BaseException:
            with suppress(WMAgentError):
                self.connection.rollback()
            raise
        finally:
            self._locks.release(self)


class Judge:
    """Goes through a journal. complaints: what was wrong, in words."""

    def __init__(self, rows: Rows, journal: Journal, rules: Rules) -> None:
        self.state = State(rows)
        self.complaints: list[str] = []
        self._journal = journal
        self._rules = rules
        self._dataset = {row.id: row.dataset_id for row in rows.assocs}
        self._fitting: set[int] = set()

    def judge(self) -> State:
        """The state in the end."""
        entries = self._journal.entries
        steps = [entry.step for entry in entries if entry.step]
        early: dict[int, tuple[dict[Any, set[str]], State]] = {}
        for index in range(len(entries) + 1):
            self._compare_plans(index)
            for step in steps:
                if step.seen == index:
                    early[id(step)] = self._needs(step), _copy(self.state)
            if index == len(entries):
                break
            entry = entries[index]
            if entry.step:
                self._complain(entry.step, *early[id(entry.step)])
                self.state.delete(entry.step)
            for change in entry.changes:
                change(self.state)
        for number in set(range(len(self._journal.plans))) - self._fitting:
            self.complaints.append(f"plan {number} is not what may go at its time")
        return self.state

    def _compare_plans(self, index: int) -> None:
        for number, planned in enumerate(self._journal.plans):
            if planned.first <= index <= planned.last and number not in self._fitting:
                may = deletable(self.state.rows(), self._rules.now, self._rules.retention, self._rules.block_rules)
                plan = planned.plan
                if (set(plan.workflows), set(plan.blocks), plan.files) == (may.workflows, may.blocks, len(may.files)):
                    self._fitting.add(number)

    def _complain(self, step: Step, early: dict[Any, set[str]], before: State) -> None:
        late = self._needs(step)
        for what, reasons in late.items():
            for reason in reasons & early.get(what, set()):
                self.complaints.append(f"{what} was deleted: {reason}")
        for number in step.files:
            for reason in self._written_while_locked(number, step, before):
                self.complaints.append(f"file {number} was deleted: {reason}")

    def _written_while_locked(self, number: int, step: Step, before: State) -> Iterator[str]:
        file = self.state.files[number]
        if not done(file):
            yield f"it is {file.status}, in_phedex {file.in_phedex}"
        for other, link in self.state.linked(number).items():
            if other not in step.files and link not in before.links:
                yield f"while it was locked, {link} was made"
        if self.state.rows_of(number) != before.rows_of(number):
            yield "while it was locked, it got rows"
        if self.state.lfns.get(file.lfn):
            yield "somebody found it there, and put its LFN into WMBS"

    def _needs(self, step: Step) -> dict[Any, set[str]]:
        plan = self._journal.plans[step.plan].plan
        found: dict[Any, set[str]] = {}
        for number in step.files:
            found["file", number] = set(self._needs_of_file(number, step, plan))
        for number in step.blocks:
            found["block", number] = set(self._needs_of_block(number))
        for number in step.workflows:
            found["workflow", number] = set(self._needs_of_workflow(number))
        return found

    def _needs_of_file(self, number: int, step: Step, plan: Plan) -> Iterator[str]:
        state = self.state
        if number not in state.files:
            return
        file = state.files[number]
        dataset = self._dataset[file.dataset_algo]
        if file.lfn in state.lfns:
            yield "its LFN is in WMBS"
        if any(row.subscribed != 1 for row in state.subscriptions.values() if row.dataset_id == dataset):
            yield "its dataset is not subscribed"
        if file.workflow is None:
            yield from self._needs_of_placeholder(file)
            return
        yield from self._unfinished(file.workflow)
        if file.block_id is not None:
            yield from self._unfit(file.block_id)
        if any(self._is_new(other, file) for other in state.files.values() if other.id > plan.seen):
            yield "its workflow or block has a new file"
        for other, link in state.linked(number).items():
            if other not in step.files and other in state.files and (why := self._stays(state.files[other], plan)):
                yield f"{link}, and {why}"

    def _needs_of_placeholder(self, file: File) -> Iterator[str]:
        if file.status != "GLOBAL" or file.block_id is not None:
            yield "it is no placeholder"
        if self.state.linked(file.id):
            yield "it is linked"

    def _is_new(self, other: File, file: File) -> bool:
        same_block = file.block_id is not None and other.block_id == file.block_id
        return other.workflow == file.workflow or same_block

    def _stays(self, other: File, plan: Plan) -> str:
        if other.workflow is None:
            return "" if other.status == "GLOBAL" and other.block_id is None else f"{other.id} belongs to no workflow"
        if not done(other):
            return f"{other.id} is not done"
        return "" if other.workflow in plan.workflows else f"the workflow of {other.id} stays"

    def _unfinished(self, row: int) -> Iterator[str]:
        name = self.state.workflows[row].name
        if self.state.names[name]:
            yield "its workflow is in WMBS"
        if any(other.completed != 1 for other in self.state.workflows.values() if other.name == name):
            yield "its workflow is not completed"

    def _unfit(self, number: int) -> Iterator[str]:
        block = self.state.blocks.get(number)
        if block is None:
            yield "its block is missing"
        elif block.status != "Closed" or (self._rules.block_rules and block.rule_id == "0"):
            yield "its block is not closed, or has no rule"
        elif block.deleted != 1 and any(
            row.delete_blocks == 1 and row.dataset_id == block.dataset_id for row in self.state.subscriptions.values()
        ):
            yield "its block is still to be deleted"

    def _needs_of_block(self, number: int) -> Iterator[str]:
        yield from self._unfit(number)
        if any(file.block_id == number for file in self.state.files.values()):
            yield "it holds files"

    def _needs_of_workflow(self, number: int) -> Iterator[str]:
        if number not in self.state.workflows:
            return
        yield from self._unfinished(number)
        name = self.state.workflows[number].name
        rows = {row.id for row in self.state.workflows.values() if row.name == name}
        if any(file.workflow in rows for file in self.state.files.values()):
            yield "it has files"


def done(file: File) -> bool:
    """Whether nothing is left to do for a file itself; all LFNs of these tests are of kinds that are registered."""
    return file.status == "GLOBAL" or (file.status == "InDBS" and file.in_phedex == 1)


def _copy(state: State) -> State:
    return State(state.rows())
