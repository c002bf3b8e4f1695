# SPDX-License-Identifier: GPL-3.0-or-later
"""Which DBSBuffer rows may go: every reason by example, and the same choice as a literal reading of the rules."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import (
    DONE,
    FREE,
    NOT_IN_RUCIO,
    NOT_UPLOADED,
    UNKNOWN_STATUS,
    Block,
    Facts,
    FileGroup,
    Outsiders,
    Plan,
    Rules,
    Subscription,
    Workflow,
    plan_cleanup,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dbsbuffer import rows as table
from support.dbsbuffer.brute_force import Deletable, deletable, oldest
from support.dbsbuffer.facts_of_rows import facts_of, links_among
from support.dbsbuffer.random_rows import CUTOFF, databases
from support.dbsbuffer.rows import File, Parent, Rows

DAY = 86400
NOW = 1_700_000_000
MONTH = Rules(NOW, retention=30 * DAY)
NO_AGE = Rules(NOW)


def workflow(row, name=None, completed=1, in_wmbs=False, namesake=None):
    return Workflow(row, f"w{row}" if name is None else name, completed, in_wmbs, namesake or row)


def block(number, **values):
    usual = {"dataset": 1, "status": "Closed", "rule_id": "a-rule", "deleted": 0, "created": NOW - 90 * DAY}
    return Block(number, **usual | values)


def group(workflow, block=None, **values):
    usual = {"dataset": 1, "state": DONE, "files": 2, "dated": 0, "oldest": None, "newest": None, "first": 1, "last": 2}
    return FileGroup(workflow, block, **usual | values)


def plan_of(rules=NO_AGE, **parts) -> Plan:
    parts = {field.name: () for field in dataclasses.fields(Facts)} | parts
    return plan_cleanup(Facts(**parts | {"links": links_among(list(parts["links"]))}), rules)


def many(*workflows, **parts) -> Plan:
    """Plan where w1 stays because a task of it is not completed, and the other rows have no reason of their own."""
    return plan_of(workflows=[workflow(1, completed=0), *(workflow(row) for row in workflows)], **parts)


def test_what_meets_every_rule_goes():
    plan = plan_of(
        MONTH,
        workflows=[workflow(1, "a"), workflow(2, "a", namesake=1), workflow(3)],
        blocks=[block(7)],
        subscriptions=[Subscription(1, subscribed=1, delete_blocks=0)],
        groups=[group(1, 7, files=5, first=10, last=14), group(2, 7, files=1, first=20, last=20)],
    )
    assert plan.workflows == {1: "a", 2: "a", 3: "w3"}
    assert plan.blocks == [7]
    assert (plan.files, plan.first, plan.last) == (6, 10, 20)
    assert plan.held == plan.held_blocks == {} and plan.held_files == 0


def test_nothing_gives_an_empty_plan():
    assert plan_of() == plan_of(MONTH) == Plan()


ONE = [workflow(1)]
HELD = {
    "task not completed": (1, {"workflows": [workflow(1, completed=0)]}),
    "still in WMBS": (1, {"workflows": [workflow(1, in_wmbs=True)]}),
    "file NOTUPLOADED": (2, {"groups": [group(1, state=NOT_UPLOADED)]}),
    "file not in Rucio": (2, {"groups": [group(1, state=NOT_IN_RUCIO)]}),
    "file status unknown": (2, {"groups": [group(1, state=UNKNOWN_STATUS)]}),
    "block not Closed": (1, {"groups": [group(1, 7)], "blocks": [block(7, status="InDBS")]}),
    "block without a rule": (1, {"groups": [group(1, 7)], "blocks": [block(7, rule_id="0")]}),
    "block not deleted yet": (
        1,
        {"groups": [group(1, 7)], "blocks": [block(7)], "subscriptions": [Subscription(1, 1, 1)]},
    ),
    "block missing": (1, {"groups": [group(1, 7)]}),
    "shares a block with a file of no workflow": (1, {"groups": [group(1, 7), group(None, 7)], "blocks": [block(7)]}),
    "file of a dataset not subscribed yet": (2, {"groups": [group(1)], "subscriptions": [Subscription(1, 0, 0)]}),
    "file still in WMBS": (3, {"groups": [group(1, files=3)], "in_wmbs": [(1, 3)]}),
    "linked to a file of no workflow": (
        4,
        {"groups": [group(1)], "outsiders": [Outsiders(1, 1, "linked to a file of no workflow", 4)]},
    ),
    "input still in WMBS": (4, {"groups": [group(1)], "outsiders": [Outsiders(1, 1, "input still in WMBS", 4)]}),
    "input of a dataset not subscribed yet": (
        4,
        {"groups": [group(1)], "outsiders": [Outsiders(1, 1, "input of a dataset not subscribed yet", 4)]},
    ),
}


@pytest.mark.parametrize("reason", HELD)
def test_each_reason_to_stay(reason):
    count, parts = HELD[reason]
    plan = plan_of(**{"workflows": ONE} | parts)
    assert plan.held == {"w1": {reason: count}}
    assert plan.workflows == {} and plan.blocks == [] and plan.files == 0
    assert plan.held_files == sum(one.files for one in parts.get("groups", ()) if one.workflow)


@pytest.mark.parametrize("name", [None, ""])
def test_a_row_without_a_name_stays_by_itself(name):
    rows = [Workflow(1, name, 1, False, None), Workflow(2, name, 1, False, 1), workflow(3)]
    plan = plan_of(workflows=rows, groups=[group(1)])
    assert plan.held == {"#1": {"workflow without a name": 1}, "#2": {"workflow without a name": 1}}
    assert plan.workflows == {3: "w3"} and plan.held_files == 2


def test_a_name_that_reads_like_a_row_without_one_is_another():
    rows = [Workflow(2, None, 1, False, None), workflow(3, "#2"), workflow(4, "##2")]
    plan = plan_of(workflows=rows, groups=[group(2), group(3)])
    assert plan.held == {"#2": {"workflow without a name": 1}} and plan.held_files == 2
    assert plan.workflows == {3: "##2", 4: "###2"}
    rows = [Workflow(2, "", 1, False, None), workflow(3, "#2", completed=0)]
    assert plan_of(workflows=rows).held == {"#2": {"workflow without a name": 1}, "##2": {"task not completed": 1}}


def test_names_are_the_same_where_the_database_says_so():
    rows = [workflow(1, "a"), workflow(2, "A", completed=0, namesake=1), workflow(3, "b"), workflow(4, "B")]
    plan = plan_of(workflows=rows, groups=[group(1), group(3)])
    assert plan.held == {"a": {"task not completed": 1}} and plan.workflows == {3: "b", 4: "B"}


@pytest.mark.parametrize("completed", [None, 0, 2, -1])
def test_only_one_means_completed(completed):
    rows = [workflow(1, "a", completed), workflow(2, "a", 1, namesake=1), workflow(3, "a", completed, namesake=1)]
    assert plan_of(workflows=rows).held == {"a": {"task not completed": 2}}


@pytest.mark.parametrize("rule_id", [None, "", "0"])
def test_a_rule_is_asked_for_only_where_blocks_have_rules(rule_id):
    parts = {"workflows": ONE, "groups": [group(1, 7)], "blocks": [block(7, rule_id=rule_id)]}
    assert plan_of(**parts).held_blocks == {"block without a rule": 1}
    assert plan_of(Rules(NOW, block_rules=False), **parts).blocks == [7]


@pytest.mark.parametrize(("deleted", "goes"), [(None, False), (0, False), (2, False), (1, True)])
def test_deleted_matters_where_any_subscription_deletes_blocks(deleted, goes):
    parts = {"workflows": ONE, "groups": [group(1, 7)], "blocks": [block(7, deleted=deleted)]}
    both = [Subscription(1, 1, 0), Subscription(1, 1, 1), Subscription(1, 1, None)]
    assert plan_of(**parts, subscriptions=both).workflows == ({1: "w1"} if goes else {})
    assert plan_of(**parts, subscriptions=[Subscription(1, 1, None), Subscription(2, 1, 1)]).blocks == [7]


@pytest.mark.parametrize("status", [None, "", "Open", "Pending", "InDBS", "closed?"])
def test_a_block_of_another_status_stays_and_keeps_its_files(status):
    parts = {"workflows": [*ONE, workflow(2)], "groups": [group(1, 7), group(2, 8)]}
    plan = plan_of(**parts, blocks=[block(7, status=status), block(8)])
    assert (plan.workflows, plan.blocks, plan.held_blocks) == ({2: "w2"}, [8], {"block not Closed": 1})


@pytest.mark.parametrize("subscribed", [None, 0, 2])
def test_every_subscription_must_be_made(subscribed):
    subscriptions = [Subscription(1, 1, 0), Subscription(1, subscribed, 0), Subscription(2, 1, 0)]
    parts = {"workflows": [*ONE, workflow(2)], "groups": [group(1), group(2, dataset=2)]}
    plan = plan_of(**parts, subscriptions=subscriptions)
    assert plan.held == {"w1": {"file of a dataset not subscribed yet": 2}} and plan.workflows == {2: "w2"}


def test_all_reasons_of_a_workflow_are_told():
    plan = plan_of(
        workflows=[workflow(1, "a", completed=0, in_wmbs=True), workflow(2, "a", in_wmbs=True, namesake=1)],
        groups=[group(1, state=NOT_UPLOADED), group(2, 7, files=3, dataset=2), group(1, 7, state=NOT_IN_RUCIO)],
        blocks=[block(7, status="Open")],
        subscriptions=[Subscription(2, 0, 1)],
    )
    assert plan.held == {
        "a": {
            "task not completed": 1,
            "still in WMBS": 1,
            "file NOTUPLOADED": 2,
            "file not in Rucio": 2,
            "block not Closed": 1,
            "file of a dataset not subscribed yet": 3,
        }
    }
    assert plan.held_files == 7


COUPLED = {
    "shares a block with a workflow that stays": {"groups": [group(1, 7), group(2, 7)], "blocks": [block(7)]},
    "child of a workflow that stays": {"links": [(2, 1)]},
    "parent of a workflow that stays": {"links": [(1, 2)]},
    "shares an input with a workflow that stays": {"outsiders": [Outsiders(1, 2, FREE, 1)]},
}


@pytest.mark.parametrize("reason", COUPLED)
def test_what_stays_keeps_what_it_is_coupled_with(reason):
    parts = {"groups": [group(1), group(2), group(3)]} | COUPLED[reason]
    plan = many(2, 3, **parts)
    assert plan.held == {"w1": {"task not completed": 1}, "w2": {reason: 1}}
    assert plan.workflows == {3: "w3"}
    if "blocks" in parts:
        assert plan.held_blocks == {"holds a file of a workflow that stays": 1}


def test_coupled_workflows_without_a_reason_go_together():
    for parts in COUPLED.values():
        plan = plan_of(workflows=[workflow(1), workflow(2)], **parts)
        assert plan.workflows == {1: "w1", 2: "w2"} and plan.blocks == [one.id for one in parts.get("blocks", ())]


@pytest.mark.parametrize("length", [2, 3, 5, 2000])
def test_it_reaches_to_any_distance_either_way(length):
    links = [(row, row + 1) if row % 2 else (row + 1, row) for row in range(1, length)]
    plan = many(*range(2, length + 3), links=links)
    assert plan.workflows == {row: f"w{row}" for row in (length + 1, length + 2)}
    assert len(plan.held) == length and all(plan.held.values())


def test_it_reaches_through_every_kind_of_coupling():
    plan = many(
        2,
        3,
        4,
        5,
        links=[(1, 2)],
        outsiders=[Outsiders(2, 3, FREE, 1)],
        groups=[group(3, 7), group(4, 7), group(5, 8)],
        blocks=[block(7)],
    )
    assert sorted(plan.held) == ["w1", "w2", "w3", "w4", "w5"]
    assert plan.held["w4"] == {"shares a block with a workflow that stays": 1}
    assert plan.held["w3"].keys() >= {"shares an input with a workflow that stays"}


def test_rows_of_one_name_stay_together():
    rows = [workflow(1, completed=0), workflow(2, "a"), workflow(3, "a", namesake=2), workflow(4)]
    plan = plan_of(workflows=rows, groups=[group(1), group(2), group(3)], links=[(1, 2), (3, 4)])
    assert sorted(plan.held) == ["a", "w1", "w4"]
    assert plan.held["w4"] == {"parent of a workflow that stays": 1}


def test_an_empty_workflow_goes_by_itself_and_has_no_age():
    rows = [workflow(1), workflow(2, completed=0), workflow(3, in_wmbs=True)]
    plan = plan_of(MONTH, workflows=rows)
    assert plan.workflows == {1: "w1"} and sorted(plan.held) == ["w2", "w3"]
    assert (plan.files, plan.first, plan.last, plan.oldest) == (0, 0, 0, None)


AGES = {
    "at the limit": (MONTH.cutoff, True),
    "a second too young": (MONTH.cutoff + 1, False),
    "old": (0, True),
    "of the future": (NOW + DAY, False),
}


@pytest.mark.parametrize("name", AGES)
def test_age_by_the_files_own_time_or_by_the_block(name):
    time, old = AGES[name]
    held = {} if old else {"w1": {"younger than the retention": 1}}
    young = NOW - DAY
    own = {"groups": [group(1, 7, dated=2, newest=time)], "blocks": [block(7, created=young)]}
    by_block = {"groups": [group(1, 7)], "blocks": [block(7, created=time)]}
    for parts in (own, by_block):
        assert plan_of(MONTH, workflows=ONE, **parts).held == held
        assert plan_of(NO_AGE, workflows=ONE, **parts).held == {}
        # A filled block has no age of its own: it goes with its files.
        assert plan_of(MONTH, workflows=ONE, **parts).blocks == ([7] if old else [])


def test_the_newest_known_time_counts():
    old, young = MONTH.cutoff - DAY, MONTH.cutoff + 1
    mixed = [group(1, 7, dated=1, newest=old)]  # the other file's time is the block's
    assert plan_of(MONTH, workflows=ONE, groups=mixed, blocks=[block(7, created=young)]).workflows == {}
    two = [group(1, dated=2, newest=old), group(1, dated=1, newest=young)]
    assert plan_of(MONTH, workflows=ONE, groups=two).workflows == {}
    assert plan_of(MONTH, workflows=ONE, groups=[group(1, dated=1, newest=old)]).workflows == {1: "w1"}


@pytest.mark.parametrize(
    "parts",
    [{"groups": [group(1)]}, {"groups": [group(1, 7)], "blocks": [block(7, created=None)]}],
    ids=("no block", "block without a time"),
)
def test_files_of_unknown_age_stay_only_where_age_counts(parts):
    assert plan_of(MONTH, workflows=ONE, **parts).held == {"w1": {"age unknown": 1}}
    assert plan_of(NO_AGE, workflows=ONE, **parts).workflows == {1: "w1"}


@pytest.mark.parametrize("created", [None, MONTH.cutoff + 1, MONTH.cutoff])
def test_empty_blocks(created):
    blocks = [block(7, created=created), block(8, status="Open"), block(9, rule_id="0")]
    aged = plan_of(MONTH, blocks=blocks)
    reasons = {"block not Closed": 1, "block without a rule": 1}
    assert plan_of(blocks=blocks).blocks == [7] and plan_of(blocks=blocks).held_blocks == reasons
    if created == MONTH.cutoff:
        assert aged.blocks == [7] and aged.held_blocks == reasons
    else:
        assert aged.blocks == []
        assert aged.held_blocks == {"empty, younger than the retention or of unknown age": 1} | reasons


def test_a_block_with_only_files_of_no_workflow_stays():
    plan = plan_of(groups=[group(None, 7)], blocks=[block(7)])
    assert plan.held_blocks == {"holds a file of no workflow": 1} and plan.blocks == [] and plan.held == {}


def test_facts_may_be_streams_read_once():
    plan = plan_of(workflows=iter(ONE), groups=iter([group(1, 7)]), blocks=iter([block(7)]), links=iter([]))
    assert plan.workflows == {1: "w1"} and plan.blocks == [7]


RULES = [Rules(CUTOFF + age, age, block_rules) for age in (0, 90 * DAY) for block_rules in (True, False)]


def brute_force(rows: Rows, rules: Rules) -> Deletable:
    return deletable(rows, rules.now, rules.retention, rules.block_rules)


def told(row: table.Workflow) -> str:
    """How a plan calls a workflow."""
    return f"#{row.id}" if not row.name else f"#{row.name}" if row.name[0] == "#" else row.name


@settings(max_examples=2000)  # each with four rules
@given(databases())
def test_the_plan_is_what_the_rules_say_file_by_file(rows):
    facts = facts_of(rows)
    for rules in RULES:
        plan = plan_cleanup(facts, rules)
        expected = brute_force(rows, rules)
        assert plan.workflows == {row.id: told(row) for row in rows.workflows if row.id in expected.workflows}
        assert sorted(plan.blocks) == sorted(expected.blocks)
        assert plan.files == len(expected.files)
        assert plan.placeholders == len(expected.placeholders)
        assert plan.first == min(expected.files, default=0)
        assert plan.last == max(expected.files, default=0)
        assert plan.oldest == oldest(rows, expected.files)
        assert plan.held_files == sum(file.workflow is not None for file in rows.files) - len(expected.files)
        assert set(plan.held) == {told(row) for row in rows.workflows if row.id not in plan.workflows}
        assert all(reasons and min(reasons.values()) > 0 for reasons in plan.held.values())
        assert sum(plan.held_blocks.values()) == len(rows.blocks) - len(plan.blocks)


def within(smaller: Deletable, larger: Deletable) -> bool:
    """Whether all that goes here goes there as well."""
    return all(getattr(smaller, part) <= getattr(larger, part) for part in vars(larger))


def planned(rows: Rows, rules: Rules) -> Deletable:
    """Without placeholders, which the planner does not see one by one."""
    plan = plan_cleanup(facts_of(rows), rules)
    files = frozenset(file.id for file in rows.files if file.workflow in plan.workflows)
    return Deletable(files, frozenset(), frozenset(plan.workflows), frozenset(plan.blocks))


@settings(max_examples=400)
@given(databases(), st.data(), st.sampled_from(RULES))
def test_one_more_dirty_file_never_frees_anything(rows, data, rules):
    number = 1000
    dirty = File(
        number,
        "/store/data/dirty.root",
        rows.assocs[0].id,
        data.draw(st.sampled_from([None, *(row.id for row in rows.blocks)])),
        "NOTUPLOADED",
        workflow=data.draw(st.sampled_from(rows.workflows)).id,
        modified=data.draw(st.sampled_from([None, CUTOFF - DAY, CUTOFF + DAY])),
    )
    links = [Parent(number, file.id) for file in rows.files if data.draw(st.booleans())][:2]
    more = dataclasses.replace(rows, files=[*rows.files, dirty], parents=[*rows.parents, *links])
    after = planned(more, rules)
    assert within(after, planned(rows, rules))
    assert dirty.workflow not in after.workflows and dirty.block_id not in after.blocks
    assert not after.files & {link.parent for link in links}
    assert within(brute_force(more, rules), brute_force(rows, rules))


@settings(max_examples=200)
@given(databases())
def test_a_stricter_rule_never_frees_anything(rows):
    strict, no_block_rules, no_age, loose = (planned(rows, RULES[at]) for at in (2, 3, 0, 1))
    assert within(strict, no_block_rules) and within(strict, no_age)
    assert within(no_block_rules, loose) and within(no_age, loose)
