# SPDX-License-Identifier: GPL-3.0-or-later
"""Compacting CouchDB's files, one at a time, and telling what it gained.

CouchDB says only "accepted": it takes a compaction's order also where its disk is full, and ends it without a word. So
what was done is told by the sizes before and after, and by nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import compaction_plan as planning
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchError
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import (
    NO_SIZES,
    Decision,
    Disks,
    Part,
    Remembered,
    Rules,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_progress import (
    COPYING,
    VIEW_COPYING,
    Progress,
    Sample,
    Shard,
    progress,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import (
    Sizes,
    path_of,
    read_database,
    read_view,
    sequence,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.notes import read_note, remove_note, write_note
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from ansible_collections.dmwm.wmagent.plugins.module_utils._progress import report

NOTE = "compact"
_KINDS = ("database_compaction", "view_compaction")
# A run of days would keep each look; what counts is the last few minutes.
_SAMPLES_KEPT = 5000

DONE = "done"
GAINED_LITTLE = "gained little"
GAINED_NOTHING = "gained nothing"
NOT_NEEDED = "not needed any more"
NO_ROOM = "no room any more"
STILL_RUNNING = "still running"
NOT_CONVERGING = "not converging"

ADVICE = {
    GAINED_NOTHING: "is its disk full? CouchDB's log tells why a compaction ended, and what it wrote until then, its "
    ".compact files, stays on the disk until the next one",
    GAINED_LITTLE: "less than half of what was unused; was its disk full, or was much written meanwhile?",
    NOT_CONVERGING: "others write faster than it copies; compact while the components are stopped or in a quiet hour, "
    "or rotate the database",
}


@dataclass(frozen=True)
class Pace:
    """How often to look. Seconds.

    shortest, longest: between two looks; it begins with the shortest
    settle:            for which sizes may stay as they were after a compaction ended, before it has gained nothing
    patience:          for which others may write more than is copied, before it does not converge
    """

    shortest: float = 0.25
    longest: float = 5.0
    settle: float = 5.0
    patience: float = 600.0


@dataclass(frozen=True)
class Task:
    """A compaction that runs. part: without sizes; shard: its file; progress: as CouchDB counts."""

    part: Part
    shard: str
    progress: Shard


@dataclass
class Outcome:
    """What became of one part. before, after: its sizes; progress: the last that was seen of it."""

    part: Part
    after: Sizes
    seconds: float
    state: str
    progress: str = ""

    @property
    def gained(self) -> int:
        """Bytes that the file is smaller now; below 0 where it has grown."""
        return self.part.sizes.file - self.after.file


@dataclass
class Compaction:
    """One run over some databases.

    names:    databases
    disks:    called whenever it matters how much is free
    note:     is told what happens, one line each
    clean_up: whether files of indexes that no design document has any more are removed
    """

    client: CouchClient
    names: list[str]
    rules: Rules
    limits: Limits
    disks: Callable[[], Disks]
    note: Callable[[str], None] = lambda text: None
    warn: Callable[[str], None] = lambda text: None
    clean_up: bool = True
    pace: Pace = field(default_factory=Pace)
    decisions: list[Decision] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    cleaned_up: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    stopped_by: str = ""
    free: Mapping[str, int] = field(default_factory=dict)

    @property
    def due(self) -> list[Decision]:
        """What the plan wants to compact, in order."""
        return [decision for decision in self.decisions if decision.due]

    @property
    def left(self) -> list[str]:
        """Parts that were due and that nothing was done about."""
        seen = {outcome.part.key for outcome in self.outcomes}
        return [str(one.part) for one in self.due if one.part.key not in seen]

    def look(self) -> None:
        """Plan. Raises WMAgentError."""
        tasks(self.client)  # says at once where the account is no admin's
        disks = self.disks()
        self.free = disks.free
        parts: list[Part] = []
        remembered: dict[tuple[str, str], Remembered] = {}
        for name in self.names:
            parts += parts_of(self.client, name)
            remembered.update(_remembered(self.client, name))
        self.decisions = planning.plan(parts, self.rules, disks, remembered, time.time())

    def run(self) -> None:
        """Compact what is due. Raises WMAgentError; what was done until then is in ``outcomes``."""
        for name in self.names if self.clean_up else []:
            if self._ends():
                return
            self.client.post(path_of(name, "_view_cleanup"), {})
            self.cleaned_up.append(name)
        if any(decision.why == planning.RUNS for decision in self.decisions):
            # Often an earlier run's that went on after its deadline; the one who asks again wants to see its end.
            self._wait_for_others()
        for decision in [] if self.stopped_by else self.due:
            self._wait_for_others()
            if self.stopped_by or self._ends():
                return
            outcome = self._compact(decision)
            if outcome.state in (DONE, GAINED_LITTLE) and self.rules.worth_it(outcome.after) and not self._ends():
                outcome = self._compact_again(decision, outcome)
            self.outcomes.append(outcome)
            self._remember(outcome)
            advice = ADVICE.get(outcome.state)
            if advice:
                self.warn(f"{decision.part}: {outcome.state}; {advice}")
            if self.stopped_by:
                return
        self.free = self.disks().free or self.free

    def _ends(self) -> bool:
        self.stopped_by = self.limits.reason(0)
        return bool(self.stopped_by)

    def _wait_for_others(self) -> None:
        """Until CouchDB compacts nothing, neither by itself nor by another's order."""
        pause = self.pace.shortest
        watched: dict[Part, list[Sample]] = {}
        while True:
            now, found = time.monotonic(), tasks(self.client)
            self.running = sorted({str(task.part) for task in found})
            if not self.running or self._ends():
                return
            for part in {task.part for task in found}:
                samples = watched.setdefault(part, [])
                samples.append(Sample(now, _written(self.client, part), _shards(found, part)))
                del samples[:-_SAMPLES_KEPT]
                seen = progress(samples, self.pace.patience)
                self.note(f"waiting for CouchDB's own compaction of {part}: {seen}")
                report(f"waits for CouchDB's own compaction of {part}", seen.percent or 0, 100, "%", eta=seen.eta)
                if not seen.converging:
                    self.stopped_by = NOT_CONVERGING
                    self.warn(
                        f"{part}: its compaction, which CouchDB began, is not converging; {ADVICE[NOT_CONVERGING]}"
                    )
                    return
            pause = self._pause(pause)

    def _compact(self, decision: Decision) -> Outcome:
        begin = time.monotonic()
        part = replace(decision.part, sizes=sizes_of(self.client, decision.part)[0])
        if not self.rules.worth_it(part.sizes):
            return Outcome(part, part.sizes, 0.0, NOT_NEEDED)
        disks = self.disks()
        there = disks.free_for(part)
        if there is None or there < planning.needed_bytes(part, self.rules):
            self.warn(f"{part}: {planning.no_room(part, self.rules, disks, disks.free)}")
            return Outcome(part, part.sizes, 0.0, NO_ROOM)
        self.note(f"{part}: compaction of {part.sizes.file} bytes, {part.sizes.active} in use, begins")
        self.running = [str(part)]
        order = ["_compact", *([quote(part.view, safe="")] if part.view else [])]
        self.client.post(path_of(part.database, *order), {})
        state, sizes, seen = self._wait(part)
        if state not in (STILL_RUNNING, NOT_CONVERGING):
            self.running = []
        outcome = Outcome(part, sizes, time.monotonic() - begin, state, str(seen) if seen else "")
        self.note(f"{part}: {state}, {outcome.gained} bytes gained in {outcome.seconds:.0f} s")
        return outcome

    def _compact_again(self, decision: Decision, first: Outcome) -> Outcome:
        """What was purged or written while it was copied stays in the new file: the next pass gives that room back."""
        second = self._compact(decision)
        ended = second.state in (DONE, GAINED_LITTLE, GAINED_NOTHING)
        state = _ended(first.part.sizes, second.after) if ended else second.state
        return Outcome(first.part, second.after, first.seconds + second.seconds, state, second.progress)

    def _wait(self, part: Part) -> tuple[str, Sizes, Progress | None]:
        samples: list[Sample] = []
        seen: Progress | None = None
        pause, quiet_since, before = self.pace.shortest, None, part.sizes
        while True:
            now = time.monotonic()
            sizes, compacting, written = sizes_of(self.client, part)
            shards = _shards(tasks(self.client), part)
            if compacting or shards:
                quiet_since = None
                samples.append(Sample(now, written, shards))
                del samples[:-_SAMPLES_KEPT]
                seen = progress(samples, self.pace.patience)
                self.note(f"{part}: {seen}")
                report(f"compacts {part}", seen.percent or 0, 100, "%", eta=seen.eta)
                if not seen.converging:
                    self.stopped_by = NOT_CONVERGING
                    return NOT_CONVERGING, sizes, seen
            else:
                # Sizes change a moment after the end, and one shard's compaction may begin after another's has ended.
                quiet_since = now if quiet_since is None else quiet_since
                smaller = sizes.file < part.sizes.file and sizes == before
                if smaller or now - quiet_since >= self.pace.settle:
                    return _ended(part.sizes, sizes), sizes, seen
            if self._ends():
                return STILL_RUNNING, sizes, seen
            before = sizes
            pause = self._pause(pause if quiet_since is None else self.pace.shortest)

    def _pause(self, seconds: float) -> float:
        left = self.limits.seconds_left()
        time.sleep(seconds if left is None else min(seconds, left))
        return min(seconds * 1.5, self.pace.longest)

    def _remember(self, outcome: Outcome) -> None:
        """Note what a compaction could not give back, so that the next run does not try again at once."""
        part = outcome.part
        ended = outcome.state in (DONE, GAINED_LITTLE, GAINED_NOTHING)
        try:
            known = read_note(self.client, part.database, NOTE)
            if ended and self.rules.worth_it(outcome.after):
                new = known | {part.view: {"at": int(time.time()), "reclaimable": outcome.after.reclaimable}}
            else:
                new = {view: value for view, value in known.items() if not (ended and view == part.view)}
            if new and new != known:
                write_note(self.client, part.database, NOTE, new)
            elif known and not new:
                remove_note(self.client, part.database, NOTE)
        except CouchError as error:
            if not error.status:
                raise
            # A full disk refuses the note, too; what was found out is worth more than the note.
            self.warn(f"{part}: what its compaction left could not be noted ({error.reason or error.status})")


def parts_of(client: CouchClient, name: str) -> list[Part]:
    """A database and its views, as they are now. Raises WMAgentError."""
    database = read_database(client, name)
    views = [Part(name, view.name, view.sizes, view.compacting) for view in database.views]
    return [Part(name, "", database.sizes, database.compacting), *views]


def sizes_of(client: CouchClient, part: Part) -> tuple[Sizes, bool, int]:
    """Sizes, whether it is being compacted, and the number of the update sequence. Raises WMAgentError."""
    if part.view:
        view = read_view(client, part.database, part.view)
        return view.sizes, view.compacting, view.update_seq
    info = client.get(path_of(part.database))
    sizes = info.get("sizes") if isinstance(info, Mapping) else None
    if not isinstance(sizes, Mapping):
        raise WMAgentError(f"{client.settings.where} does not tell the size of {part} any more; is a proxy in between?")
    there = Sizes(int(sizes["file"] or 0), int(sizes["active"] or 0), int(sizes["external"] or 0))
    return there, bool(info.get("compact_running")), sequence(info.get("update_seq", 0))


def tasks(client: CouchClient) -> list[Task]:
    """CouchDB's compactions that run now. Raises WMAgentError."""
    rows = client.get("/_active_tasks")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise WMAgentError(f"{client.settings.where} answered /_active_tasks with no list")
    return [_task(row) for row in rows if row.get("type") in _KINDS]


def _task(row: Mapping[str, Any]) -> Task:
    shard, design = str(row.get("database", "")), str(row.get("design_document", ""))
    # A view's task counts rows, and has no phase at first.
    phase = str(row.get("phase", VIEW_COPYING if design else COPYING))
    done = Shard(phase, int(row.get("changes_done", 0)), int(row.get("total_changes", 0)))
    return Task(Part(database_of(shard), design.removeprefix("_design/"), NO_SIZES), shard, done)


def _shards(found: list[Task], part: Part) -> dict[str, Shard]:
    return {task.shard: task.progress for task in found if (task.part.database, task.part.view) == part.key}


def _written(client: CouchClient, part: Part) -> int:
    """The number of the database's update sequence, 0 where the database is gone meanwhile."""
    info = client.find(path_of(part.database))
    return sequence(info.get("update_seq", 0)) if isinstance(info, Mapping) else 0


def _ended(before: Sizes, after: Sizes) -> str:
    gained = before.file - after.file
    if gained <= 0:
        return GAINED_NOTHING
    return DONE if 2 * gained >= before.reclaimable else GAINED_LITTLE


def database_of(shard: str) -> str:
    """The database of a shard's name, such as ``shards/00000000-7fffffff/wmagent_jobdump/jobs.1700000000``."""
    if not shard.startswith("shards/"):
        return shard
    return shard.split("/", 2)[-1].rpartition(".")[0]


def _remembered(client: CouchClient, database: str) -> dict[tuple[str, str], Remembered]:
    found: dict[tuple[str, str], Remembered] = {}
    for view, value in read_note(client, database, NOTE).items():
        # A note that somebody else wrote holds nothing back.
        if isinstance(value, Mapping) and {"at", "reclaimable"} <= value.keys():
            found[database, view] = Remembered(float(value["at"]), int(value["reclaimable"]))
    return found
