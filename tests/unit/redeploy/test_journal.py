# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run goes on with after an interruption, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import journal
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.journal import STEPS, Redeployment
from hypothesis import given
from hypothesis import strategies as st

FOUND = Redeployment("one", "a@b", "agent1", "old-1", "new-1", "/saved/1", "begun", 1.0)
WANTED = Redeployment("two", "c@d", "agent1", "old-1", "new-1", "/saved/2", "begun", 2.0)
DESTROYING = STEPS[STEPS.index("wiping") :]


@given(st.sampled_from(STEPS), st.sampled_from(["new-1", "new-2"]), st.sampled_from(["agent1", "agent2"]))
def test_what_was_wiped_is_never_forgotten(step, target, agent):
    """Whatever is wanted, a redeployment that destroys goes on with its own saves, or nothing goes on."""
    found = FOUND.at(step, tables={"t": 1})
    wanted = replace(WANTED, target=target, agent=agent)
    try:
        after = journal.begin(found, wanted)
    except WMAgentError:
        assert step in DESTROYING
        return
    if step not in DESTROYING:
        assert after == wanted
    else:
        assert (after.folder, after.tables, after.agent) == (found.folder, found.tables, found.agent)
        assert (after.id, after.owner) == ("two", "c@d")
        assert after.destroys and STEPS.index(after.step) <= STEPS.index(step)
        assert after.target == target


def test_another_image_makes_the_tables_anew():
    other = replace(WANTED, target="new-2")
    assert journal.begin(FOUND.at("wiping"), other).step == "wiping"
    assert journal.begin(FOUND.at("wiped"), other).step == "wiped"
    for step in ("creating", "created", "pushed"):
        assert journal.begin(FOUND.at(step), other).step == "creating"
    with pytest.raises(WMAgentError, match="has started its components already"):
        journal.begin(FOUND.at("started"), other)


def test_the_same_image_goes_on_where_it_was():
    for step in DESTROYING:
        assert journal.begin(FOUND.at(step), WANTED).step == step
    assert journal.begin(None, WANTED) == WANTED


def test_steps_out_of_turn_are_refused():
    with pytest.raises(WMAgentError, match="no redeployment is under way"):
        journal.demand(None, "saved")
    with pytest.raises(WMAgentError, match="is at step begun, and this belongs to saved or wiping"):
        journal.demand(FOUND, "saved", "wiping")
    assert journal.demand(FOUND.at("saved"), "saved", "wiping").step == "saved"


@pytest.mark.parametrize("confirm", ["", "agent11", "agent", "all", "AGENT1", "agent1;agent2", "*"])
def test_only_its_own_name_confirms_a_wipe(confirm):
    with pytest.raises(WMAgentError, match=r"-e wmagent_confirm_wipe=agent1$"):
        journal.confirmed(confirm, "agent1")


def test_its_own_name_among_others_confirms_it():
    journal.confirmed("agent1", "agent1")
    journal.confirmed("agent2, agent1", "agent1")


def test_it_is_on_disk_as_it_was_written(tmp_path):
    layout = AgentLayout(tmp_path)
    assert journal.read(layout) is None and not journal.clear(layout)
    there = FOUND.at("saved", tables={"t": 3}, details={"database": {"size": 1}}).at("wiping", details={"x": 2})
    journal.write(layout, there)
    assert journal.read(layout) == there and there.details == {"database": {"size": 1}, "x": 2}
    assert journal.file_of(layout).stat().st_mode & 0o777 == 0o600
    assert journal.clear(layout) and journal.read(layout) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "x"}'])
def test_one_that_cannot_be_read_is_not_none(tmp_path, text):
    layout = AgentLayout(tmp_path)
    layout.deploy.mkdir()
    journal.file_of(layout).write_text(text)
    with pytest.raises(WMAgentError, match=r"redeploy\.json cannot be read .* then remove it"):
        journal.read(layout)


def test_a_step_of_another_version_is_refused(tmp_path):
    layout = AgentLayout(tmp_path)
    journal.write(layout, replace(FOUND, step="polished"))
    with pytest.raises(WMAgentError, match="step 'polished'"):
        journal.read(layout)
