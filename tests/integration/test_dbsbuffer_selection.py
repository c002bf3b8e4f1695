# SPDX-License-Identifier: GPL-3.0-or-later
"""MariaDB and Oracle (H2) count the same facts and select the same rows as a literal reading of the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import MARIADB, Connection, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import facts
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan, Rules
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dbsbuffer.brute_force import Deletable, deletable, oldest, same_name_in
from support.dbsbuffer.facts_of_rows import comparable, facts_of
from support.dbsbuffer.fixtures import mariadb_agent, oracle_agent
from support.dbsbuffer.random_rows import CUTOFF, NEW, OLD, databases
from support.dbsbuffer.rows import (
    Assoc,
    Block,
    Dataset,
    File,
    Location,
    Parent,
    Rows,
    Subscription,
    Workflow,
    load,
)
from support.dbsbuffer.schema import clear

QUARTER = 90 * 86400
RULES = [Rules(CUTOFF + age, age, block_rules) for age in (0, QUARTER) for block_rules in (True, False)]
AGED = RULES[2]


@dataclass(frozen=True)
class Agent:
    """A database with an agent's tables. open: one more session that may write."""

    connection: Connection
    open: Callable[[], Connection]

    def fill(self, rows: Rows) -> Rows:
        """The database holds these rows and no others; how it stored them."""
        clear(self.connection)
        load(self.connection, rows)
        return rows.as_stored(self.connection.dialect)

    def same_name(self, name: str) -> str:
        """As the database compares names."""
        return same_name_in(self.connection.dialect)(name)

    def check(self, rows: Rows, rules: Rules) -> tuple[Plan, Deletable]:
        """Facts, plan and placeholders are what Python makes of the same rows."""
        stored = self.fill(rows)
        assert comparable(facts.read_facts(self.connection)) == comparable(facts_of(stored, self.same_name))
        self.connection.rollback()
        plan = facts.make_plan(self.connection, rules)
        expected = deletable(stored, rules.now, rules.retention, rules.block_rules, self.same_name)
        assert set(plan.workflows) == expected.workflows
        assert set(plan.blocks) == expected.blocks
        assert plan.files == len(expected.files)
        assert plan.oldest == oldest(stored, expected.files)
        assert plan.placeholders == len(expected.placeholders)
        self.connection.rollback()
        return plan, expected


@pytest.fixture(scope="module", params=["mariadb", "oracle"])
def agent(request: pytest.FixtureRequest) -> Iterator[Agent]:
    with ExitStack() as stack:
        if request.param == "mariadb":
            where = stack.enter_context(mariadb_agent(request.getfixturevalue("mariadb_server")))

            def session() -> Connection:
                return connect(where, 30, read_only=False)
        else:
            session = stack.enter_context(oracle_agent()).session
        yield Agent(stack.enter_context(session()), session)


@settings(max_examples=300)
@given(databases(), st.sampled_from(RULES))
def test_the_database_selects_what_the_rules_say_file_by_file(agent, rows, rules):
    agent.check(rows, rules)


REAL, BOGUS, OTHER = 7, 8, 9
"""Rows of dbsbuffer_algo_dataset_assoc: no number of a dataset is among them."""

WORLD = Rows(
    workflows=[Workflow(1, "one", "/one/T"), Workflow(2, "two", "/two/T")],
    datasets=[Dataset(1, "/A/B/RAW"), Dataset(2, "bogus")],
    assocs=[Assoc(REAL, 1), Assoc(BOGUS, 2)],
    locations=[Location(1, "T1_XX_Site")],
    blocks=[Block(1, 1, "/A/B/RAW#1", 1, OLD), Block(2, 1, "/A/B/RAW#2", 1, OLD)],
    files=[File(10, "/store/10", REAL, 1, workflow=1), File(20, "/store/20", REAL, 2, workflow=2)],
)
"""All of it may go."""


def test_all_of_a_clean_database_goes(agent):
    plan, _ = agent.check(WORLD, AGED)
    assert plan.workflows == {1: "one", 2: "two"} and plan.blocks == [1, 2]
    assert (plan.files, plan.first, plan.last, plan.held, plan.held_blocks) == (2, 10, 20, {}, {})


def test_nothing_is_in_an_empty_database(agent):
    plan, _ = agent.check(Rows(), AGED)
    assert plan == Plan()


def more(*, files=(), **parts) -> Rows:
    """WORLD with other tables, and more files."""
    return replace(WORLD, files=[*WORLD.files, *files], **parts)


def changed(**values) -> Rows:
    """WORLD where file 10 is another."""
    return replace(WORLD, files=[WORLD.files[0]._replace(**values), WORLD.files[1]])


def placeholder(number: int, **values) -> File:
    return File(number, f"/store/in/{number}", BOGUS, None, "GLOBAL", 1)._replace(**values)


INPUT = placeholder(30)
HELD = {
    "a name in WMBS": (replace(WORLD, wmbs_names=["one"]), {"one": "still in WMBS"}),
    "an LFN in WMBS": (replace(WORLD, wmbs_lfns=["/store/10"]), {"one": "file still in WMBS"}),
    "no name": (
        replace(WORLD, workflows=[Workflow(1, None, "/one/T"), WORLD.workflows[1]]),
        {"#1": "workflow without a name"},
    ),
    "an empty name": (
        replace(WORLD, workflows=[Workflow(1, "", "/one/T"), WORLD.workflows[1]]),
        {"#1": "workflow without a name"},
    ),
    "not uploaded": (changed(status="NOTUPLOADED"), {"one": "file NOTUPLOADED"}),
    "not uploaded, and never will": (
        changed(status="NOTUPLOADED", lfn="/store/unmerged/10"),
        {"one": "file NOTUPLOADED"},
    ),
    "no status": (changed(status=None), {"one": "file status unknown"}),
    "an empty status": (changed(status=""), {"one": "file status unknown"}),
    "another status": (changed(status="LOST", lfn="/store/user/10"), {"one": "file status unknown"}),
    "not in Rucio": (changed(in_phedex=0), {"one": "file not in Rucio"}),
    "in_phedex NULL": (changed(in_phedex=None), {"one": "file not in Rucio"}),
    "an LFN like MCFakeFile": (changed(in_phedex=0, lfn="/store/MCFakeFile"), {"one": "file not in Rucio"}),
    "an LFN like /store/user": (changed(in_phedex=0, lfn="/data/store/user/"), {"one": "file not in Rucio"}),
    "a block that is not there": (changed(block_id=99, modified=OLD), {"one": "block missing"}),
    "too young": (changed(modified=NEW), {"one": "younger than the retention"}),
    "no age": (changed(block_id=None), {"one": "age unknown"}),
    "child": (
        more(files=[File(11, "/store/11", REAL, status="NOTUPLOADED", workflow=1)], parents=[Parent(20, 10)]),
        {"one": "file NOTUPLOADED", "two": "child of a workflow that stays"},
    ),
    "parent": (
        more(files=[File(11, "/store/11", REAL, status="NOTUPLOADED", workflow=1)], parents=[Parent(10, 20)]),
        {"one": "file NOTUPLOADED", "two": "parent of a workflow that stays"},
    ),
    "block": (
        more(files=[File(11, "/store/11", REAL, 2, "NOTUPLOADED", workflow=1)]),
        {"one": "file NOTUPLOADED", "two": "shares a block with a workflow that stays"},
    ),
    "input": (
        more(files=[INPUT], parents=[Parent(10, 30), Parent(20, 30)], wmbs_names=["one"]),
        {"one": "still in WMBS", "two": "shares an input with a workflow that stays"},
    ),
    "input that is a child of one and a parent of the other": (
        more(files=[INPUT], parents=[Parent(30, 10), Parent(20, 30)], wmbs_names=["two"]),
        {"two": "still in WMBS", "one": "shares an input with a workflow that stays"},
    ),
    "parent of no workflow": (
        more(files=[INPUT._replace(status="InDBS")], parents=[Parent(10, 30)]),
        {"one": "linked to a file of no workflow"},
    ),
    "child of no workflow": (
        more(files=[INPUT._replace(status=None)], parents=[Parent(30, 20)]),
        {"two": "linked to a file of no workflow"},
    ),
    "input with a block": (
        more(files=[INPUT._replace(block_id=99)], parents=[Parent(10, 30)]),
        {"one": "linked to a file of no workflow"},
    ),
    "input with a parent of no workflow": (
        more(files=[INPUT, placeholder(31)], parents=[Parent(10, 30), Parent(30, 31)]),
        {"one": "linked to a file of no workflow"},
    ),
    "input with a child of no workflow": (
        more(files=[INPUT, placeholder(31)], parents=[Parent(10, 30), Parent(31, 30)]),
        {"one": "linked to a file of no workflow"},
    ),
    "input of itself": (
        more(files=[INPUT], parents=[Parent(10, 30), Parent(30, 30)]),
        {"one": "linked to a file of no workflow"},
    ),
    "input in WMBS": (
        more(files=[INPUT], parents=[Parent(10, 30)], wmbs_lfns=[INPUT.lfn]),
        {"one": "input still in WMBS"},
    ),
    "input of a dataset not subscribed yet": (
        more(files=[INPUT], parents=[Parent(10, 30)], subscriptions=[Subscription(1, 2, "T1", 0)]),
        {"one": "input of a dataset not subscribed yet"},
    ),
    "input of a dataset with a subscription NULL": (
        more(files=[INPUT], parents=[Parent(10, 30)], subscriptions=[Subscription(1, 2, "T1", None)]),
        {"one": "input of a dataset not subscribed yet"},
    ),
    "a file of no workflow in the block": (
        more(files=[File(30, "/store/30", REAL, 1)]),
        {"one": "shares a block with a file of no workflow"},
    ),
    "an input in the block": (
        more(files=[INPUT._replace(block_id=2)]),
        {"two": "shares a block with a file of no workflow"},
    ),
}


@pytest.mark.parametrize("name", HELD)
def test_what_stays_and_why(agent, name):
    rows, reasons = HELD[name]
    plan, _ = agent.check(rows, AGED)
    assert plan.held == {workflow: {reason: 1} for workflow, reason in reasons.items()}


@pytest.mark.parametrize("name", ["ONE", "one ", "on\xe9"])
def test_names_that_are_the_same_to_the_database_stay_together(agent, name):
    # WMCore marks a workflow as completed by its name, so there is no telling which of the two it meant.
    unfinished = replace(WORLD, workflows=[*WORLD.workflows, Workflow(3, name, "/one/other", 0)])
    agent.fill(unfinished)
    plan = facts.make_plan(agent.connection, AGED)
    if agent.connection.dialect == MARIADB:
        assert plan.held == {"one": {"task not completed": 1}} and plan.workflows == {2: "two"} and plan.files == 1
    else:
        assert plan.held == {name: {"task not completed": 1}} and plan.workflows == {1: "one", 2: "two"}


def test_the_oldest_file_counts_not_the_newest_of_its_kind(agent):
    older = WORLD.files[0]._replace(id=11, lfn="/store/11", modified=OLD - 5)
    plan, _ = agent.check(more(files=[older, older._replace(id=12, lfn="/store/12", modified=OLD - 1)]), AGED)
    assert plan.oldest == OLD - 5


USES = {
    "nothing": ((), False),
    "a fileset": (("INSERT INTO wmbs_fileset_files (fileid, fileset, insert_time) VALUES (1, 1, 0)",), True),
    "a child": (("INSERT INTO wmbs_file_parent (child, parent) VALUES (2, 1)",), True),
    "a job": (
        (
            "SET SESSION foreign_key_checks = 0",
            "INSERT INTO wmbs_job_assoc (job, fileid) VALUES (1, 1)",
            "SET SESSION foreign_key_checks = 1",
        ),
        True,
    ),
}


@pytest.mark.parametrize("use", USES)
def test_a_row_of_wmbs_counts_where_something_there_uses_it(agent, use):
    """Either for a file of a workflow or for a placeholder."""
    statements, stays = USES[use]
    if use == "a job" and agent.connection.dialect != MARIADB:
        pytest.skip("a job needs rows in a dozen tables, but for MariaDB's way around them")
    for file, reason in ((WORLD.files[0], "file still in WMBS"), (INPUT, "input still in WMBS")):
        agent.fill(more(files=[INPUT], parents=[Parent(10, 30)]))
        agent.connection.begin()
        for number, lfn in ((1, file.lfn), (2, "/store/other")):
            agent.connection.execute(f"INSERT INTO wmbs_file_details (id, lfn) VALUES ({number}, '{lfn}')")
        for statement in statements:
            agent.connection.execute(statement)
        agent.connection.commit()
        plan = facts.make_plan(agent.connection, AGED)
        assert plan.held == ({"one": {reason: 1}} if stays else {})
        assert plan.placeholders == int(not stays)
        agent.connection.rollback()


def test_dataset_rules_are_those_of_the_files_own_dataset(agent):
    subscriptions = [Subscription(1, 1, "T1", 1, 1), Subscription(2, 1, "T2", 1, 0), Subscription(3, 2, "T1", 0)]
    blocks = [WORLD.blocks[0]._replace(deleted=1), WORLD.blocks[1]._replace(deleted=0)]
    plan, _ = agent.check(replace(WORLD, subscriptions=subscriptions, blocks=blocks), AGED)
    assert plan.workflows == {1: "one"} and plan.held == {"two": {"block not deleted yet": 1}}
    late = replace(WORLD, subscriptions=[*subscriptions[:2], Subscription(3, 1, "T3", None)], blocks=blocks)
    plan, _ = agent.check(late, AGED)
    assert plan.held["one"] == {"file of a dataset not subscribed yet": 1} and plan.workflows == {}


@pytest.mark.parametrize("lfn", ["/store/unmerged/1", "x-unmerged-y", "MCFakeFile1", "/a/BACKFILL/1", "/store/user/a"])
def test_what_is_never_registered_needs_no_replica(agent, lfn):
    assert agent.check(changed(in_phedex=0, lfn=lfn), AGED)[0].workflows == {1: "one", 2: "two"}


PLACEHOLDERS = {
    "without links": ([], [], True),
    "without links, in WMBS": ([], [INPUT.lfn], False),
    "parent of what goes": ([Parent(10, 30)], [], True),
    "child of what goes": ([Parent(30, 10)], [], True),
    "between two that go": ([Parent(10, 30), Parent(30, 20)], [], True),
    "parent of what stays": ([Parent(10, 30)], ["/store/10"], False),
    "child of what stays": ([Parent(30, 10)], ["/store/10"], False),
    "one stays": ([Parent(10, 30), Parent(30, 20)], ["/store/20"], False),
    "another one stays": ([Parent(10, 20)], ["/store/10"], True),
}


@pytest.mark.parametrize("name", PLACEHOLDERS)
def test_placeholders_go_with_all_that_they_are_linked_to(agent, name):
    parents, wmbs_lfns, goes = PLACEHOLDERS[name]
    _, expected = agent.check(more(files=[INPUT], parents=parents, wmbs_lfns=wmbs_lfns), AGED)
    assert expected.placeholders == ({30} if goes else set())


def test_files_are_counted_over_all_algos_of_a_dataset(agent):
    files = [
        File(30, "/store/30", OTHER, 1, workflow=1, modified=OLD),
        File(31, "/store/31", OTHER, 1, workflow=1),
        File(5, "/store/5", REAL, 1, workflow=1, modified=OLD),
        File(6, "/store/6", REAL, 1, workflow=1, modified=NEW),
        placeholder(40),
    ]
    rows = more(
        files=files,
        assocs=[*WORLD.assocs, Assoc(OTHER, 1)],
        parents=[Parent(30, 40), Parent(31, 40), Parent(5, 40)],
        wmbs_lfns=["/store/30", "/store/5", placeholder(40).lfn],
    )
    plan, _ = agent.check(rows, AGED)
    reasons = {"file still in WMBS": 2, "input still in WMBS": 1, "younger than the retention": 1}
    assert plan.held == {"one": reasons} and plan.held_files == 5
    clean = replace(rows, wmbs_lfns=[])
    assert agent.check(clean, AGED)[0].held == {"one": {"younger than the retention": 1}}
    plan, _ = agent.check(clean, RULES[0])
    assert (plan.files, plan.first, plan.last, plan.held) == (6, 5, 31, {})


def test_placeholders_do_not_go_with_nothing(agent):
    rows = more(files=[INPUT, placeholder(31)], parents=[Parent(10, 30)], wmbs_names=["one", "two"])
    plan, expected = agent.check(rows, AGED)
    assert plan.workflows == {} and expected.placeholders == {31}


def test_names_that_differ_in_case_alone_may_both_be_in_wmbs(agent):
    plan, _ = agent.check(more(wmbs_names=["one", "ONE"]), AGED)
    assert plan.held["one"]["still in WMBS"] == 1


def test_more_workflows_than_one_list_holds(agent):
    many = 2100
    rows = replace(
        WORLD,
        workflows=[Workflow(number, f"w{number}", "/T") for number in range(1, many + 1)],
        files=[
            *(File(10_000 + number, f"/store/{number}", REAL, 1, workflow=number) for number in range(1, many + 1)),
            *(placeholder(20_000 + number) for number in (1, 1000, 1001, many)),
            placeholder(30_000),
        ],
        parents=[
            *(Parent(10_000 + number, 20_000 + number) for number in (1, 1000, 1001, many)),
            *(Parent(10_000 + number, 30_000) for number in (1, many)),
        ],
    )
    plan, expected = agent.check(rows, AGED)
    assert len(plan.workflows) == plan.files == many and len(expected.placeholders) == 5


def test_the_plan_is_of_one_moment(agent, monkeypatch):
    agent.fill(WORLD)
    decide = facts.plan_cleanup

    def changed_meanwhile(found, rules):
        with agent.open() as other:
            other.begin()
            other.execute("DELETE FROM dbsbuffer_file")
            other.execute("UPDATE dbsbuffer_workflow SET completed = 0")
            other.commit()
        return decide(found, rules)

    monkeypatch.setattr(facts, "plan_cleanup", changed_meanwhile)
    plan = facts.make_plan(agent.connection, AGED)
    assert plan.files == 2 and plan.held == {}
    monkeypatch.undo()
    assert sorted(facts.make_plan(agent.connection, AGED).held) == ["one", "two"]
