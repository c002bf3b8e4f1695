# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema guard's answer."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.guard import differences, judge, structure_for
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

DATA = Path(__file__).parent / "data"
OLD, NEW = (json.loads((DATA / f"schema-{version}.json").read_text()) for version in ("2.4.1", "2.4.2"))


def test_the_same_structure_is_allowed():
    answer = judge(target=OLD["mariadb"], live=OLD["mariadb"], running=OLD["mariadb"])
    assert answer["allowed"]
    assert answer["message"] == "same structure: code-only is allowed"
    assert len(set(answer["fingerprints"].values())) == 1


def test_another_structure_is_refused_with_the_word_redeploy():
    answer = judge(target=NEW["mariadb"], live=OLD["mariadb"], running=OLD["mariadb"])
    assert not answer["allowed"]
    assert "redeploy" in answer["message"]
    assert "29 more" in answer["message"]
    assert len(answer["differences"]["running_target"]) == 30
    assert answer["differences"]["live_running"] == []


def test_a_schema_changed_by_hand_is_refused():
    live = copy.deepcopy(OLD["mariadb"])
    live["dbsbuffer_file"]["indexes"].append(["block_id"])
    answer = judge(target=OLD["mariadb"], live=live, running=OLD["mariadb"])
    assert not answer["allowed"]
    assert "redeploy" in answer["message"] and "(block_id)" in answer["message"]
    assert differences(target=OLD["mariadb"], live=live, running=OLD["mariadb"])


def test_an_adopted_agent_without_description_is_judged_by_its_live_schema():
    assert judge(target=OLD["mariadb"], live=OLD["mariadb"])["allowed"]
    refused = judge(target=NEW["mariadb"], live=OLD["mariadb"])
    assert not refused["allowed"] and "redeploy" in refused["message"]
    assert refused["differences"]["running_target"] is None


@pytest.mark.parametrize("which", ["target", "live", "running"])
def test_an_empty_answer_is_never_the_same(which):
    given = {"target": {}, "live": {}, "running": {}} | {
        name: OLD["mariadb"] for name in ("target", "live", "running") if name != which
    }
    with pytest.raises(WMAgentError, match=f"the {which} schema has no table"):
        judge(**given)


def test_the_structure_of_a_dialect():
    assert structure_for(OLD, "oracle", "target image") == OLD["oracle"]
    assert structure_for(OLD["mariadb"], "mariadb", "target image") == OLD["mariadb"]
    for lacking in ({"mariadb": OLD["mariadb"], "oracle": None}, {"mariadb": OLD["mariadb"]}, {}):
        with pytest.raises(WMAgentError, match="the target image describes no oracle schema"):
            structure_for(lacking, "oracle", "target image")
