# SPDX-License-Identifier: GPL-3.0-or-later
"""Structures out of real servers: MariaDB, and H2 in Oracle's place."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database import h2
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.describe import describe_release
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import compare
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema_reader import read_structure
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.mariadb import run_script
from support.playbook import run_tasks
from support.secrets import write_secrets

SCHEMA = """
CREATE TABLE workflow (
    id INT(11) NOT NULL AUTO_INCREMENT, name VARCHAR(255) NOT NULL, task VARCHAR(700) DEFAULT 'None',
    priority INT(10) UNSIGNED DEFAULT 0, done TINYINT(1) NOT NULL DEFAULT 0, share DECIMAL(10,4),
    made TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (id), UNIQUE KEY workflow_unique (name, task(20)), KEY workflow_priority (priority));
CREATE TABLE job (
    id BIGINT NOT NULL PRIMARY KEY, workflow INT(11) NOT NULL, other INT(11),
    KEY job_other (other),
    CONSTRAINT job_workflow FOREIGN KEY (workflow) REFERENCES workflow(id) ON DELETE CASCADE);
"""


def structure_of(settings: DatabaseSettings) -> dict:
    with connect(settings) as connection:
        return read_structure(connection)


@pytest.fixture
def database(agent_database: DatabaseSettings) -> DatabaseSettings:
    run_script(agent_database, SCHEMA)
    return agent_database


def test_a_structure_as_it_is(database):
    structure = structure_of(database)
    assert structure["workflow"]["columns"]["task"] == {
        "type": "varchar(700)",
        "nullable": True,
        "default": "'None'",
        "extra": "",
    }
    assert structure["workflow"]["columns"]["made"] == {
        "type": "timestamp",
        "nullable": False,
        "default": "current_timestamp",
        "extra": "on update current_timestamp",
    }
    assert structure["workflow"]["columns"]["id"]["extra"] == "auto_increment"
    assert structure["workflow"]["columns"]["priority"]["type"] == "int unsigned"
    assert structure["workflow"]["primary_key"] == ["id"]
    assert structure["workflow"]["unique"] == [["name", "task(20)"]]
    assert structure["workflow"]["indexes"] == [["priority"]]
    assert structure["job"] == {
        "columns": structure["job"]["columns"],
        "primary_key": ["id"],
        "unique": [],
        "indexes": [["other"], ["workflow"]],
        "foreign_keys": [{"columns": ["workflow"], "table": "workflow", "references": ["id"], "on_delete": "CASCADE"}],
    }


SAME = [
    "ALTER TABLE workflow RENAME INDEX workflow_priority TO another_name",
    "ALTER TABLE workflow AUTO_INCREMENT = 5000",
    "ALTER TABLE workflow MODIFY share DECIMAL(10,4) FIRST",
    "ALTER TABLE workflow CONVERT TO CHARACTER SET latin1",
    "ALTER TABLE workflow MODIFY priority INT UNSIGNED DEFAULT '0'",
    "ALTER TABLE job DROP FOREIGN KEY job_workflow, ADD CONSTRAINT x FOREIGN KEY (workflow) REFERENCES workflow(id)"
    " ON DELETE CASCADE",
    "INSERT INTO workflow (name) VALUES ('x')",
    "ANALYZE TABLE job",
    "CREATE VIEW v AS SELECT id FROM job",
]
OTHER = {
    "ALTER TABLE workflow MODIFY priority INT DEFAULT 0": "column priority: type int unsigned in one, int in two",
    "ALTER TABLE workflow MODIFY done INT NOT NULL DEFAULT 0": "column done: type tinyint in one, int in two",
    "ALTER TABLE workflow MODIFY name VARCHAR(255)": "column name: nullable no in one, yes in two",
    "ALTER TABLE workflow ALTER done SET DEFAULT 1": "column done: default 0 in one, 1 in two",
    "ALTER TABLE workflow ALTER task DROP DEFAULT": "column task: default 'None' in one, none in two",
    "ALTER TABLE workflow DROP INDEX workflow_unique": "unique key (name, task(20)) only in one",
    "ALTER TABLE job DROP INDEX job_other": "index (other) only in one",
    "ALTER TABLE job ADD INDEX (other)": "index (other) only in two",
    "ALTER TABLE job ADD UNIQUE (other)": "unique key (other) only in two",
    "ALTER TABLE job DROP PRIMARY KEY": "primary key (id) in one, none in two",
    "ALTER TABLE job DROP FOREIGN KEY job_workflow": "foreign key (workflow) to workflow(id) on delete cascade"
    " only in one",
    "ALTER TABLE job ADD COLUMN more INT": "column more only in two",
    "CREATE TABLE more (a INT)": "table more only in two",
}


def test_what_says_nothing_leaves_the_structure(database):
    before = structure_of(database)
    for statement in SAME:
        run_script(database, statement)
        assert compare(before, structure_of(database)) == [], statement


@pytest.mark.parametrize("statement", OTHER)
def test_what_matters_shows(database, statement):
    before = structure_of(database)
    run_script(database, statement)
    lines = compare(before, structure_of(database), ("one", "two"))
    assert len(lines) == 1
    assert lines[0].endswith(OTHER[statement])


def test_an_empty_database_is_no_agents(agent_database):
    with pytest.raises(WMAgentError, match="holds no table"):
        structure_of(agent_database)


ORACLE = [
    "CREATE TABLE workflow (id NUMBER(11) GENERATED BY DEFAULT AS IDENTITY, name VARCHAR2(255) NOT NULL,"
    " kind CHAR(1) DEFAULT '1', n INTEGER, made DATE, text CLOB, any_number NUMBER,"
    " share NUMBER(10,4) DEFAULT 0 NOT NULL,"
    " CONSTRAINT workflow_pk PRIMARY KEY (id), CONSTRAINT workflow_uq UNIQUE (name, kind))",
    "CREATE TABLE job (workflow NUMBER(11) NOT NULL,"
    " CONSTRAINT job_fk FOREIGN KEY (workflow) REFERENCES workflow(id) ON DELETE CASCADE)",
    "CREATE INDEX job_share ON workflow(share)",
]


def test_h2_tells_what_oracle_would():
    structure = h2.structure_of_statements(ORACLE)
    assert {name: column["type"] for name, column in structure["workflow"]["columns"].items()} == {
        "id": "number(11,0)",
        "name": "varchar2(255)",
        "kind": "char(1)",
        "n": "number(38,0)",
        "made": "date",
        "text": "clob",
        "any_number": "number",
        "share": "number(10,4)",
    }
    assert structure["workflow"]["columns"]["id"]["extra"] == "identity by default"
    assert structure["workflow"]["primary_key"] == ["id"]
    assert structure["workflow"]["unique"] == [["name", "kind"]]
    assert structure["workflow"]["indexes"] == [["share"]]
    assert structure["job"]["indexes"] == []
    assert structure["job"]["foreign_keys"][0]["on_delete"] == "CASCADE"


def test_what_h2_takes_and_oracle_does_not_is_refused(tmp_path):
    file = tmp_path / "create.sql"
    file.write_text("CREATE TABLE t (a NUMBER(11))\n/\nCREATE TABLE u (a BIGINT)\n/\n")
    with pytest.raises(WMAgentError, match=r"Oracle would refuse 'CREATE TABLE u \(a BIGINT\)': .*BIGINT"):
        h2.describe_oracle([file])
    file.write_text("CREATE TABLE t (a NUMBER(11)\n/\n")
    with pytest.raises(WMAgentError, match="H2 refused the Oracle SQL"):
        h2.describe_oracle([file])
    file.write_text("-- nothing\n")
    with pytest.raises(WMAgentError, match="make no table"):
        h2.describe_oracle([file])


def test_a_missing_java_or_h2_is_named(monkeypatch, tmp_path):
    with pytest.raises(WMAgentError, match="install libh2-java"):
        h2.structure_of_statements(ORACLE, jar=tmp_path / "h2.jar")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WMAgentError, match="install default-jre-headless"):
        h2.structure_of_statements(ORACLE)


PROGRAM = """
import sys
import MySQLdb
import wmcoredb
from WMCore.Configuration import read
assert sys.argv[3] == "--create" and sys.argv[4].startswith("--modules=WMCore.WMBS,")
file = wmcoredb.get_sql_file(module_name="wmbs", file_name="create.sql", backend="mariadb")
session = MySQLdb.connect(**read(sys.argv[2]))
cursor = session.cursor()
for statement in open(file).read().split(";"):
    if statement.strip():
        try:
            cursor.execute(statement)
        except Exception:
            break  # as the real one, which hears of the first statement's error only
session.commit()
print("created")
sys.exit(0)
"""
CONFIGURATION = """
from urllib.parse import urlsplit
class Section: pass
class Configuration:
    def section_(self, name): setattr(self, name, Section())
def read(path):
    space = {}
    exec(open(path).read(), space)
    url = urlsplit(space["config"].CoreDatabase.connectUrl)
    return {"host": url.hostname, "port": url.port, "user": url.username, "password": url.password,
            "database": url.path[1:]}
"""


def make_release(prefix: Path, mariadb: str, oracle: str = "CREATE TABLE one (a NUMBER(11))\n/\n") -> Path:
    """Just enough of a release: an interpreter of its own, ``wmcore-db-init``, SQL files."""
    site = prefix / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for folder in (prefix / "bin", site / "WMCore", site / "wmcoredb"):
        folder.mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    (prefix / "pyvenv.cfg").write_text(f"home = {Path(os.path.realpath(sys.executable)).parent}\n")
    (prefix / "bin" / "wmcore-db-init").write_text(PROGRAM)
    (site / "more.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (site / "MySQLdb.py").write_text("from pymysql import connect\n")
    (site / "WMCore" / "__init__.py").write_text("")
    (site / "WMCore" / "Configuration.py").write_text(CONFIGURATION)
    (site / "wmcoredb" / "__init__.py").write_text(
        textwrap.dedent("""
        import os
        def get_sql_file(module_name, file_name, backend):
            return os.path.join(os.path.dirname(__file__), "sql", backend, module_name, file_name)
        """)
    )
    for dialect, text in (("mariadb", mariadb), ("oracle", oracle)):
        file = site / "wmcoredb" / "sql" / dialect / "wmbs" / "create.sql"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return prefix / "bin" / "python"


def test_a_release_is_described(tmp_path):
    python = make_release(tmp_path / "r", "CREATE TABLE one (a INT(11)); CREATE INDEX i ON one (a);")
    described = describe_release(python)
    assert described["mariadb"]["one"]["indexes"] == [["a"]]
    assert described["oracle"]["one"]["columns"]["a"]["type"] == "number(11,0)"


def test_a_release_whose_later_statement_fails_is_an_error(tmp_path):
    python = make_release(
        tmp_path / "r", "CREATE TABLE one (a INT); CREATE TABLE two (a INT NOT_SQL); CREATE TABLE three (a INT);"
    )
    with pytest.raises(WMAgentError, match="these are missing: table two, table three"):
        describe_release(python)


def test_a_release_that_cannot_be_asked(tmp_path):
    with pytest.raises(WMAgentError, match="complete wmagent"):
        describe_release(tmp_path / "bin" / "python")
    python = make_release(tmp_path / "r", "CREATE TABLE one (a INT);")
    (tmp_path / "r" / "bin" / "wmcore-db-init").write_text("raise RuntimeError('it broke')\n")
    with pytest.raises(WMAgentError, match="failed: RuntimeError: it broke"):
        describe_release(python)
    (tmp_path / "r" / "bin" / "wmcore-db-init").write_text("import sys; sys.exit(3)\n")
    with pytest.raises(WMAgentError, match="ended with 3"):
        describe_release(python)


def test_the_module_through_ansible(database, tmp_path):
    secrets = str(write_secrets(tmp_path / "WMAgent.secrets", database))
    look = {"secrets": secrets, "database_name": database.name}
    live = structure_of(database)
    other = json.loads(json.dumps(live))
    other["job"]["columns"]["other"]["type"] = "bigint"
    target, wrong = {"mariadb": live, "oracle": None}, {"mariadb": other, "oracle": None}
    tasks = [
        {"name": "look", "dmwm.wmagent.schema_info": look},
        {"name": "same", "dmwm.wmagent.schema_info": look | {"target": target, "running": target}},
        {"name": "other", "dmwm.wmagent.schema_info": look | {"target": wrong, "running": target}},
        {
            "name": "wrong",
            "dmwm.wmagent.schema_info": look | {"database_name": "nowhere"},
            "ignore_errors": True,
        },
    ]
    outcome = run_tasks(tmp_path / "play", tasks, {"agent": {"ansible_python_interpreter": sys.executable}})
    assert outcome.code == 0, outcome.output
    results = outcome.results["agent"]
    assert results["look"]["structure"] == live and results["look"]["dialect"] == "mariadb"
    assert results["same"]["allowed"] and not results["same"]["changed"]
    assert not results["other"]["allowed"] and "redeploy" in results["other"]["message"]
    assert results["other"]["differences"]["running_target"] == [
        "job: column other: type int in the running image, bigint in the target image"
    ]
    assert "no access to database nowhere" in results["wrong"]["msg"]
    assert database.password not in outcome.output
