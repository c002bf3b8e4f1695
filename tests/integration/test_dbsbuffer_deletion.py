# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deletion leaves behind, on a real MariaDB and on H2 in Oracle mode: exactly what brute force says stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.load import Load, LoadGuard
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.steps import StepSize
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import deletion
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.deletion import Deletion, Outcome, Pace
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import make_plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dbsbuffer import rows as table
from support.dbsbuffer.brute_force import deletable, same_name_in, without
from support.dbsbuffer.fixtures import mariadb_agent, oracle_agent
from support.dbsbuffer.random_rows import CUTOFF, databases
from support.dbsbuffer.rows import Rows, load, read
from support.dbsbuffer.schema import clear

RETENTION = 1000.0
Opener = Callable[[], Connection]


@pytest.fixture(scope="module", params=["mariadb", "oracle"])
def opener(request, mariadb_server) -> Iterator[Opener]:
    """Opens sessions with an agent's database."""
    if request.param == "mariadb":
        with mariadb_agent(mariadb_server) as database:
            yield lambda: connect(database, timeout=30, read_only=False)
    else:
        with oracle_agent() as account:
            yield account.session


def idle() -> LoadGuard:
    return LoadGuard(lambda: Load(0, None), 50, 100, 10, 60)


def pace(size: int = 1000, **limits) -> Pace:
    none = {"max_runtime": None, "max_rows": None, "stop_file": None}
    return Pace(StepSize(start=size, maximum=size), Limits(**(none | limits)), idle())


def clean(opener: Opener, rules: Rules, how: Pace | None = None, **options) -> Outcome:
    with opener() as connection:
        plan = make_plan(connection, rules)
    return Deletion(opener, plan, rules, how or pace(), **options).run()


def fill(opener: Opener, rows: Rows) -> Rows:
    with opener() as connection:
        clear(connection)
        load(connection, rows)
        return read(connection)


def now(opener: Opener) -> Rows:
    with opener() as connection:
        return read(connection)


@settings(max_examples=60)
@given(rows=databases(), retention=st.sampled_from([0.0, RETENTION]), size=st.sampled_from([1, 3, 1000]))
def test_exactly_what_may_go_is_gone(opener, rows, retention, size):
    before = fill(opener, rows)
    rules = Rules(now=CUTOFF + retention, retention=retention)
    with opener() as connection:
        same_name = same_name_in(connection.dialect)
    left = without(before, deletable(before, rules.now, retention, same_name=same_name))
    outcome = clean(opener, rules, pace(size))
    assert now(opener) == left
    assert outcome.stopped_by == "" and outcome.outdated == []
    assert outcome.deleted["dbsbuffer_file"] == len(before.files) - len(left.files)
    assert outcome.deleted["dbsbuffer_file_runlumi_map"] == len(before.runlumis) - len(left.runlumis)
    assert outcome.rows == sum(
        len(getattr(before, name)) - len(getattr(left, name))
        for name in ("workflows", "blocks", "files", "parents", "runlumis", "file_locations", "checksums")
    )
    assert clean(opener, rules).rows == 0


def family(files: int = 30, **columns) -> Rows:
    """Two finished workflows that share blocks, with everything a file has."""
    return Rows(
        workflows=[table.Workflow(1, "one", "/one/task"), table.Workflow(2, "two", "/two/task")],
        datasets=[table.Dataset(1, "/a/b/c")],
        algos=[table.Algo(1)],
        assocs=[table.Assoc(1, 1)],
        locations=[table.Location(1, "T2_X")],
        blocks=[table.Block(1, 1, "/a/b/c#1", 1, 1000), table.Block(2, 1, "/a/b/c#2", 1, 1000)],
        files=[
            table.File(
                number, f"/store/mc/{number}.root", 1, 1 + number % 2, "InDBS", 1, 1 + number // 2 % 2, **columns
            )
            for number in range(1, files + 1)
        ],
        parents=[table.Parent(number, number - 1) for number in range(2, files + 1, 3)],
        runlumis=[table.RunLumi(number, 1, lumi, 10) for number in range(1, files + 1) for lumi in range(3)],
        file_locations=[table.FileLocation(number, 1) for number in range(1, files + 1)],
        checksums=[table.Checksum(number, 1, "abc") for number in range(1, files + 1)],
    )


RULES = Rules(now=CUTOFF)


def whole(left: Rows, before: Rows) -> bool:
    """Every file that is there has all its rows, and no other row is there."""
    files = {row.id for row in left.files}
    return (
        [row for row in before.runlumis if row.filename in files] == left.runlumis
        and [row for row in before.checksums if row.fileid in files] == left.checksums
        and [row for row in before.file_locations if row.filename in files] == left.file_locations
        and [row for row in before.parents if {row.child, row.parent} <= files] == left.parents
    )


@pytest.mark.parametrize("rows", [0, 1, 40, 10_000])
def test_max_rows_ends_it_between_two_files(opener, rows):
    before = fill(opener, family())
    outcome = clean(opener, RULES, pace(4, max_rows=rows))
    left = now(opener)
    assert whole(left, before)
    assert outcome.stopped_by == ("" if rows == 10_000 else "max_rows")
    assert outcome.rows <= rows + 4 * 8
    clean(opener, RULES)
    assert now(opener) == without(before, deletable(before, RULES.now, 0))


def test_a_stop_file_ends_it(opener, tmp_path):
    before = fill(opener, family())
    stop = tmp_path / "stop"
    outcome = clean(opener, RULES, pace(4, stop_file=stop), progress=lambda done, planned: stop.touch())
    assert outcome.stopped_by == "stop_file" and outcome.deleted["dbsbuffer_file"] == 4
    assert whole(now(opener), before)


def test_load_ends_it(opener):
    fill(opener, family())
    busy = Pace(StepSize(), Limits(None, None, None), LoadGuard(lambda: Load(200, None), 50, 100, 10, 60))
    outcome = clean(opener, RULES, busy)
    assert (outcome.stopped_by, outcome.rows) == ("load", 0)
    assert outcome.why == "Threads_running 200 >= 100"


CHANGES = {
    "no longer done": "UPDATE dbsbuffer_file SET in_phedex = 0 WHERE id = 8",
    "a workflow is no longer finished": "UPDATE dbsbuffer_workflow SET completed = 0 WHERE id = 2",
    "a block is no longer what it was": "UPDATE dbsbuffer_block SET status = 'Open' WHERE id = 1",
    "a dataset got a subscription": "INSERT INTO dbsbuffer_dataset_subscription (dataset_id, site) VALUES (1, 'T1_Y')",
    "a file is in WMBS again": "INSERT INTO wmbs_fileset_files (fileid, fileset, insert_time) VALUES (1, 1, 0)",
    "a workflow or block got a new file": "INSERT INTO dbsbuffer_file (id, lfn, dataset_algo, status, workflow)"
    " VALUES (131, '/store/mc/131.root', 1, 'NOTUPLOADED', 1)",
    "a file got a child that stays": "INSERT INTO dbsbuffer_file_parent (child, parent) VALUES (100, 6)",
    "a file got a parent that stays": "INSERT INTO dbsbuffer_file_parent (child, parent) VALUES (6, 100)",
}


@pytest.mark.parametrize("why", CHANGES)
def test_what_became_needed_stays(opener, why):
    """A change by another session in the middle of a run: a new plan, and what it keeps is there with all rows."""
    stays = table.File(100, "/store/mc/100.root", 1, None, "NOTUPLOADED", 0, 3)
    rows = family()
    rows = replace(
        rows, workflows=[*rows.workflows, table.Workflow(3, "three", "/three", 0)], files=[*rows.files, stays]
    )
    before = fill(opener, rows)
    with opener() as connection:  # WMCore leaves such rows behind: by itself it means nothing
        connection.begin()
        connection.execute(
            "INSERT INTO wmbs_file_details (id, lfn, filesize, events, first_event, merged)"
            " VALUES (1, '/store/mc/7.root', 1, 1, 1, 1)"
        )
        connection.commit()
    changed: list[int] = []

    def change(done: int, planned: int) -> None:
        if not changed:
            changed.append(done)
            with opener() as other:
                other.begin()
                other.execute(CHANGES[why])
                other.commit()

    outcome = clean(opener, RULES, pace(4), progress=change)
    left = now(opener)
    assert any(why in line for line in outcome.outdated), outcome.outdated
    assert {row.id for row in left.files} >= set(range(5, 31))
    assert {row.id for row in left.workflows} == {1, 2, 3}
    assert outcome.deleted["dbsbuffer_file"] == 4
    assert [row for row in left.runlumis if row.filename > 4] == [row for row in before.runlumis if row.filename > 4]
    assert [row for row in left.parents if min(row) > 4 and 100 not in row] == [
        row for row in before.parents if min(row) > 4
    ]


def test_a_connection_that_is_lost_is_made_again(opener):
    before = fill(opener, family())
    sessions: list[Connection] = []

    def remembered() -> Connection:
        sessions.append(opener())
        return sessions[-1]

    def lose(done: int, planned: int) -> None:
        if len(sessions) == 1:
            _lose(opener, sessions[0])

    with opener() as connection:
        plan = make_plan(connection, RULES)
    if sessions and sessions[0].dialect == "oracle":
        pytest.skip("H2 has no session to end from outside")
    run = Deletion(remembered, plan, RULES, pace(4), progress=lose, sleep=lambda seconds: None)
    if run._connection.dialect == "oracle":
        run._connection.close()
        pytest.skip("H2 in memory has no connection that could be lost")
    outcome = run.run()
    assert outcome.reconnects == 1 and outcome.stopped_by == ""
    assert now(opener) == without(before, deletable(before, RULES.now, 0))


def _lose(opener: Opener, session: Connection) -> None:
    number = session.query("SELECT CONNECTION_ID()")[0][0]
    with opener() as other:
        other.execute(f"KILL {number}")


def test_a_plan_that_never_holds_is_an_error(opener):
    before = fill(opener, family())
    with (
        patch.object(deletion.recheck, "check_again", side_effect=deletion.recheck.PlanOutdatedError("always")),
        pytest.raises(WMAgentError, match=r"made anew 5 times and never held \(always\)"),
    ):
        clean(opener, RULES)
    assert now(opener) == before


class Kept:
    """An archive in memory."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int]] = []
        self.fresh: list[tuple[str, int]] = []

    def add(self, connection: Connection, name: str, condition: str) -> int:
        count = int(connection.query(f"SELECT COUNT(*) FROM {name} WHERE {condition}")[0][0])
        self.fresh.append((name, count))
        return count

    def sync(self) -> None:
        self.rows += self.fresh
        self.fresh = []

    def discard(self) -> None:
        self.fresh = []


@pytest.mark.parametrize(("planning", "plans"), [(1.0, 2), (100.0, 1)])
def test_a_plan_lasts_longer_where_it_takes_long(opener, planning: float, plans: int):
    fill(opener, family())
    now_is = [0.0]
    made = []

    def plan_again(connection: Connection, rules: Rules):
        made.append(now_is[0])
        now_is[0] += planning
        return make_plan(connection, rules)

    def progress(_done: int, _planned: int) -> None:
        now_is[0] += deletion.PLAN_LASTS / 3  # ten steps: 400 s

    with patch.object(deletion, "make_plan", plan_again):
        outcome = clean(opener, Rules(now=CUTOFF), pace(3), progress=progress, clock=lambda: now_is[0])
    assert outcome.deleted["dbsbuffer_file"] == 30 and outcome.outdated == []
    assert len(made) == plans


def test_every_row_is_archived_before_it_goes(opener):
    fill(opener, family())
    kept = Kept()
    outcome = clean(opener, RULES, pace(4), archive=kept)
    for name, rows in outcome.deleted.items():
        assert sum(count for archived, count in kept.rows if archived == name) == rows
    assert kept.fresh == []


def test_an_archive_that_cannot_be_written_ends_it(opener):
    before = fill(opener, family())
    kept = Kept()
    with (
        patch.object(kept, "sync", side_effect=WMAgentError("disk full")),
        pytest.raises(WMAgentError, match="disk full"),
        suppress(AssertionError),
    ):
        clean(opener, RULES, pace(4), archive=kept)
    assert now(opener) == before


def test_where_nothing_may_go_nothing_is_written(opener, tmp_path: Path):
    before = fill(opener, replace(family(), wmbs_names=["one", "two"]))
    outcome = clean(opener, RULES)
    assert (outcome.rows, outcome.steps > 5) == (0, False)
    assert now(opener) == before
