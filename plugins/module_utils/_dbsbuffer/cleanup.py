# SPDX-License-Identifier: GPL-3.0-or-later
"""One cleanup of an agent's DBSBuffer from end to end: look, plan, delete or rebuild, give space back, measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    MARIADB,
    Connection,
    DatabaseSettings,
    connect,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.driver_errors import DatabaseLostError
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.load import Load, LoadGuard, load_reader
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.steps import StepSize
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import method as methods
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import rebuild, space, telling
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.archive import Archive
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.deletion import Deletion, Outcome, Pace
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan, Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import make_plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.one_at_a_time import keep_others_away
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.space_plan import Decision, Size, plan_optimize
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import CLEANED, FILE, check_schema
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from ansible_collections.dmwm.wmagent.plugins.module_utils._progress import report

_STATEMENT_TIMEOUT = 3600
"""Seconds: a statement over all files of a large agent, such as the plan's or OPTIMIZE TABLE."""
_TRIAL = 1.0
"""Seconds of deleting by which ``auto`` learns how fast that is."""
_SMALLEST_STEP = 100
_PURGE_WAIT = 300


@dataclass(frozen=True)
class Request:
    """What a person asks for; plugins/modules/dbsbuffer_cleanup.py describes each."""

    rules: Rules
    method: str = methods.DELETE
    max_runtime: float | None = None
    max_rows: int | None = None
    stop_file: Path | None = None
    step_seconds: float = 0.5
    threads_running: tuple[int, int] = (25, 100)
    replica_lag: tuple[float, float] = (10, 300)
    replicas: Sequence[DatabaseSettings] = ()
    archive: Path | None = None
    optimize: bool = True
    minimum_fragmentation: float = 0.3


@dataclass
class Cleanup:
    """A cleanup while it runs; afterwards, what it came to.

    plan: what it began with; stopped_by: why it ended before the plan was done
    """

    settings: DatabaseSettings
    request: Request
    note: Callable[[str], None]
    timeout: float = 30
    plan: Plan = field(default_factory=Plan)
    before: dict[str, Size] = field(default_factory=dict)
    after: dict[str, Size] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    rebuilt: rebuild.Rebuilt | None = None
    choice: methods.Choice | None = None
    space: list[dict[str, Any]] = field(default_factory=list)
    leftovers: bool = False
    cleaned_up: list[str] = field(default_factory=list)
    throttled_seconds: float = 0.0
    archive: str = ""

    def look(self) -> None:
        """Measure and plan; writes nothing. Raises WMAgentError."""
        _check_request(self.request)
        report("plans the cleanup of DBSBuffer")
        with self._session(read_only=True) as connection:
            check_schema(connection)
            if connection.dialect == MARIADB:
                self.leftovers = rebuild.leftovers(connection).found
            if self.request.method == methods.RECOVER:
                return
            self.before = self.after = space.table_sizes(connection)
            self.plan = make_plan(connection, self.request.rules)
            self.space = [_told(decision) for decision in self._worth_optimizing(connection, self.before)]

    @property
    def due(self) -> bool:
        """Whether there is anything to change: the one predicate of check mode and of the real run."""
        plan = self.plan
        deletes = bool(plan.files or plan.blocks or plan.workflows or plan.placeholders or self.leftovers)
        return deletes or any(one["optimize"] for one in self.space)

    def run(self) -> None:
        """Do what :meth:`look` found due. Raises WMAgentError; what was done by then can be told all the same."""
        with ExitStack() as stack:
            connection = stack.enter_context(self._session())
            _check_rights(connection)
            keep_others_away(connection)
            if self.request.method == methods.RECOVER:
                self.cleaned_up = rebuild.clean_up(connection)
                return
            archive = self._make_archive(connection)
            if archive:
                stack.enter_context(archive)
            try:
                self._clean(connection, archive)
            finally:
                self.archive = str(archive.path) if archive and archive.rows else ""
            if not self.stopped_by:
                self._give_space_back(connection)
            self.after = space.table_sizes(connection)

    def _clean(self, connection: Connection, archive: Archive | None) -> None:
        request = self.request
        limits = Limits(request.max_runtime, request.max_rows, request.stop_file)
        if self.leftovers:
            self.cleaned_up = rebuild.clean_up(connection)
        if self._rebuild_is_due(connection, archive):
            deadline = None if request.max_runtime is None else time.monotonic() + (limits.seconds_left() or 0)
            self.rebuilt = rebuild.rebuild(
                connection,
                lambda session: make_plan(session, request.rules),
                placeholders=True,
                archive=None if archive is None else lambda tables: _keep(archive, connection, tables),
                progress=lambda step: report(f"rebuilds DBSBuffer: {step}"),
                deadline=deadline,
            )
        if not self.stopped_by:
            # A rebuild leaves its plan's workflows and blocks, without their files.
            plan = replace(self.rebuilt.plan, files=0) if self.rebuilt else make_plan(connection, request.rules)
            self._delete(plan, limits, archive)

    def _rebuild_is_due(self, connection: Connection, archive: Archive | None) -> bool:
        request = self.request
        if request.method == methods.DELETE:
            return False
        reasons = ["it is for MariaDB only"] if connection.dialect != MARIADB else rebuild.why_not(connection)
        if request.method == methods.REBUILD:
            if reasons:
                raise WMAgentError(f"method rebuild is not possible now: {'; '.join(reasons)}")
            return bool(self.plan.files)
        if reasons or request.max_rows is not None:
            why = "; ".join(reasons) or "max_rows is given"
            self.choice = methods.Choice(methods.DELETE, f"a rebuild is not possible now: {why}", {})
            return False
        trial = self._delete(self.plan, Limits(_TRIAL, None, request.stop_file), archive)
        if trial.stopped_by != "max_runtime":
            return False
        trial.stopped_by = ""
        plan = make_plan(connection, request.rules)
        rows = space.count_rows(connection)
        self.choice = methods.choose(plan, rows, trial.rate, methods.copied_per_second(connection))
        return self.choice.method == methods.REBUILD

    def _delete(self, plan: Plan, limits: Limits, archive: Archive | None) -> Outcome:
        request = self.request
        # The load is read by a session of its own: the one that deletes may be lost and made anew.
        with _Watch(self._open, request.replicas, self.note) as watch:
            guard = LoadGuard(watch, *request.threads_running, *request.replica_lag)
            pace = Pace(StepSize(request.step_seconds, minimum=_SMALLEST_STEP), limits, guard)
            run = Deletion(self._open, plan, request.rules, pace, archive=archive, progress=_report_files)
            self.outcomes.append(run.outcome)
            try:
                return run.run()
            finally:
                self.throttled_seconds += guard.throttled_seconds

    def _give_space_back(self, connection: Connection) -> None:
        if not self.request.optimize:
            return
        report("waits until InnoDB has removed the deleted rows")
        if not space.wait_for_purge(connection, _PURGE_WAIT):
            self.note("InnoDB has not removed all deleted rows yet; what space they take is given back next time")
        self.space = []
        for decision in self._worth_optimizing(connection, space.table_sizes(connection)):
            told = _told(decision)
            if decision.optimize:
                report(f"writes {decision.table} anew without what it does not use")
                done = space.optimize(connection, decision.table)
                told |= {"gained": done.gained, "reason": done.problem or decision.reason}
            self.space.append(told)

    def _worth_optimizing(self, connection: Connection, sizes: Mapping[str, Size]) -> list[Decision]:
        if not self.request.optimize:
            return []
        return plan_optimize(
            sizes,
            before=self.before,
            minimum_fragmentation=self.request.minimum_fragmentation,
            free_disk=space.free_disk(connection),
            in_place=connection.dialect != MARIADB,
        )

    def _make_archive(self, connection: Connection) -> Archive | None:
        if self.request.archive is None or not (self.plan.files or self.plan.blocks or self.plan.workflows):
            return None
        return Archive.create(self.request.archive, connection.database, connection.dialect, time.time())

    @contextmanager
    def _session(self, *, read_only: bool = False) -> Iterator[Connection]:
        with self._open(read_only=read_only) as connection:
            yield connection

    def _open(self, *, read_only: bool = False) -> Connection:
        return connect(
            self.settings, self.timeout, read_only=read_only, statement_timeout=max(_STATEMENT_TIMEOUT, self.timeout)
        )

    # What it came to.

    @property
    def stopped_by(self) -> str:
        """'' where all that was due was done."""
        return next((outcome.stopped_by for outcome in self.outcomes if outcome.stopped_by), "")

    @property
    def deleted(self) -> dict[str, int]:
        """Table -> rows, by either method."""
        counts = dict.fromkeys(CLEANED, 0)
        for source in (*(outcome.deleted for outcome in self.outcomes), self.rebuilt.dropped if self.rebuilt else {}):
            for table, rows in source.items():
                counts[table] += rows
        return {table: rows for table, rows in counts.items() if rows}

    @property
    def unfinished(self) -> bool:
        """Whether something that was planned is left."""
        return bool(self.stopped_by) or self.files_done < self.plan.files

    @property
    def files_done(self) -> int:
        """Files of the plan that are gone."""
        return min(self.plan.files, self.deleted.get(FILE, 0))

    @property
    def replanned(self) -> list[str]:
        """What made a new plan necessary."""
        return [line for outcome in self.outcomes for line in outcome.outdated]

    @property
    def method_used(self) -> str:
        """``delete``, ``rebuild``, or ``none`` where nothing was done."""
        if self.rebuilt:
            return methods.REBUILD
        return methods.DELETE if self.outcomes else "none"

    def diff(self, check: bool) -> dict[str, str]:
        """Rows of each table before and after; in check mode, those that would be left. Raises WMAgentError."""
        before = {table: size.rows for table, size in self.before.items()}
        if check:
            with self._session(read_only=True) as connection:
                gone = telling.rows_that_go(connection, self.plan)
            after = {table: rows - gone[table] for table, rows in before.items()}
        else:
            after = {table: size.rows for table, size in self.after.items()}
        return {"before": _lines(before), "after": _lines(after)}

    @property
    def seconds(self) -> float:
        """Time at work: steps and the rebuild, without pauses."""
        return sum(outcome.seconds for outcome in self.outcomes) + (
            sum(self.rebuilt.seconds.values()) if self.rebuilt else 0.0
        )

    @property
    def rate(self) -> float:
        """Files per second."""
        return self.deleted.get(FILE, 0) / self.seconds if self.seconds else 0.0


class _Watch:
    """Reads the load by a session of its own, made anew where it is lost."""

    def __init__(
        self, opener: Callable[[], Connection], replicas: Sequence[DatabaseSettings], note: Callable[[str], None]
    ) -> None:
        self._opener = opener
        self._replicas = replicas
        self._note = note
        self._stack = ExitStack()

    def __enter__(self) -> _Watch:
        connection = self._stack.enter_context(self._opener())
        self._reader = self._stack.enter_context(load_reader(connection, self._note, self._replicas))
        return self

    def __call__(self) -> Load:
        try:
            return self._reader()
        except DatabaseLostError:
            self._stack.close()
            return self.__enter__()._reader()

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _check_request(request: Request) -> None:
    """Raise WMAgentError for numbers that make no sense, also where a check or an empty plan would not come to them."""
    Limits(request.max_runtime, request.max_rows, request.stop_file)
    StepSize(request.step_seconds, minimum=_SMALLEST_STEP)
    LoadGuard(lambda: Load(None, None), *request.threads_running, *request.replica_lag)
    if not 0 <= request.minimum_fragmentation <= 1:
        raise WMAgentError(f"minimum_fragmentation is {request.minimum_fragmentation:g}; it is a share, 0 to 1")


def _check_rights(connection: Connection) -> None:
    """Raise WMAgentError where the account may not delete or the server takes no writes; deletes nothing."""
    for table in CLEANED:
        connection.begin()
        try:
            connection.execute(f"DELETE FROM {table} WHERE 1 = 0")
        finally:
            connection.rollback()


def _keep(archive: Archive, connection: Connection, tables: Mapping[str, str]) -> None:
    for table, condition in tables.items():
        archive.add(connection, table, condition)
    archive.sync()


def _report_files(done: int, planned: int) -> None:
    report("deletes from DBSBuffer", done, planned, "files")


def _lines(rows: Mapping[str, int]) -> str:
    return "".join(f"{table}: {count} rows\n" for table, count in rows.items())


def _told(decision: Decision) -> dict[str, Any]:
    return {
        "table": decision.table,
        "optimize": decision.optimize,
        "gain": decision.gain,
        "gained": None,
        "reason": decision.reason,
    }
