# SPDX-License-Identifier: GPL-3.0-or-later
"""DBSBuffer's tables rebuilt on a real MariaDB: what stays is all there, nothing else is, the schema is as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer import rebuild_copy
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.facts import make_plan
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild import clean_up, rebuild
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_recovery import definition
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.rebuild_tables import (
    REBUILT,
    create_bare,
    renamed,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.dbsbuffer.fixtures import mariadb_agent
from support.dbsbuffer.random_rows import databases
from support.dbsbuffer.rebuilding import (
    INPUT_ALONE,
    INPUT_GOES,
    INPUT_STAYS,
    RULES,
    STAYING,
    STRAY,
    after,
    cleaned,
    contents,
    fill,
    schema,
    session,
    untouched,
)
from support.dbsbuffer.rows import Rows, read


@pytest.fixture
def own_agent(mariadb_server: MariaDBServer) -> Iterator[DatabaseSettings]:
    """The same for a test that changes the schema."""
    with mariadb_agent(mariadb_server) as found:
        fill(found, contents())
        yield found


def test_what_stays_is_there_and_nothing_else(agent: DatabaseSettings, connection: Connection):
    rows, before, steps = contents(), schema(agent), []
    result = cleaned(connection, placeholders=True, progress=steps.append)
    assert sorted(result.plan.workflows) == [1, 2, 4]
    assert read(connection) == after(rows, result.plan, placeholders=True)
    left = {file.id for file in read(connection).files}
    assert left == {*STAYING, STRAY, INPUT_STAYS}
    assert schema(agent) == before
    assert result.kept["dbsbuffer_file"] == len(left)
    assert result.dropped["dbsbuffer_file"] == len(rows.files) - len(left) == 42
    assert result.placeholders == 2
    assert result.dropped["dbsbuffer_file_runlumi_map"] == 160
    assert result.dropped["dbsbuffer_file_parent"] == 3
    assert result.bytes_before > 0 and result.bytes_after > 0
    assert list(result.seconds) == steps and "swap" in steps
    assert cleaned(connection).kept == {}  # nothing goes any more, so nothing is copied


def test_the_new_tables_have_statistics(agent: DatabaseSettings, connection: Connection, root: Connection):
    result = cleaned(connection)
    for table in REBUILT:
        counted = root.query(
            "SELECT n_rows FROM mysql.innodb_table_stats WHERE database_name = %s AND table_name = %s",
            (agent.name, table),
        )
        assert counted == [(result.kept[table],)]


def test_placeholders_stay_where_they_are_not_asked_for(connection: Connection):
    result = cleaned(connection)
    assert read(connection) == after(contents(), result.plan, placeholders=False)
    assert {INPUT_GOES, INPUT_ALONE} <= {file.id for file in read(connection).files}
    result = cleaned(connection, placeholders=True)
    assert (result.placeholders, result.dropped["dbsbuffer_file"]) == (2, 2)
    assert {INPUT_GOES, INPUT_ALONE} & {file.id for file in read(connection).files} == set()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=databases(), placeholders=st.booleans())
def test_any_database_keeps_what_stays(shared: DatabaseSettings, rows: Rows, placeholders: bool):
    fill(shared, rows)
    with session(shared) as connection:
        result = cleaned(connection, placeholders=placeholders)
        assert read(connection) == after(rows, result.plan, placeholders)


def test_a_file_with_the_id_0_and_counters_beyond_the_last_id_stay_as_they_are(
    agent: DatabaseSettings, connection: Connection
):
    connection.execute("SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
    connection.execute("INSERT INTO dbsbuffer_file (id, lfn, dataset_algo, workflow) VALUES (0, 'zero', 1, 3)")
    connection.execute("INSERT INTO dbsbuffer_file (id, lfn, dataset_algo) VALUES (5000, 'x', 1)")
    connection.execute("DELETE FROM dbsbuffer_file WHERE id = 5000")
    connection.execute("SET sql_mode = DEFAULT")
    before = schema(agent)
    assert "AUTO_INCREMENT=5001" in before
    cleaned(connection)
    assert connection.query("SELECT id FROM dbsbuffer_file WHERE lfn = 'zero'") == [(0,)]
    assert schema(agent) == before


def test_foreign_keys_work_in_all_directions(connection: Connection):
    cleaned(connection, placeholders=True)
    for statement in (
        "INSERT INTO dbsbuffer_file_runlumi_map VALUES (1, 1, 1, 1)",
        "INSERT INTO dbsbuffer_file_checksums VALUES (1, 1, 'x')",
        "INSERT INTO dbsbuffer_file_checksums VALUES (41, 9, 'x')",
        "INSERT INTO dbsbuffer_file_location VALUES (1, 1)",
        "INSERT INTO dbsbuffer_file_location VALUES (41, 9)",
        "INSERT INTO dbsbuffer_file_parent VALUES (1, 41)",
        "INSERT INTO dbsbuffer_file_parent VALUES (41, 1)",
        "INSERT INTO dbsbuffer_file (lfn, dataset_algo, workflow) VALUES ('x', 1, 99)",
        "INSERT INTO dbsbuffer_file (lfn, dataset_algo, workflow) VALUES ('x', 99, 3)",
    ):
        with pytest.raises(WMAgentError, match="foreign key constraint fails"):
            connection.execute(statement)
    with pytest.raises(WMAgentError, match="Duplicate entry"):
        connection.execute("INSERT INTO dbsbuffer_file (lfn, dataset_algo) VALUES ('/store/data/stray.root', 1)")
    connection.execute("INSERT INTO dbsbuffer_file_parent VALUES (41, 61)")
    connection.execute("DELETE FROM dbsbuffer_workflow WHERE id = 3")
    left = read(connection)
    assert {file.id for file in left.files} == {STRAY, INPUT_STAYS} and not left.parents
    assert {row.filename for row in left.runlumis} == {row.filename for row in left.file_locations} == {STRAY}
    connection.execute("DELETE FROM dbsbuffer_location")
    connection.execute("DELETE FROM dbsbuffer_dataset")
    left = read(connection)
    assert not left.files and not left.runlumis and not left.checksums and not left.file_locations


CHANGED_SCHEMA = (
    "ALTER TABLE dbsbuffer_file DROP FOREIGN KEY dbsbuffer_file_ibfk_1",
    "ALTER TABLE dbsbuffer_file ADD CONSTRAINT `by hand` FOREIGN KEY (workflow) REFERENCES dbsbuffer_workflow (id) "
    "ON DELETE CASCADE",
    "ALTER TABLE dbsbuffer_file_parent DROP FOREIGN KEY dbsbuffer_file_parent_ibfk_2",
    "ALTER TABLE dbsbuffer_file_parent ADD CONSTRAINT zz FOREIGN KEY (parent) REFERENCES dbsbuffer_file (id) "
    "ON DELETE CASCADE ON UPDATE CASCADE",
    "ALTER TABLE dbsbuffer_file ADD COLUMN t TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT 'é|ß' "
    "COMMENT 'a, b'",
    "ALTER TABLE dbsbuffer_file MODIFY status VARCHAR(20) COLLATE latin1_general_cs",
    "ALTER TABLE dbsbuffer_file ADD COLUMN `odd ``name` DECIMAL(10,3) DEFAULT 1.5, ADD KEY more (status, in_phedex)",
    "ALTER TABLE dbsbuffer_file_checksums ADD CONSTRAINT typed CHECK (typeid > 0), COMMENT = 'by hand'",
    "ALTER TABLE dbsbuffer_file_location ROW_FORMAT = COMPACT",
)


def test_a_schema_changed_by_hand_comes_out_as_it_was(own_agent: DatabaseSettings):
    with session(own_agent) as connection:
        for statement in CHANGED_SCHEMA:
            connection.execute(statement)
        before = schema(own_agent)
        result = cleaned(connection, placeholders=True)
        assert read(connection) == after(contents(), result.plan, placeholders=True)
        assert connection.query("SELECT DISTINCT `odd ``name` FROM dbsbuffer_file")[0][0] == 1.5
    assert schema(own_agent) == before and "`by hand`" in before


def test_a_plan_of_another_moment_is_noticed(agent: DatabaseSettings, connection: Connection):
    plan = make_plan(connection, RULES)
    connection.execute("INSERT INTO dbsbuffer_file (lfn, dataset_algo, workflow) VALUES ('late', 1, 1)")
    with pytest.raises(WMAgentError, match=r"the plan has 40 files .* not 41; this is a mistake"):
        rebuild(connection, lambda _: plan)
    connection.execute("DELETE FROM dbsbuffer_file WHERE lfn = 'late'")
    assert untouched(agent)


@pytest.mark.parametrize("placeholders", [False, True])
def test_the_archive_is_shown_every_row_before_it_goes(connection: Connection, placeholders: bool):
    shown = {}

    def archive(conditions) -> None:
        for table, condition in conditions.items():
            shown[table] = connection.query(f"SELECT * FROM {table} WHERE {condition}")

    before = {table: connection.query(f"SELECT * FROM {table}") for table in REBUILT}
    result = cleaned(connection, placeholders=placeholders, archive=archive)
    for table in REBUILT:
        left = connection.query(f"SELECT * FROM {table}")
        assert sorted(map(repr, [*left, *shown[table]])) == sorted(map(repr, before[table]))
        assert len(shown[table]) == result.dropped[table]


def test_an_archive_that_fails_leaves_all_as_it_was(agent: DatabaseSettings, connection: Connection):
    def archive(_) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        cleaned(connection, archive=archive)
    assert untouched(agent)


TAMPERED = [
    ("DELETE FROM {db}.dbsbuffer_file_runlumi_map__new LIMIT 1", "does not hold the"),
    (
        "INSERT INTO {db}.dbsbuffer_file_runlumi_map__new SELECT * FROM {db}.dbsbuffer_file_runlumi_map__new LIMIT 1",
        "hold",
    ),
    (
        "UPDATE {db}.dbsbuffer_file_runlumi_map__new SET num_events = 0 WHERE num_events IS NULL LIMIT 1",
        "table dbsbuffer_file_runlumi_map__new does not hold the 84 rows",
    ),
    ("UPDATE {db}.dbsbuffer_file__new SET lfn = UPPER(lfn) LIMIT 1", "does not hold the"),
    ("UPDATE {db}.dbsbuffer_file__new SET block_id = NULL LIMIT 1", "does not hold the"),
    (
        "UPDATE {db}.dbsbuffer_file__new SET in_phedex = lastmodificationdate, lastmodificationdate = NULL "
        "WHERE id = 61",
        "does not hold the",
    ),
    ("UPDATE {db}.dbsbuffer_file_checksums__new SET cksum = '' WHERE cksum IS NULL LIMIT 1", "does not hold the"),
    ("ALTER TABLE {db}.dbsbuffer_file__new DROP KEY uq_dbs_fil", "is not defined like dbsbuffer_file"),
    ("ALTER TABLE {db}.dbsbuffer_file_parent__new DROP FOREIGN KEY dbsbuffer_file_parent__new_ibfk_2", "not defined"),
    ("ALTER TABLE {db}.dbsbuffer_file__new AUTO_INCREMENT = 999", "is not defined like"),
    ("ALTER TABLE {db}.dbsbuffer_file_location__new ROW_FORMAT = COMPACT", "is not defined like"),
]


@pytest.mark.parametrize(("statement", "why"), TAMPERED)
def test_a_copy_that_is_not_exact_is_never_put_into_service(
    agent: DatabaseSettings, connection: Connection, root: Connection, statement: str, why: str
):
    def progress(step: str) -> None:
        if step == "verify":
            root.execute(statement.format(db=agent.name))

    with pytest.raises(WMAgentError, match=rf"{why}.*nothing was changed$"):
        cleaned(connection, progress=progress)
    assert untouched(agent)


def test_a_server_that_makes_tables_in_another_way_now_is_noticed(
    agent: DatabaseSettings, connection: Connection, root: Connection
):
    # Nothing in the definition's text tells.
    text = connection.query("SHOW CREATE TABLE dbsbuffer_file_location")[0][1]
    connection.execute("ALTER TABLE dbsbuffer_file_location ROW_FORMAT = DEFAULT")
    root.execute("SET GLOBAL innodb_default_row_format = compact")
    try:
        with pytest.raises(WMAgentError, match="dbsbuffer_file_location__new is not defined like"):
            cleaned(connection)
    finally:
        root.execute("SET GLOBAL innodb_default_row_format = DEFAULT")
        connection.execute("ALTER TABLE dbsbuffer_file_location ROW_FORMAT = DYNAMIC")
    assert connection.query("SHOW CREATE TABLE dbsbuffer_file_location")[0][1] == text
    assert untouched(agent)


def test_rows_without_a_file_are_found(connection: Connection):
    for table in REBUILT:
        connection.execute(create_bare(renamed(definition(connection, table))))
    connection.execute("INSERT INTO dbsbuffer_file__new SELECT * FROM dbsbuffer_file WHERE id <> 50")
    links, places = (definition(connection, f"dbsbuffer_file_{name}") for name in ("parent", "location"))
    connection.execute("INSERT INTO dbsbuffer_file_location__new VALUES (41, 1)")
    connection.execute("INSERT INTO dbsbuffer_file_parent__new VALUES (41, 42)")
    assert [connection.query(look) for look in rebuild_copy.orphans(links)] == [[], []]
    assert [connection.query(look) for look in rebuild_copy.orphans(places)] == [[]]
    connection.execute("INSERT INTO dbsbuffer_file_location__new VALUES (50, 1)")
    connection.execute("INSERT INTO dbsbuffer_file_parent__new VALUES (50, 41), (41, 50)")
    assert [connection.query(look) for look in rebuild_copy.orphans(links)] == [[(50,)], [(50,)]]
    assert [connection.query(look) for look in rebuild_copy.orphans(places)] == [[(50,)]]
    assert clean_up(connection) == ["dropped " + ", ".join(f"{table}__new" for table in REBUILT)]
