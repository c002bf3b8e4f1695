# SPDX-License-Identifier: GPL-3.0-or-later
"""Which parts of an agent a cleanup has something to do in: each by one thing put there, on a real MariaDB."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.adopt import adopt, find_deployment
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._cleanup.due import LOOKS, look
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings, connect
from support.couch_servers import delete, stand_in, write
from support.dbsbuffer.fixtures import mariadb_agent
from support.dbsbuffer.modules import fill
from support.dbsbuffer.schema import clear
from support.secrets import write_secrets

pytestmark = pytest.mark.usefixtures("no_certificates")

MONTH = 30 * 86_400
JOBS = "wmagent_jobdump/jobs"


@dataclass
class World:
    """An agent of which nothing has to be cleaned. params: of the module."""

    root: Path
    database: DatabaseSettings
    couch: CouchClient
    params: dict[str, Any]

    @property
    def due(self) -> dict[str, str]:
        return {part: why for part in LOOKS if (why := look(part, self.params))}


@pytest.fixture(scope="module")
def database(mariadb_server) -> Iterator[DatabaseSettings]:
    with mariadb_agent(mariadb_server) as settings:
        yield settings


@pytest.fixture
def world(database: DatabaseSettings, tmp_path: Path) -> Iterator[World]:
    root = tmp_path / "agent"
    folder = root / "v2.4.4"
    (folder / "config").mkdir(parents=True)
    (folder / "install" / "JobCreator").mkdir(parents=True)
    (folder / "config" / "config.py").write_text(f"config.General.workDir = '{folder}/install'\n")
    packages = folder / "sw" / "lib" / "python3.11" / "site-packages" / "wmagent-2.4.4.dist-info"
    packages.mkdir(parents=True)
    (packages / "RECORD").write_text("x,,\n")
    (folder / "sw" / "bin").mkdir()
    (folder / "sw" / "bin" / "python").touch()
    (root / "current").symlink_to("v2.4.4")
    with connect(database, 60, read_only=False) as connection:
        clear(connection)
    with stand_in() as (settings, _):
        couch = CouchClient(settings)
        couch.put(path_of(JOBS))
        write(couch, JOBS, range(3))
        params = {
            "wmagent_root": str(root),
            "secrets": str(write_secrets(tmp_path / "WMAgent.secrets", database, settings.port)),
            "database_name": database.name,
            "timeout": 30,
            "retention": "30d",
            "block_rules": True,
            "keep_releases": 3,
            "log_retention": "14d",
            "min_age": "0",
            "archived_workflows": [],
            "keep_copy_for": "7d",
            "data_directory": str(tmp_path),
        }
        yield World(root, database, couch, params)


def test_nothing_is_due_where_there_is_nothing_to_clean(world):
    assert world.due == {}


def test_a_rotated_log_is(world):
    log = world.root / "current" / "install" / "JobCreator" / "ComponentLog.1"
    log.write_text("x")
    assert world.due == {}
    os.utime(log, (time.time() - MONTH, time.time() - MONTH))
    assert world.due == {"files": "1 rotated logs"}


def test_a_blob_that_no_release_needs_is_once_the_agent_is_adopted(world):
    layout = AgentLayout(world.root)
    adopt(layout, find_deployment(world.root), by="me", rollout="r")
    assert world.due == {}
    layout.blobs.mkdir(parents=True, exist_ok=True)
    (layout.blobs / ("0" * 64)).write_text("x")
    assert world.due == {"files": "0 releases and 1 blobs"}


def test_a_ledger_that_does_not_know_the_release_counts_as_due(world):
    layout = AgentLayout(world.root)
    adopt(layout, find_deployment(world.root), by="me", rollout="r")
    layout.ledger.write_text("")
    assert ledger.read(layout.ledger) == []
    assert "cannot be read" in world.due["files"] and "does not know" in world.due["files"]


def test_a_tombstone_is(world):
    delete(world.couch, JOBS, [1])
    assert world.due == {"couchdb": f"tombstones of {JOBS}"}


def test_what_an_interrupted_rotation_left_is(world):
    world.couch.put(path_of(f"{JOBS}-rotation-20260101000000-0123abcd"))
    assert world.due == {"couchdb": "1 databases to rotate"}


def test_a_workflow_of_dbsbuffer_that_is_finished_is(world):
    fill(world.database)
    assert set(world.due) == {"dbsbuffer"} and "files of DBSBuffer" in world.due["dbsbuffer"]
    world.params["retention"] = "30000w"
    assert world.due == {}


@pytest.mark.parametrize("part", LOOKS)
def test_a_part_that_cannot_be_read_counts_as_due(world, part):
    broken = {"files": {"log_retention": "soon"}, "couchdb": {"min_age": "soon"}, "dbsbuffer": {"retention": "soon"}}
    world.params |= broken[part]
    assert list(world.due) == [part] and world.due[part].startswith("cannot be read: ")
    world.params |= {"secrets": "/nowhere", "wmagent_root": "/nowhere"}
    assert list(world.due) == list(LOOKS)
