# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables made by real releases: as their images describe them, and no statement's error passed over."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import making, release_tools, tables
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import open_repository
from support.drain.release import IMAGES, database_url, place_release

pytestmark = pytest.mark.slow

TAG = "2.4.2"
CONFIG = """
from WMCore.Configuration import Configuration
config = Configuration()
config.section_("CoreDatabase")
config.CoreDatabase.connectUrl = {url!r}
"""
SHIM = """
from pathlib import Path
def get_sql_file(module_name=None, file_name=None, backend=None):
    return str(Path(__file__).parent / "sql" / backend / module_name / file_name)
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory) -> Path:
    return place_release(TAG, tmp_path_factory.mktemp("release"))


@pytest.fixture
def release(prefix, tmp_path, agent_database, no_certificates) -> Release:
    config = tmp_path / "config.py"
    config.write_text(CONFIG.format(url=database_url(agent_database)))
    return Release(TAG, "sha256:0", tmp_path, prefix / "bin" / "python", prefix, config, TAG)


@pytest.fixture(scope="module")
def wanted():
    return open_repository(IMAGES).image(TAG).description.schema["mariadb"]


def secrets(database) -> dict[str, str]:
    return {"MDB_PASS": database.password}


def test_the_tables_are_those_that_the_image_describes(release, agent_database, wanted):
    release_tools.create_schema(release, secrets(agent_database), {}, 120)
    with connect(agent_database, read_only=False) as session:
        assert len(making.checked_schema(session, wanted, TAG)) == 64
        rows = tables.count_rows(session)
        assert {name for name, count in rows.items() if count} <= making.FILLED_BY_RELEASES
        making.note_build(session, "2.4.2.1", "agent.example.org", True)
        making.refuse_used(session, tables.count_rows(session))
        noted = dict(session.query("SELECT init_param, init_value FROM wma_init"))
        # sha256sum of "2.4.2" and a line feed, as upstream's deployment names a build.
        assert noted["wma_build_id"] == subprocess.run(
            ["sha256sum"], input=b"2.4.2\n", capture_output=True, check=True, timeout=10
        ).stdout.decode().split()[0]  # fmt: skip
        assert (noted["wma_tag"], noted["is_active"]) == ("2.4.2.1", "true")
        session.execute("INSERT INTO wmbs_pnns (pnn) VALUES ('T2_CH_CERN')")  # by resource control
        making.refuse_used(session, tables.count_rows(session))
        session.execute("INSERT INTO dbsbuffer_algo (app_name) VALUES ('cmsRun')")
        with pytest.raises(WMAgentError, match="dbsbuffer_algo has 1 rows already"):
            making.refuse_used(session, tables.count_rows(session))
        session.execute("ALTER TABLE wmbs_job ADD COLUMN more INT")
        with pytest.raises(WMAgentError, match=r"made another schema .* wmbs_job: column more"):
            making.checked_schema(session, wanted, TAG)


def broken_sql(prefix: Path, folder: Path, old: str, new: str) -> dict[str, str]:
    """An environment in which the release finds SQL files of which one is changed."""
    package = folder / "wmcoredb"
    real = next(prefix.glob("lib/python3*/site-packages/wmcoredb/sql"))
    shutil.copytree(real, package / "sql")
    (package / "__init__.py").write_text(SHIM)
    file = package / "sql" / "mariadb" / "wmbs" / "initial_wmbs_data.sql"
    text = file.read_text()
    assert old in text
    # The last occurrence: a statement that is not the first of its file.
    file.write_text(new.join(text.rsplit(old, 1)))
    return {"PYTHONPATH": str(folder)}


def test_a_statement_that_fails_after_others_is_told(prefix, release, agent_database, tmp_path):
    environment = broken_sql(prefix, tmp_path / "broken", "INSERT INTO wmbs_", "INSERT INTO no_such_")
    program = [str(prefix / "bin" / "python"), str(prefix / "bin" / "wmcore-db-init")]
    upstream = subprocess.run(
        [*program, "--config", str(release.config), "--create", "--modules=WMCore.WMBS"],
        env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, timeout=120, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert upstream.returncode == 0, "upstream notices by itself now: this collection need not"
    with connect(agent_database, read_only=False) as session:
        tables.drop_tables(session, tables.count_rows(session))
    with pytest.raises(WMAgentError, match=r"wmcore-db-init of .* failed: .*no_such_.* doesn't exist"):
        release_tools.create_schema(release, secrets(agent_database), environment, 120)


def test_a_database_that_refuses_is_one_line_without_a_password(release, agent_database):
    word = agent_database.password
    release.config.write_text(release.config.read_text().replace(word, "wrong-word"))
    with pytest.raises(WMAgentError, match=r"wmcore-db-init of .* failed: .*Access denied") as refused:
        release_tools.create_schema(release, {"MDB_PASS": "wrong-word"}, {}, 120)
    assert "wrong-word" not in str(refused.value) and "\n" not in str(refused.value)
