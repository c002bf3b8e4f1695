# SPDX-License-Identifier: GPL-3.0-or-later
"""What SQL files create and a database lacks."""

from __future__ import annotations

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.describe import _not_null_first, missing_objects
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.h2 import split_statements

SQL = """
-- CREATE TABLE commented (a INT);
CREATE TABLE one (a INT, b INT);
create table if not exists `Two` (a INT);
/* CREATE TABLE also_commented (a INT); */
CREATE INDEX i ON one (a, b);
CREATE UNIQUE INDEX u ON one(b);
"""


def _table(**keys):
    return {"columns": {}, "primary_key": [], "unique": [], "indexes": [], "foreign_keys": []} | keys


def test_all_there():
    assert missing_objects(SQL, {"one": _table(indexes=[["a", "b"]], unique=[["b"]]), "two": _table()}) == []


def test_what_is_missing_is_named():
    assert missing_objects(SQL, {"one": _table(unique=[["b"]])}) == ["table Two", "index i"]
    assert missing_objects(SQL, {"two": _table()}) == ["table one"]


def test_statements_of_an_oracle_file():
    text = "-- note\nCREATE TABLE a (\n  b NUMBER(1)\n)\n/\n\n  INSERT INTO a VALUES ('/')\n/ \nCOMMIT"
    assert split_statements(text) == ["CREATE TABLE a (\nb NUMBER(1)\n)", "INSERT INTO a VALUES ('/')", "COMMIT"]


def test_a_primary_key_added_later():
    assert _not_null_first("ALTER TABLE t ADD (CONSTRAINT t_pk PRIMARY KEY (a, b) USING INDEX)") == [
        "ALTER TABLE t ALTER COLUMN a SET NOT NULL",
        "ALTER TABLE t ALTER COLUMN b SET NOT NULL",
    ]
    assert _not_null_first("ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES s(a)") == []
