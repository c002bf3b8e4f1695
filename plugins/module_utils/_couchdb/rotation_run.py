# SPDX-License-Identifier: GPL-3.0-or-later
"""One run over an agent's databases: ends what an earlier one began, rotates what is due, drops old copies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import rotation_checks as checks
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import Disks
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import (
    Database,
    list_databases,
    path_of,
    read_database,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.notes import read_note
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation import (
    GivenUpError,
    Rotated,
    Rotation,
    give_up,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_copy import Pace, remove
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_marker import (
    NOTE,
    Stage,
    copied_database,
    read_marker,
    seen_of,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_plan import (
    Copy,
    Decision,
    Step,
    There,
    decide,
    is_due,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits


@dataclass(frozen=True)
class Rules:
    """minimum_share, minimum_tombstones: of a database that is rotated

    keep_copy:   seconds that a copy is kept after its rotation
    abandoned:   seconds after which the checkpoint of an unknown replication counts no more
    components_stopped: whether the agent's components are said to be
    observation: seconds for which a database is watched for writes
    index_seconds: for building all indexes of one database
    """

    minimum_share: float = 0.9
    minimum_tombstones: int = 10_000
    keep_copy: float = 7 * 86400
    abandoned: float = 30 * 86400
    components_stopped: bool = False
    observation: float = 5.0
    index_seconds: float = 6 * 3600


@dataclass
class Run:
    """What is found, planned and done.

    databases: names, all where empty; disks: called whenever it matters how much is free
    decisions: what is to be done about each copy; candidates: databases that are due
    held_back: database -> why it is not rotated now
    """

    client: CouchClient
    databases: Sequence[str]
    rules: Rules
    limits: Limits
    disks: Callable[[], Disks]
    pace: Pace = field(default_factory=Pace)
    note: Callable[[str], None] = lambda text: None
    decisions: list[tuple[Copy, Decision]] = field(default_factory=list)
    candidates: list[Database] = field(default_factory=list)
    held_back: dict[str, list[str]] = field(default_factory=dict)
    rotated: list[Rotated] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    stopped_by: str = ""

    def look(self) -> None:
        """Find out what is due. Changes nothing. Raises WMAgentError."""
        there = list_databases(self.client)
        copies = [_read_copy(self.client, name, of) for name in there if (of := copied_database(name))]
        now = time.time()
        found = {one.database: self._there(one.database) if one.database in there else None for one in copies}
        decided = [(one, decide(one, found[one.database], now, self.rules.keep_copy)) for one in copies]
        for name in self.databases:
            if name not in there and name not in found:
                raise WMAgentError(f"{self.client.settings.where} has no database {name}; check the option databases")
        names = {one.name for one in copies}
        asked = list(dict.fromkeys(self.databases)) or [name for name in there if name not in names]
        # The agent needs a database that is not complete, whether it was asked for or not.
        self.decisions = [
            (one, decision)
            for one, decision in decided
            if decision.step is Step.FINISH or not self.databases or one.database in asked
        ]
        pending = {one.database for one, decision in decided if decision.step in (Step.FINISH, Step.CONTINUE)}
        for name in asked:
            if name in there and name not in pending and name not in names:
                database = read_database(self.client, name)
                if is_due(database, self.rules.minimum_share, self.rules.minimum_tombstones):
                    self.candidates.append(database)
        self._hold_back()

    def _there(self, name: str) -> There:
        return There(seen_of(self.client.get(path_of(name))), read_note(self.client, name, NOTE))

    def _hold_back(self) -> None:
        for copy, decision in self.decisions:
            if decision.step is Step.LEAVE:
                self.held_back[copy.database] = [f"{copy.name}: {decision.reason}"]
        # What was begun comes first, and is told even where it cannot go on.
        begun = {
            copy.database: f"{decision.reason}, into {copy.name}"
            for copy, decision in self.decisions
            if decision.step is Step.CONTINUE
        }
        room = {one.name: checks.lacks_room(one, self.disks()) for one in self.candidates}
        waiting = [*begun, *room]
        for name in waiting:
            reasons = [] if self.rules.components_stopped else [checks.NOT_STOPPED]
            reasons += [*self._replicated(name), *room.get(name, ())]
            if reasons:
                told = [begun[name]] if name in begun else []
                self.held_back.setdefault(name, []).extend([*told, *reasons])
        quiet = [name for name in waiting if name not in self.held_back]
        for name in sorted(checks.written_meanwhile(self.client, quiet, self.rules.observation)):
            self.held_back[name] = [checks.WRITTEN]

    def _replicated(self, name: str) -> list[str]:
        return checks.replicated_by(self.client, name, time.time() - self.rules.abandoned)

    def _steps(self, step: Step) -> list[Copy]:
        return [copy for copy, decision in self.decisions if decision.step is step]

    @property
    def planned(self) -> list[dict[str, str]]:
        """What a run does: ``{"database", "action", "copy", "reason"}``, in order."""
        named = ((Step.FINISH, "finish"), (Step.CONTINUE, "continue"), (Step.DROP, "drop copy"))
        plan = [
            {"database": copy.database, "action": action, "copy": copy.name, "reason": decision.reason}
            for step, action in named
            for copy, decision in self.decisions
            if decision.step is step and (step is not Step.CONTINUE or copy.database not in self.held_back)
        ]
        for one in self.candidates:
            if one.name not in self.held_back:
                reason = f"{one.tombstones} tombstones beside {one.documents} documents"
                plan.append({"database": one.name, "action": "rotate", "copy": "", "reason": reason})
        return plan

    @property
    def due(self) -> bool:
        """Whether a run changes anything."""
        return bool(self.planned)

    def run(self) -> None:
        """Do what is planned. Raises WMAgentError; what was done until then is in the result."""
        for copy in self._steps(Step.FINISH):
            assert copy.marker is not None
            self._rotate(copy.database, copy)
        for copy in self._steps(Step.DROP):
            if not self._ends():
                self._drop(copy)
        for copy in self._steps(Step.CONTINUE):
            if copy.database not in self.held_back and not self._ends():
                self._rotate(copy.database, copy, deletes=True)
        for one in self.candidates:
            if one.name in self.held_back or self._ends():
                continue
            # What was copied before takes room, too.
            if no_room := checks.lacks_room(one, self.disks()):
                self.held_back[one.name] = no_room
                continue
            self._rotate(one.name, None, deletes=True)

    def _ends(self) -> bool:
        self.stopped_by = self.stopped_by or self.limits.reason(0)
        return bool(self.stopped_by)

    def _rotate(self, name: str, copy: Copy | None, deletes: bool = False) -> None:
        rotation = Rotation(
            self.client, name, self.limits, self.pace, self.rules.index_seconds, self._replicated, self.note
        )
        try:
            if copy is None or copy.marker is None:
                rotation.begin()
            elif deletes:
                rotation.go_on(copy.name, copy.marker)
            else:
                rotation.finish(copy.name, copy.marker)
        except GivenUpError as error:
            self.held_back[name] = [str(error)]
            return
        self.rotated.append(rotation.result)
        self.stopped_by = self.stopped_by or rotation.result.stopped_by

    def _drop(self, copy: Copy) -> None:
        self.note(f"{copy.name}: is dropped")
        if copy.marker is not None and copy.marker.stage is Stage.DONE:
            remove(self.client, copy.name)
        else:
            give_up(self.client, copy.database, copy.name)
        self.dropped.append(copy.name)

    def copies(self) -> list[dict[str, str | float]]:
        """Copies that there are now: ``{"name", "database", "stage", "kept_until"}``; UNIX time, 0 where unfinished.

        Raises WMAgentError.
        """
        found: list[dict[str, str | float]] = []
        for name in list_databases(self.client):
            of = copied_database(name)
            if of is None:
                continue
            marker = _read_copy(self.client, name, of).marker
            until = marker.done + self.rules.keep_copy if marker and marker.stage is Stage.DONE else 0
            found.append(
                {"name": name, "database": of, "stage": marker.stage.value if marker else "", "kept_until": until}
            )
        return found


def _read_copy(client: CouchClient, name: str, database: str) -> Copy:
    marker = read_marker(client, name)
    if marker is not None and marker.source != database:
        raise WMAgentError(f"the marker in {name} is about {marker.source}; look where this database is from")
    info: Mapping[str, int] = client.get(path_of(name))
    return Copy(name, database, marker, empty=not info["doc_count"] and not info["doc_del_count"])
