# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema guard on real releases: what their own ``wmcore-db-init`` created when their images were built."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.guard import judge
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import open_repository

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "unit" / "database" / "data"


@pytest.fixture(scope="module")
def schemas():
    repository = open_repository(os.environ.get("WMAGENT_TEST_IMAGES") or str(ROOT / "build" / "images"))
    tags = ("2.3.9.2", "2.4.0", "2.4.1", "2.4.2", "2.4.5.9")
    return {tag: repository.image(tag).description.schema for tag in tags}


@pytest.mark.parametrize("dialect", ["mariadb", "oracle"])
@pytest.mark.parametrize(("old", "new"), [("2.3.9.2", "2.4.0"), ("2.4.0", "2.4.1"), ("2.4.2", "2.4.5.9")])
def test_the_same_structure_is_allowed(schemas, dialect, old, new):
    answer = judge(target=schemas[new][dialect], live=schemas[old][dialect], running=schemas[old][dialect])
    assert answer["allowed"], answer["differences"]


@pytest.mark.parametrize(("dialect", "differences"), [("mariadb", 30), ("oracle", 217)])
def test_the_one_change_is_refused(schemas, dialect, differences):
    old, new = schemas["2.4.1"][dialect], schemas["2.4.2"][dialect]
    answer = judge(target=new, live=old, running=old)
    assert not answer["allowed"]
    assert "redeploy" in answer["message"]
    assert len(answer["differences"]["running_target"]) == differences


@pytest.mark.parametrize("tag", ["2.4.1", "2.4.2"])
def test_the_structures_that_unit_tests_use_are_the_real_ones(schemas, tag):
    assert json.loads((DATA / f"schema-{tag}.json").read_text()) == schemas[tag]
