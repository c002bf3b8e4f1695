# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop, switch the link, start: the one thing that changes which release an agent runs.

Every step is journaled before it begins, so that a run that was cut off anywhere is finished by the next one. The
records in the databases are read once all components are down and again before any is started: they must not differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import (
    Journal,
    read_journal,
    write_journal,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


class Records(Protocol):
    """The agent's MariaDB or Oracle and its CouchDB, seen only for whether anything in them changed."""

    def check(self) -> None:
        """See that the databases answer. Raises WMAgentError."""

    def read(self) -> dict[str, Any]:
        """Evidence of every table and database as they are now. Raises WMAgentError where one can't be read."""

    def changes(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
        """One line for each table or database that changed; empty where none did."""

    def summary(self, reading: Mapping[str, Any]) -> str:
        """How much was compared, in words."""

    def digest(self, reading: Mapping[str, Any]) -> str:
        """What was compared, in one digest."""


class Prepared(Protocol):
    """An interpreter of the new release that has imported everything and waits."""

    @property
    def up_at(self) -> float | None:
        """Reading of the clock when the last component was up with live workers; None before ``go``."""

    def go(self) -> list[dict[str, Any]]:
        """Start the components; one dict each with component, pid, seconds, ok, error."""

    def abandon(self) -> None:
        """End the waiting interpreter."""


@dataclass(frozen=True)
class Effects:
    """What a switch does to the world; replaced by fakes in tests of the order of steps.

    require_records: False on the way back from a failure, when an agent that runs counts for more than the evidence:
                     then records that can't be read, or that somebody goes on changing, are told and stop nothing.
    back:            this is a way back; an interrupted one never becomes the release to go back to
    """

    prepare: Callable[[Release], Prepared]
    stop: Callable[[Sequence[Release]], list[dict[str, Any]]]
    link: Callable[[str], None]
    records: Records
    require_records: bool = True
    back: bool = False
    clock: Callable[[], float] = time.monotonic


@dataclass
class SwitchResult:
    """What happened.

    downtime: seconds from the first stop signal to the last component up; None where nothing was stopped
    phases:   seconds of each step
    recorded: the ledger has an entry on this switch already, and only the verdict is due
    started_at: UNIX time at which the components were told to start; None where that is not known
    """

    changed: bool
    origin: str
    target: str
    downtime: float | None = None
    started_at: float | None = None
    phases: dict[str, float] = field(default_factory=dict)
    stopped: list[dict[str, Any]] = field(default_factory=list)
    started: list[dict[str, Any]] = field(default_factory=list)
    record_changes: list[str] = field(default_factory=list)
    records_summary: str = ""
    records_digest: str = ""
    records_unread: str = ""
    resumed_at: str = ""
    recorded: bool = False

    @property
    def problem(self) -> str:
        """What went wrong after the stop, in one line; '' where nothing did."""
        if self.record_changes:
            return f"records changed while the agent was stopped: {'; '.join(self.record_changes)}"
        failed = [
            f"{entry['component']} ({entry.get('error') or 'no reason'})" for entry in self.started if not entry["ok"]
        ]
        return f"components that did not come up: {', '.join(failed)}" if failed else ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a module's result."""
        return {
            "changed": self.changed,
            "origin": self.origin,
            "target": self.target,
            "problem": self.problem,
            "downtime": self.downtime,
            "started_at": self.started_at,
            "phases": self.phases,
            "stopped": self.stopped,
            "started": self.started,
            "records": {
                "summary": self.records_summary,
                "digest": self.records_digest,
                "changes": self.record_changes,
                "unread": self.records_unread,
            },
            "resumed_at": self.resumed_at,
            "recorded": self.recorded,
        }


def needs_switch(layout: AgentLayout, target: Release) -> bool:
    """The one predicate for ``changed``, in check mode and for real: another release is current, or half done."""
    journal = read_journal(layout)
    if journal is not None and not (journal.target == target.name and journal.step == "started"):
        return True
    return layout.current_release().name != target.name


def switch_release(layout: AgentLayout, target: Release, rollout: str, effects: Effects) -> SwitchResult:
    """Make ``target`` the current release. The caller holds ``journal.exclusive``.

    Raises WMAgentError before anything was stopped where the target's interpreter can't be made ready or the records
    can't be read; after that, the journal stays and the same call finishes the work.
    """
    current = layout.current_release()
    journal = read_journal(layout)
    if not needs_switch(layout, target):
        return _already_there(journal, current, target)
    resumed = journal if journal is not None and journal.target == target.name else None
    origin = _origin(journal, current, target)
    result = SwitchResult(changed=True, origin=origin, target=target.name, resumed_at=resumed.step if resumed else "")
    watch = _Watch(effects.clock, result.phases)

    prepared = effects.prepare(target)
    watch.lap("warm")
    try:
        if effects.require_records:
            effects.records.check()  # fails here, with everything still up, rather than later
        watch.lap("check")
        entry = Journal(rollout=rollout, origin=origin, target=target.name, step="stopping", back=effects.back)
        if resumed is None or resumed.step == "stopping":
            write_journal(layout, entry)
        first_stop = effects.clock()
        result.stopped = effects.stop([current, target])
        watch.lap("stop")
        before = _records_before(effects, resumed, result)
        entry = entry.at("stopped", before=before)
        write_journal(layout, entry)
        effects.link(target.name)
        entry = entry.at("linked")
        write_journal(layout, entry)
        watch.lap("link")
        after = _read(effects, result)
        if before is not None and after is not None:
            result.record_changes = effects.records.changes(before, after)
            result.records_summary = effects.records.summary(after)
            result.records_digest = effects.records.digest(after)
        watch.lap("records")
    except BaseException:
        prepared.abandon()
        raise
    if result.record_changes and effects.require_records:
        prepared.abandon()
        return result
    result.started_at = time.time()
    result.started = prepared.go()
    watch.lap("start")
    up_at = prepared.up_at  # without the time in which it is watched whether they stay up
    result.downtime = round((effects.clock() if up_at is None else up_at) - first_stop, 3)
    details = {name: result.as_dict()[name] for name in ("downtime", "started_at", "phases", "records")}
    write_journal(layout, entry.at("started", details=details))
    return result


def _origin(journal: Journal | None, current: Release, target: Release) -> str:
    """The release to go back to: the last one known to have run, which an interrupted switch's target is not."""
    if journal is None:
        return current.name
    if journal.target == target.name and not journal.back:
        return journal.origin
    good = journal.target if journal.back else journal.origin
    return good if good != target.name else current.name


def _already_there(journal: Journal | None, current: Release, target: Release) -> SwitchResult:
    """Nothing to do; where the verdict over an earlier switch is still due, its figures."""
    if journal is None:
        return SwitchResult(changed=False, origin=current.name, target=target.name)
    details = journal.details
    return SwitchResult(
        changed=False,
        origin=journal.origin,
        target=target.name,
        downtime=details.get("downtime"),
        started_at=details.get("started_at"),
        phases=details.get("phases", {}),
        records_summary=details.get("records", {}).get("summary", ""),
        records_digest=details.get("records", {}).get("digest", ""),
        record_changes=details.get("records", {}).get("changes", []),
        resumed_at=journal.step,
        recorded=journal.recorded,
    )


def _records_before(effects: Effects, resumed: Journal | None, result: SwitchResult) -> dict[str, Any] | None:
    """The reading to compare with: the interrupted run's own, unless something of the agent ran since."""
    if resumed and resumed.step in ("stopped", "linked") and resumed.before is not None and not result.stopped:
        return resumed.before
    return _read(effects, result)


def _read(effects: Effects, result: SwitchResult) -> dict[str, Any] | None:
    """The records as they are now; None, with the reason kept, where they need not be readable."""
    try:
        return effects.records.read()
    except WMAgentError as error:
        if effects.require_records:
            raise
        result.records_unread = str(error)
        return None


class _Watch:
    """Seconds between steps."""

    def __init__(self, clock: Callable[[], float], phases: dict[str, float]) -> None:
        self._clock = clock
        self._phases = phases
        self._last = clock()

    def lap(self, phase: str) -> None:
        now = self._clock()
        self._phases[phase] = round(now - self._last, 3)
        self._last = now


def find_release(layout: AgentLayout, name: str) -> Release:
    """An installed release by folder name, image name or digest. Raises WMAgentError where none or several fit."""
    releases = layout.all_releases()
    fitting = [r for r in releases if name in (r.name, r.digest)] or [r for r in releases if r.image == name]
    if len(fitting) == 1:
        return fitting[0]
    have = ", ".join(r.name for r in releases) or "none"
    what = "no release" if not fitting else "several releases"
    raise WMAgentError(f"{what} {name} on this agent (there: {have}); name one of them, or stage the image first")
