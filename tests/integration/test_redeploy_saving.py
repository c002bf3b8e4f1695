# SPDX-License-Identifier: GPL-3.0-or-later
"""What a redeployment saves comes back as it was, and nothing that is not whole passes for saved: on real MariaDB, and
on the CouchDB stand-in or, where COUCHDB_URL names one, a real CouchDB."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import documents, dump, tables
from support.couch_rotating import contents, rotating, settings_of
from support.mariadb import create_database, run_script

SCHEMA = """
    CREATE TABLE parent (id INT PRIMARY KEY AUTO_INCREMENT, word VARCHAR(200), raw VARBINARY(20));
    CREATE TABLE child (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES parent(id));
    CREATE TABLE nothing_in_it (id INT)"""
WORDS = [
    "it's (one), two",
    "),(",
    "back\\slash'",
    "two\nlines\n(3)",
    ";",
    None,
    '"`',
    "INSERT INTO `child` VALUES (1);",
]


@pytest.fixture
def database(agent_database, no_certificates):
    run_script(agent_database, SCHEMA)
    with connect(agent_database, read_only=False) as session:
        for number, word in enumerate(WORDS, 1):
            values = (number, word, bytes(range(number)))
            session.execute("INSERT INTO parent VALUES (%s, %s, %s)", values)
            session.execute("INSERT INTO child VALUES (%s, %s)", (number, number))
    return agent_database


ROWS = {"parent": len(WORDS), "child": len(WORDS), "nothing_in_it": 0}


def test_a_dump_comes_back_with_every_row_and_its_rows_can_be_counted(database, tmp_path):
    file = tmp_path / "database.sql.gz"
    size, digest = dump.save(database, file, 60)
    assert (size, digest) == (file.stat().st_size, dump.digest_of(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert dump.rows_in(file) == ROWS
    assert dump.verify(database, file, ROWS, 60) == dump.RESTORED
    assert database.password not in gzip.decompress(file.read_bytes()).decode()


def test_a_dump_that_is_not_the_database_is_refused(database, tmp_path):
    file = tmp_path / "database.sql.gz"
    dump.save(database, file, 60)
    run_script(database, "UPDATE parent SET word = 'changed' WHERE id = 1")
    with pytest.raises(WMAgentError, match="holds other rows of parent"):
        dump.verify(database, file, ROWS, 60)
    run_script(database, "ALTER TABLE parent ADD COLUMN more INT")
    with pytest.raises(WMAgentError, match=r"does not give the same tables back .*more only in the database"):
        dump.verify(database, file, ROWS, 60)


def test_without_a_server_the_rows_are_counted(database, tmp_path, monkeypatch):
    file = tmp_path / "database.sql.gz"
    dump.save(database, file, 60)
    real = dump.program
    monkeypatch.setattr(dump, "program", lambda *names: None if "mariadbd" in names else real(*names))
    assert dump.verify(database, file, ROWS, 60) == dump.COUNTED
    with pytest.raises(WMAgentError, match="holds 8 rows of child, and the database 7"):
        dump.verify(database, file, {**ROWS, "child": 7}, 60)


def test_half_a_dump_is_none(database, tmp_path):
    file = tmp_path / "database.sql.gz"
    dump.save(database, file, 60)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(WMAgentError):
        dump.verify(database, file, ROWS, 60)
    with pytest.raises(WMAgentError, match="cannot be read back"):
        dump.rows_in(file)


def test_a_dump_that_fails_leaves_no_file_and_tells_no_password(database, tmp_path):
    file = tmp_path / "database.sql.gz"
    with pytest.raises(WMAgentError, match=r"was not saved: .*Access denied") as refused:
        dump.save(replace(database, password="wrong-word"), file, 60)
    assert "wrong-word" not in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(WMAgentError, match="took too long"):
        dump.save(database, file, 0)
    assert list(tmp_path.iterdir()) == []


def test_rows_on_one_line_are_counted_as_well(tmp_path):
    """As mysqldump of older servers writes them."""
    file = tmp_path / "old.sql.gz"
    text = b"CREATE TABLE `a` (\n  `w` text\n);\nINSERT INTO `a` VALUES ('x),('),('y\\'('),(0x28);\n"
    text += b"INSERT INTO `a` VALUES (1);\n"
    file.write_bytes(gzip.compress(text))
    assert dump.rows_in(file) == {"a": 4}


def test_a_wipe_drops_what_it_names_and_nothing_else(database, mariadb_server):
    create_database(mariadb_server, other := f"{database.name}_other")
    run_script(mariadb_server.settings(other), "CREATE TABLE parent (id INT); INSERT INTO parent VALUES (1)")
    try:
        with connect(database, read_only=False) as session:
            assert tables.count_rows(session) == ROWS
            with pytest.raises(WMAgentError, match="nothing_in_it are still there after the wipe"):
                tables.drop_tables(session, ["parent", "child"])
            tables.drop_tables(session, ["nothing_in_it"])
            assert tables.count_rows(session) == {}
        with connect(mariadb_server.settings(other)) as session:
            assert tables.count_rows(session) == {"parent": 1}
    finally:
        with connect(mariadb_server.root_settings(), read_only=False) as root:
            root.execute(f"DROP DATABASE {other}")


def test_what_is_no_table_is_not_wiped(database):
    run_script(database, "CREATE VIEW seen AS SELECT id FROM parent")
    with connect(database) as session, pytest.raises(WMAgentError, match="seen is a VIEW"):
        tables.count_rows(session)


def test_a_couchdb_database_comes_back_with_all_its_leaves(couch, couch_client: CouchClient, tmp_path):
    with rotating(couch) as name:
        saved = documents.save(couch_client, name, tmp_path)
        before = contents(couch_client, name)
        assert (saved.documents, saved.leaves) == (len(before), sum(map(len, before.values())))
        assert saved.tombstones == 81 and Path(saved.file).stat().st_mode & 0o777 == 0o600
        copy = f"{name}-back"
        try:
            assert documents.restore(couch_client, Path(saved.file), copy)[0] == copy
            assert contents(couch_client, copy) == before
            assert settings_of(couch_client, copy)["security"] == settings_of(couch_client, name)["security"]
            assert settings_of(couch_client, copy)["locals"] == settings_of(couch_client, name)["locals"]
            assert documents.is_as_saved(couch_client, copy, Path(saved.file))
            with pytest.raises(WMAgentError, match="has a database"):
                documents.restore(couch_client, Path(saved.file), copy)
            couch_client.put(path_of(copy, "new"), {"a": 1})
            assert not documents.is_as_saved(couch_client, copy, Path(saved.file))
        finally:
            couch_client.delete(path_of(copy))


def test_a_file_that_is_cut_or_changed_is_not_brought_back(couch, couch_client: CouchClient, tmp_path):
    with rotating(couch) as name:
        file = Path(documents.save(couch_client, name, tmp_path).file)
        whole = gzip.decompress(file.read_bytes())
        lines = whole.splitlines(keepends=True)
        for bad in (b"".join(lines[:-1]), b"".join(lines[1:]), b"".join([*lines[:2], *lines[3:]]), b"{}\n", b""):
            file.write_bytes(gzip.compress(bad))
            with pytest.raises(WMAgentError):
                documents.restore(couch_client, file, f"{name}-back")
            assert couch_client.find(path_of(f"{name}-back")) is None


def test_a_write_while_it_is_saved_is_found(couch, couch_client: CouchClient, tmp_path, monkeypatch):
    with rotating(couch) as name:
        real = documents.leaves.read_leaves

        def read_and_write(client, database, names):
            found = real(client, database, names)
            client.put(path_of(database, "late"), {"a": 1})
            return found

        monkeypatch.setattr(documents.leaves, "read_leaves", read_and_write)
        with pytest.raises(WMAgentError, match="was written to while it was saved"):
            documents.save(couch_client, name, tmp_path)
        assert not (tmp_path / documents.file_name(name)).exists()
