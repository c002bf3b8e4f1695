# SPDX-License-Identifier: GPL-3.0-or-later
"""The same command after an interruption is the same rollout."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._rollout.state import (
    close_rollout,
    open_rollout,
    rollout_under_way,
)


def test_an_interrupted_rollout_is_taken_up_again(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    first, resumed = open_rollout(tmp_path, "inv", "sha256:1", "x", ended.pid)
    assert not resumed
    again, resumed = open_rollout(tmp_path, "inv", "sha256:1", "x", os.getpid())
    assert resumed and again.id == first.id
    other, resumed = open_rollout(tmp_path, "inv2", "sha256:1", "y", os.getpid())
    assert not resumed and other.id != first.id


def test_a_closed_rollout_is_not_taken_up(tmp_path):
    first, _ = open_rollout(tmp_path, "inv", "s", "x", os.getpid())
    assert not close_rollout(tmp_path, "inv", "s", "another")
    assert close_rollout(tmp_path, "inv", "s", first.id)
    assert not open_rollout(tmp_path, "inv", "s", "x", os.getpid())[1]


def test_two_at_once_on_one_controller_are_refused(tmp_path):
    sleeper = subprocess.Popen(["sleep", "30"])
    try:
        open_rollout(tmp_path, "inv", "s", "x", sleeper.pid)
        with pytest.raises(WMAgentError, match=f"process {sleeper.pid}"):
            open_rollout(tmp_path, "inv", "s", "x", os.getpid())
    finally:
        sleeper.kill()
        sleeper.wait()


def test_another_controllers_rollout_can_be_named(tmp_path):
    rollout, resumed = open_rollout(tmp_path, "inv", "s", "x", os.getpid(), wanted="20260101T000000-x")
    assert resumed and rollout.id == "20260101T000000-x"


def test_a_look_tells_the_rollout_under_way_and_changes_nothing(tmp_path):
    assert rollout_under_way(tmp_path, "inv", "s") == ""
    rollout, _ = open_rollout(tmp_path, "inv", "s", "x", os.getpid())
    assert rollout_under_way(tmp_path, "inv", "s") == rollout.id


def test_a_damaged_file_is_one_clear_line(tmp_path):
    open_rollout(tmp_path, "inv", "s", "x", os.getpid())
    next(tmp_path.glob("rollout-*.json")).write_text("{")
    with pytest.raises(WMAgentError, match="remove it"):
        open_rollout(tmp_path, "inv", "s", "x", os.getpid())
