# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the two methods is the cheaper one."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.method import (
    DELETE,
    REBUILD,
    choose,
    copied_per_second,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import BLOCK, CLEANED, FILE, WORKFLOW


def rows(files: int, others: int = 0) -> dict[str, int]:
    """Rows of each table: so many in each of the four tables of a file's own rows."""
    return dict.fromkeys(CLEANED, others) | {FILE: files, BLOCK: 7, WORKFLOW: 7}


@pytest.mark.parametrize(
    ("going", "files", "method"),
    [
        (900_000, 1_000_000, REBUILD),
        (100_000, 1_000_000, DELETE),
        (0, 1_000_000, DELETE),
        (100, 100, DELETE),
        (1_000_000, 1_000_000, REBUILD),
    ],
)
def test_the_cheaper_one_is_taken(going, files, method):
    choice = choose(Plan(files=going), rows(files, 4 * files), 10_000, 500_000)
    assert choice.method == method == min(choice.seconds, key=lambda one: choice.seconds[one])
    assert f"to delete {going} files" in choice.reason


def test_what_each_takes():
    # Nine tenths go at 100 files a second; 5 × 100 rows stay, each handled four times at 1000 a second.
    choice = choose(Plan(files=900), rows(1000, 1000), 100, 1000)
    assert choice.seconds == {DELETE: 9.0, REBUILD: 4.0}


def test_blocks_and_workflows_are_not_copied():
    few, many = (choose(Plan(files=10), {**rows(100, 100), BLOCK: n, WORKFLOW: n}, 1, 100) for n in (1, 10**9))
    assert few == many


def test_equal_costs_are_no_reason_to_rebuild():
    assert choose(Plan(files=200), rows(200), 100, 1000).seconds == {DELETE: 2.0, REBUILD: 2.0}
    assert choose(Plan(files=200), rows(200), 100, 1000).method == DELETE


@pytest.mark.parametrize(("deleted", "copied"), [(0, 0), (0.0, 1e9), (1e9, 0.0)])
def test_a_rate_of_nothing_is_no_error(deleted, copied):
    assert choose(Plan(files=5), rows(10), deleted, copied).method in (DELETE, REBUILD)


def test_no_files_at_all():
    assert choose(Plan(), rows(0), 0, 0).method == DELETE


class Database:
    """Copies some rows and tells what it was asked."""

    def __init__(self, copied: int) -> None:
        self.copied = copied
        self.statements: list[str] = []

    def execute(self, sql: str) -> int:
        self.statements.append(sql)
        return self.copied if sql.startswith("CREATE") else 0


@pytest.mark.parametrize(("copied", "seconds", "rate"), [(50_000, 0.5, 100_000), (0, 0.0, 1000), (0, 2.0, 0.5)])
def test_the_sample_is_timed_and_dropped(copied, seconds, rate):
    database, clock = Database(copied), itertools.count(0, seconds)
    assert copied_per_second(database, lambda: next(clock)) == rate
    assert [statement.split(" dbsbuffer_sample")[0] for statement in database.statements] == [
        "CREATE TEMPORARY TABLE",
        "DROP TEMPORARY TABLE",
    ]
