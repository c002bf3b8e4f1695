# SPDX-License-Identifier: GPL-3.0-or-later
"""What the drain flags have to be."""

from __future__ import annotations

from copy import deepcopy

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.agent_config import check_document
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.disks import Disk, parse_df
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.flags import (
    DiskRule,
    SpeedStage,
    Wanted,
    changed_document,
    check,
    differences,
    merge,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st

STAGES = ("CondorPriority", "NoJobRetries", "EnableAllSites")


def document(user=False, agent=False, on=(), **more) -> dict:
    return {
        "UserDrainMode": user,
        "AgentDrainMode": agent,
        "SpeedDrainMode": bool(on),
        "SpeedDrainConfig": {name: {"Threshold": 200, "Enabled": name in on} for name in STAGES},
        "DiskUseThreshold": 85,
        "IgnoreDisks": ["/mnt/ramdisk"],
        "MaxRetries": {"default": 3},
        "ConfigType": "WMAGENT_CONFIG",
    } | more


def changed(before: dict, wanted: Wanted, *percent: int) -> dict[str, object]:
    kept = deepcopy(before)
    after = changed_document(before, wanted, [Disk(f"/data{at}", used) for at, used in enumerate(percent)])
    assert before == kept, "what was given is not touched"
    again = changed_document(after, wanted, [Disk(f"/data{at}", used) for at, used in enumerate(percent)])
    assert again == after, "the same asked for again changes nothing"
    return {one["field"]: one["after"] for one in differences(before, after)}


def test_draining_changes_one_flag():
    assert changed(document(), Wanted(draining=True)) == {"UserDrainMode": True}
    assert changed(document(user=True), Wanted(draining=True)) == {}
    assert changed(document(agent=True), Wanted(draining=True)) == {"UserDrainMode": True}


def test_all_flags_go_together():
    before = document(user=True, agent=True, on=("NoJobRetries", "EnableAllSites"))
    assert changed(before, Wanted(draining=False), 10) == {
        "UserDrainMode": False,
        "AgentDrainMode": False,
        "SpeedDrainMode": False,
        "SpeedDrainConfig.NoJobRetries.Enabled": False,
        "SpeedDrainConfig.EnableAllSites.Enabled": False,
    }


def test_a_full_disk_goes_on_draining_an_agent_that_is_to_be_active():
    assert changed(document(user=True), Wanted(draining=False), 85) == {"UserDrainMode": False, "AgentDrainMode": True}
    before = document(user=True, agent=True, on=("NoJobRetries",))
    assert changed(before, Wanted(draining=False), 90) == {"UserDrainMode": False}
    after = changed_document(document(user=True), Wanted(draining=False), [Disk("/mnt/ramdisk", 100), Disk("/data", 1)])
    assert after["AgentDrainMode"] is False, "ignored disks do not count"


@pytest.mark.parametrize(
    ("was", "used", "becomes", "threshold"),
    [
        (False, 70, False, 85),
        (False, 80, False, 85),
        (False, 85, True, 75),
        (True, 90, True, 75),
        (True, 80, True, 75),
        (True, 75, True, 75),
        (True, 74, False, 85),
    ],
)
def test_the_disk_driven_mode_does_not_flap(was, used, becomes, threshold):
    after = changed_document(document(agent=was), Wanted(disk=DiskRule(85, 75)), [Disk("/data", used)])
    assert (after["AgentDrainMode"], after["DiskUseThreshold"]) == (becomes, threshold)
    # What AgentStatusPoller makes of it in its next cycle.
    assert (used >= after["DiskUseThreshold"]) == after["AgentDrainMode"]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=12), st.booleans())
def test_between_low_and_high_nothing_changes(usages, was):
    now = document(agent=was)
    for used in usages:
        before = now["AgentDrainMode"]
        now = changed_document(now, Wanted(disk=DiskRule(85, 75)), [Disk("/data", used)])
        expected = True if used >= 85 else False if used < 75 else before
        assert now["AgentDrainMode"] is expected


def test_speed_drain_by_stage():
    speed = {"NoJobRetries": SpeedStage(300, None), "EnableAllSites": SpeedStage(None, True)}
    assert changed(document(user=True), Wanted(speed=speed)) == {
        "SpeedDrainConfig.NoJobRetries.Threshold": 300,
        "SpeedDrainConfig.EnableAllSites.Enabled": True,
        "SpeedDrainMode": True,
    }
    off = {"EnableAllSites": SpeedStage(None, False)}
    assert changed(document(user=True, on=("EnableAllSites",)), Wanted(speed=off)) == {
        "SpeedDrainConfig.EnableAllSites.Enabled": False,
        "SpeedDrainMode": False,
    }
    thresholds = {"EnableAllSites": SpeedStage(5, None)}
    assert changed(document(), Wanted(speed=thresholds)) == {"SpeedDrainConfig.EnableAllSites.Threshold": 5}


def test_speed_drain_is_part_of_draining():
    with pytest.raises(WMAgentError, match="cannot be on while the agent does not drain"):
        changed_document(document(), Wanted(speed={"NoJobRetries": SpeedStage(None, True)}), [])
    with pytest.raises(WMAgentError, match="cannot be on"):
        speed = {"NoJobRetries": SpeedStage(None, True)}
        changed_document(document(user=True), Wanted(draining=False, speed=speed), [Disk("/data", 1)])


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(), "nothing is asked for"),
        (Wanted(speed={"NoJobRetries": SpeedStage(-1)}), "threshold of NoJobRetries is -1"),
        (Wanted(disk=DiskRule(75, 85)), "disk_low is 85"),
        (Wanted(disk=DiskRule(85, 85)), "disk_low is 85"),
        (Wanted(disk=DiskRule(101, 85)), "disk_high 101"),
    ],
)
def test_what_makes_no_sense_is_said_so(wanted, said):
    with pytest.raises(WMAgentError, match=said):
        check(wanted)


@pytest.mark.parametrize(
    ("given", "lacks"),
    [
        (None, "everything"),
        ([], "everything"),
        ({}, "UserDrainMode, AgentDrainMode, SpeedDrainMode, SpeedDrainConfig.CondorPriority"),
        (document() | {"UserDrainMode": "false"}, "UserDrainMode;"),
        (document() | {"SpeedDrainConfig": {}}, "SpeedDrainConfig.CondorPriority, SpeedDrainConfig.NoJobRetries"),
        (document() | {"SpeedDrainConfig": None}, "SpeedDrainConfig.CondorPriority"),
    ],
)
def test_a_document_without_the_fields_is_none(given, lacks):
    with pytest.raises(WMAgentError, match=f"lacks {lacks}"):
        check_document(given, "agent.example.org")


values = st.recursive(st.integers(0, 2), lambda inner: st.dictionaries(st.sampled_from("ab"), inner), max_leaves=4)
documents = st.dictionaries(st.sampled_from("abcd"), values)


@given(documents, documents, documents)
def test_a_merge_keeps_what_only_one_has_changed(base, theirs, ours):
    assert merge(base, base, ours) == ours
    assert merge(base, theirs, base) == theirs
    assert merge(base, theirs, theirs) == theirs
    merged = merge(base, theirs, ours)
    for key in "abcd":
        if ours.get(key) == base.get(key):
            assert merged.get(key) == theirs.get(key)
        elif theirs.get(key) == base.get(key):
            assert merged.get(key) == ours.get(key)


def test_df_is_read_as_it_prints():
    text = (
        "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
        "/dev/sda1 100 85 15 85% /\n"
        "tmpfs 100 0 100 0% /mnt/ram disk\n"
        "auto 0 0 0 - /misc\n"
    )
    assert parse_df(text) == [Disk("/", 85), Disk("/mnt/ram disk", 0)]
    for nothing in ("", "Filesystem 1024-blocks Used Available Capacity Mounted on\n", "df: error\n"):
        with pytest.raises(WMAgentError, match="tells of no file system"):
            parse_df(nothing)
