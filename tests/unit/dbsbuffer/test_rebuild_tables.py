# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a rebuild: definitions taken apart and put together again, and its statements."""

from __future__ import annotations

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import rebuild_copy
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_tables import (
    LONGEST_NAME,
    REBUILT,
    add_keys,
    create_bare,
    drop,
    entry,
    names_to_restore,
    new_name,
    renamed,
    restore_names,
    swap,
    take_apart,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

OPTIONS = ") ENGINE=InnoDB AUTO_INCREMENT=30 DEFAULT CHARSET=latin1 COLLATE=latin1_swedish_ci ROW_FORMAT=DYNAMIC"

FILE = f"""CREATE TABLE `dbsbuffer_file` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `lfn` varchar(500) CHARACTER SET latin1 COLLATE latin1_general_cs NOT NULL COMMENT 'a, `b` (c)',
  `workflow` int(11) DEFAULT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `uq_dbs_fil` (`lfn`),
  KEY `idx_dbs_fil_1` (`workflow`),
  CONSTRAINT `dbsbuffer_file_ibfk_1` FOREIGN KEY (`workflow`) REFERENCES `dbsbuffer_workflow` (`id`) ON DELETE CASCADE,
  CONSTRAINT `positive` CHECK (`id` > 0)
{OPTIONS}"""

PARENT = """CREATE TABLE `dbsbuffer_file_parent` (
  `child` int(11) NOT NULL,
  `parent` int(11) NOT NULL,
  PRIMARY KEY (`child`,`parent`),
  KEY `idx_dbs_fil_par_2` (`parent`),
  CONSTRAINT `by hand` FOREIGN KEY (`parent`) REFERENCES `dbsbuffer_file` (`id`) ON DELETE CASCADE,
  CONSTRAINT `dbsbuffer_file_parent_ibfk_2` FOREIGN KEY (`child`) REFERENCES `dbsbuffer_file` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=latin1 COLLATE=latin1_swedish_ci ROW_FORMAT=DYNAMIC"""

RUNLUMI = """CREATE TABLE `dbsbuffer_file_runlumi_map` (
  `filename` int(11) NOT NULL,
  `run` int(11) NOT NULL,
  KEY `odd``name` (`run`,`filename`),
  KEY `idx_dbs_fil_run_1` (`filename`)
) ENGINE=InnoDB DEFAULT CHARSET=latin1 COLLATE=latin1_swedish_ci ROW_FORMAT=DYNAMIC"""


def line(text: str) -> str:
    return " ".join(text.split())


def test_a_table_is_made_with_its_primary_key_alone():
    made = create_bare(renamed(take_apart("dbsbuffer_file", FILE)))
    assert made == (
        "CREATE TABLE `dbsbuffer_file__new` (\n"
        "  `id` int(11) NOT NULL AUTO_INCREMENT,\n"
        "  `lfn` varchar(500) CHARACTER SET latin1 COLLATE latin1_general_cs NOT NULL COMMENT 'a, `b` (c)',\n"
        "  `workflow` int(11) DEFAULT NULL,\n"
        "  PRIMARY KEY (`id`),\n"
        "  CONSTRAINT `positive` CHECK (`id` > 0)\n"
        f"{OPTIONS}"
    )


def test_its_other_keys_come_later_in_their_order():
    assert add_keys(renamed(take_apart("dbsbuffer_file", FILE))) == (
        "ALTER TABLE `dbsbuffer_file__new` ADD UNIQUE KEY `uq_dbs_fil` (`lfn`), "
        "ADD KEY `idx_dbs_fil_1` (`workflow`), ADD CONSTRAINT `dbsbuffer_file__new_ibfk_1` "
        "FOREIGN KEY (`workflow`) REFERENCES `dbsbuffer_workflow` (`id`) ON DELETE CASCADE"
    )


def test_a_table_without_other_keys_needs_no_statement():
    bare = "CREATE TABLE `dbsbuffer_file` (\n  `id` int(11) NOT NULL,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB"
    assert add_keys(renamed(take_apart("dbsbuffer_file", bare))) == ""
    assert restore_names(take_apart("dbsbuffer_file", bare)) == ""


def test_new_tables_refer_to_new_tables_and_named_keys_get_a_name_for_the_meantime():
    keys = {key.name: key.target for key in renamed(take_apart("dbsbuffer_file_parent", PARENT)).foreign}
    assert keys == {
        "by hand__rebuild": "dbsbuffer_file__new",
        "dbsbuffer_file_parent__new_ibfk_2": "dbsbuffer_file__new",
    }


def test_the_old_names_are_put_back():
    swapped = take_apart("dbsbuffer_file_parent", PARENT.replace("`by hand`", "`by hand__rebuild`"))
    assert [(key.name, name) for key, name in names_to_restore(swapped)] == [("by hand__rebuild", "by hand")]
    assert restore_names(swapped) == (
        "ALTER TABLE `dbsbuffer_file_parent` DROP FOREIGN KEY `by hand__rebuild`, ADD CONSTRAINT `by hand` "
        "FOREIGN KEY (`parent`) REFERENCES `dbsbuffer_file` (`id`) ON DELETE CASCADE"
    )
    assert restore_names(take_apart("dbsbuffer_file_parent", PARENT)) == ""


@pytest.mark.parametrize(
    ("key", "new"),
    [
        ("dbsbuffer_file_ibfk_12", "dbsbuffer_file__new_ibfk_12"),
        ("dbsbuffer_file_parent_ibfk_1", "dbsbuffer_file_parent_ibfk_1__rebuild"),
        ("dbsbuffer_file_ibfk_1b", "dbsbuffer_file_ibfk_1b__rebuild"),
        ("my_dbsbuffer_file_ibfk_1", "my_dbsbuffer_file_ibfk_1__rebuild"),
    ],
)
def test_only_names_that_innodb_gave_for_this_table_follow_it(key: str, new: str):
    assert new_name("dbsbuffer_file", key) == new


def test_every_name_that_innodb_gives_has_room():
    assert all(len(new_name(table, f"{table}_ibfk_99")) <= LONGEST_NAME for table in REBUILT)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("ENGINE=InnoDB", "ENGINE=Aria"),
        ("  KEY `idx_dbs_fil_1` (`workflow`),", "  PERIOD FOR SYSTEM_TIME (`a`, `b`),"),
        ("`workflow` int(11) DEFAULT NULL", "`workflow` int(11) GENERATED ALWAYS AS (`id` + 1) VIRTUAL"),
        ("REFERENCES `dbsbuffer_workflow`", "REFERENCES `other`.`dbsbuffer_workflow`"),
        ("CREATE TABLE `dbsbuffer_file` (", "CREATE TABLE `dbsbuffer_files` ("),
        (OPTIONS, f"{OPTIONS}\n PARTITION BY HASH (`id`)\nPARTITIONS 3"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(good: str, bad: str):
    assert good in FILE
    with pytest.raises(WMAgentError, match=r"^table dbsbuffer_file has a definition that a rebuild does not know") as e:
        take_apart("dbsbuffer_file", FILE.replace(good, bad))
    assert "\n" not in str(e.value)


def test_rows_of_a_file_are_found_by_the_primary_key_where_it_begins_with_the_file():
    assert entry(take_apart("dbsbuffer_file_parent", PARENT)) == "PRIMARY"
    assert entry(take_apart("dbsbuffer_file_runlumi_map", RUNLUMI)) == "idx_dbs_fil_run_1"
    with pytest.raises(WMAgentError, match="no key on filename"):
        entry(take_apart("dbsbuffer_file_runlumi_map", RUNLUMI.replace("(`filename`)", "(`run`)")))


def test_all_tables_are_swapped_in_one_statement_and_dropped_children_first():
    assert swap().count("RENAME TABLE") == 1
    for table in REBUILT:
        assert f"{table} TO {table}__old, {table}__new TO {table}" in swap()
    assert [statement.rsplit(maxsplit=1)[1] for statement in drop("__old")] == [
        f"{table}__old" for table in reversed(REBUILT)
    ]
    assert REBUILT[0] == "dbsbuffer_file"
    assert drop("__new", ["dbsbuffer_file"]) == [
        "SET STATEMENT foreign_key_checks = 0 FOR DROP TABLE dbsbuffer_file__new"
    ]


def test_workflows_are_one_list_of_numbers_in_order():
    assert rebuild_copy.going([30, 2, 100], placeholders=False) == "((n.workflow IN (2, 30, 100)) IS TRUE)"


def test_without_workflows_no_file_goes_and_the_condition_is_never_null():
    assert rebuild_copy.going([], placeholders=False) == "((n.workflow IN (-1)) IS TRUE)"
    assert "NOT IN (-1)" in rebuild_copy.going([], placeholders=True)
    assert rebuild_copy.going([1], placeholders=True).endswith(" IS TRUE)")


def test_only_numbers_get_into_statements():
    with pytest.raises(ValueError, match="invalid literal"):
        rebuild_copy.going(["1) OR (1"], placeholders=False)  # type: ignore[list-item]


def test_a_link_stays_where_both_its_ends_do():
    copy = line(rebuild_copy.copy_children(take_apart("dbsbuffer_file_parent", PARENT)))
    assert copy == (
        "INSERT INTO dbsbuffer_file_parent__new (`child`, `parent`) SELECT STRAIGHT_JOIN c.`child`, c.`parent` "
        "FROM dbsbuffer_file__new n INNER JOIN dbsbuffer_file_parent c FORCE INDEX (`PRIMARY`) ON c.child = n.id "
        "INNER JOIN dbsbuffer_file__new n0 ON n0.id = c.parent"
    )
    expected = line(rebuild_copy.expected(take_apart("dbsbuffer_file_parent", PARENT)))
    assert expected.endswith(
        "FROM rebuild_staying s INNER JOIN dbsbuffer_file_parent c FORCE INDEX (`PRIMARY`) ON c.child = s.id "
        "INNER JOIN rebuild_staying s0 ON s0.id = c.parent"
    )


def test_a_table_whose_rows_are_found_by_another_key_is_counted_twice():
    assert len(rebuild_copy.totals(take_apart("dbsbuffer_file_parent", PARENT))) == 1
    assert rebuild_copy.totals(take_apart("dbsbuffer_file_runlumi_map", RUNLUMI)) == [
        "SELECT COUNT(*) FROM dbsbuffer_file_runlumi_map USE INDEX ()",
        "SELECT COUNT(*) FROM dbsbuffer_file_runlumi_map FORCE INDEX (`idx_dbs_fil_run_1`)",
    ]


def test_orphans_are_looked_for_at_every_end():
    assert len(rebuild_copy.orphans(take_apart("dbsbuffer_file_parent", PARENT))) == 2
    assert len(rebuild_copy.orphans(take_apart("dbsbuffer_file_runlumi_map", RUNLUMI))) == 1
    assert rebuild_copy.orphans(take_apart("dbsbuffer_file", FILE)) == []


def test_every_column_is_in_the_sum_and_texts_are_bytes():
    summed = rebuild_copy.row_sum(take_apart("dbsbuffer_file", FILE), "c")
    assert summed == (
        "IFNULL(SUM(CRC32(CONCAT_WS('|', CONCAT(ISNULL(c.`id`), ISNULL(c.`lfn`), ISNULL(c.`workflow`)), "
        "c.`id`, CAST(c.`lfn` AS BINARY), c.`workflow`))), 0)"
    )


def test_the_archive_is_told_the_rows_of_each_table():
    conditions = rebuild_copy.rows_that_go([7], placeholders=False)
    files = "SELECT n.id FROM dbsbuffer_file n WHERE ((n.workflow IN (7)) IS TRUE)"
    assert list(conditions) == list(reversed(REBUILT))
    assert conditions["dbsbuffer_file_parent"] == f"child IN ({files}) OR parent IN ({files})"
    assert conditions["dbsbuffer_file"] == f"id IN ({files})"
