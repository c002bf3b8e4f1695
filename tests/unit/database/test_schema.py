# SPDX-License-Identifier: GPL-3.0-or-later
"""Structures: what counts as a difference and what does not."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import (
    compare,
    fingerprint,
    normalize,
    normalize_default,
    normalize_type,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st

DATA = Path(__file__).parent / "data"
NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
COLUMN = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["int", "int unsigned", "bigint", "varchar(255)", "varchar(700)", "decimal(10,4)"]),
        "nullable": st.booleans(),
        "default": st.sampled_from([None, "0", "'Low'", "current_timestamp"]),
        "extra": st.sampled_from(["", "auto_increment"]),
    }
)


@st.composite
def tables(draw):
    columns = draw(st.dictionaries(NAMES, COLUMN, min_size=1))
    key = st.lists(st.sampled_from(sorted(columns)), min_size=1, max_size=3, unique=True)
    foreign_key = key.flatmap(
        lambda names: st.fixed_dictionaries(
            {
                "columns": st.just(names),
                "table": NAMES,
                "references": st.permutations(["u", "v", "w"]).map(lambda other: list(other[: len(names)])),
                "on_delete": st.sampled_from(["CASCADE", "RESTRICT", "SET NULL"]),
            }
        )
    )
    return {
        "columns": columns,
        "primary_key": draw(st.one_of(st.just([]), key)),
        "unique": draw(st.lists(key, max_size=3)),
        "indexes": draw(st.lists(key, max_size=3)),
        "foreign_keys": draw(st.lists(foreign_key, max_size=3)),
    }


STRUCTURES = st.dictionaries(NAMES, tables(), min_size=1, max_size=4)


def shuffled(structure, seed):
    """The same structure, with everything whose order says nothing in another order."""
    source = random.Random(seed)

    def mixed(items):
        items = list(items)
        source.shuffle(items)
        return items

    def mixed_foreign_key(key):
        pairs = mixed(zip(key["columns"], key["references"], strict=True))
        return key | {"columns": [pair[0] for pair in pairs], "references": [pair[1] for pair in pairs]}

    return {
        name: {
            "columns": dict(mixed(structure[name]["columns"].items())),
            "primary_key": structure[name]["primary_key"],
            "unique": mixed(structure[name]["unique"]),
            "indexes": mixed(structure[name]["indexes"]),
            "foreign_keys": [mixed_foreign_key(key) for key in mixed(structure[name]["foreign_keys"])],
        }
        for name in mixed(structure)
    }


@given(STRUCTURES, st.integers())
def test_order_never_matters(structure, seed):
    assert compare(structure, shuffled(structure, seed)) == []
    assert fingerprint(structure) == fingerprint(shuffled(structure, seed))


@given(STRUCTURES, STRUCTURES)
def test_comparison_is_symmetric_and_agrees_with_the_fingerprint(one, two):
    there, back = compare(one, two, ("x", "y")), compare(two, one, ("y", "x"))
    assert len(there) == len(back)
    assert (there == []) == (fingerprint(one) == fingerprint(two))
    assert (there == []) == (normalize(one) == normalize(two))


def _other(value, choices):
    return next(choice for choice in choices if choice != value)


CHANGES = {
    "type": lambda column: column.update(type=_other(column["type"], ["int", "bigint"])),
    "nullable": lambda column: column.update(nullable=not column["nullable"]),
    "default": lambda column: column.update(default=_other(column["default"], ["1", "2"])),
    "extra": lambda column: column.update(extra=_other(column["extra"], ["", "auto_increment"])),
}


@given(STRUCTURES, st.sampled_from(sorted(CHANGES)), st.data())
def test_any_change_of_a_column_is_one_difference(structure, change, data):
    table = data.draw(st.sampled_from(sorted(structure)))
    column = data.draw(st.sampled_from(sorted(structure[table]["columns"])))
    changed = copy.deepcopy(structure)
    CHANGES[change](changed[table]["columns"][column])
    lines = compare(structure, changed)
    assert len(lines) == 1
    assert f"{table}: column {column}: {change}" in lines[0]


@given(STRUCTURES, st.sampled_from(["unique", "indexes", "foreign_keys"]), st.data())
def test_a_key_more_or_less_is_a_difference(structure, kind, data):
    table = data.draw(st.sampled_from(sorted(structure)))
    changed = copy.deepcopy(structure)
    if kind == "foreign_keys":
        key = {"columns": ["a"], "table": "elsewhere", "references": ["id"], "on_delete": "CASCADE"}
    else:
        key = ["a", "new"]
    changed[table][kind].append(key)
    assert len(compare(structure, changed)) == 1
    assert len(compare(changed, structure)) == 1


@given(STRUCTURES, st.data())
def test_order_of_columns_in_a_key_matters(structure, data):
    table = data.draw(st.sampled_from(sorted(structure)))
    one, two = copy.deepcopy(structure), copy.deepcopy(structure)
    one[table]["indexes"].append(["x", "y"])
    two[table]["indexes"].append(["y", "x"])
    assert len(compare(one, two)) == 2


def test_a_second_index_on_the_same_columns_is_a_difference():
    one = {"t": {"columns": {}, "primary_key": [], "unique": [], "indexes": [["a"]], "foreign_keys": []}}
    two = copy.deepcopy(one)
    two["t"]["indexes"].append(["a"])
    assert compare(one, two, ("image", "live")) == ["t: index (a) only in live"]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("int(11)", "int"),
        ("INT(10) UNSIGNED", "int unsigned"),
        ("tinyint(1)", "tinyint"),
        ("bigint(20)", "bigint"),
        ("integer", "int"),
        ("decimal(10, 4)", "decimal(10,4)"),
        ("enum('A','b')", "ENUM('A','b')"),
    ],
)
def test_spellings_of_a_type(one, two):
    assert normalize_type(one) == normalize_type(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("int", "int unsigned"),
        ("varchar(255)", "varchar(256)"),
        ("enum('a')", "enum('A')"),
        ("decimal(10,4)", "decimal(10,2)"),
        ("int(5) zerofill", "int(6) zerofill"),
        ("number(11,0)", "number(1,0)"),
    ],
)
def test_types_that_differ(one, two):
    assert normalize_type(one) != normalize_type(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (None, "NULL"),
        ("current_timestamp()", "CURRENT_TIMESTAMP"),
        ("0 ", "0"),
        ("current_timestamp(6)", "CURRENT_TIMESTAMP(6)"),
    ],
)
def test_spellings_of_a_default(one, two):
    assert normalize_default(one) == normalize_default(two)


@pytest.mark.parametrize(("one", "two"), [(None, "'NULL'"), ("'low'", "'Low'"), ("0", "1"), ("0", None)])
def test_defaults_that_differ(one, two):
    assert normalize_default(one) != normalize_default(two)


@pytest.mark.parametrize("wrong", [{"t": {}}, {"t": None}, {"t": {"columns": {"a": {}}}}, None, [1]])
def test_what_is_no_structure_is_an_error(wrong):
    with pytest.raises(WMAgentError, match="no schema description"):
        fingerprint(wrong)


def _real(version, dialect):
    return json.loads((DATA / f"schema-{version}.json").read_text())[dialect]


def test_the_one_change_among_real_releases():
    lines = compare(_real("2.4.1", "mariadb"), _real("2.4.2", "mariadb"), ("2.4.1", "2.4.2"))
    assert len(lines) == 30
    assert "table wma_init only in 2.4.2" in lines
    assert "wmbs_workflow: unique key (name, task) only in 2.4.1" in lines
    assert "wmbs_jobgroup: unique key (guid) only in 2.4.2" in lines
    assert "wmbs_fileset: column open: type int in 2.4.1, tinyint in 2.4.2" in lines
    assert compare(_real("2.4.1", "oracle"), _real("2.4.2", "oracle"))
