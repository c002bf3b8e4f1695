# SPDX-License-Identifier: GPL-3.0-or-later
"""Which logs of components are removed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.logs import find_rotated, older_than, remove
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

DAY = 86_400
NOW = 1_790_000_000


def put(folder: Path, name: str, days: float) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text("x" * 5000)
    os.utime(file, (NOW - days * DAY, NOW - days * DAY))
    return file


def test_only_old_rotated_logs_in_components_folders_go(tmp_path):
    component = tmp_path / "DBS3Upload"
    old = [
        put(component, name, 20) for name in ("ComponentLog.1", "ComponentLog.2026-01-01", "Daemon.xml.BAK.1-1-2026")
    ]
    stays = [
        put(component, name, days)
        for name, days in (
            ("ComponentLog", 20),
            ("ComponentLog.2", 13),
            ("ComponentLog.3", -1),
            ("Daemon.xml", 20),
            ("Timer-DBSUploadPoller", 20),
            ("ComponentLogs.1", 20),
        )
    ]
    stays.append(put(component / "cache", "ComponentLog.1", 20))
    stays.append(put(tmp_path / "away", "kept", 20))
    (component / "ComponentLog.9").symlink_to(stays[-1])
    (tmp_path / "Other").symlink_to(component)
    found = find_rotated(tmp_path)
    chosen = older_than(found, NOW, 14 * DAY)
    assert sorted(file.path for file in chosen) == sorted(old) and len(found) == 5
    assert remove(chosen) >= 3 * 4096
    assert not any(file.exists() for file in old) and all(file.exists() for file in stays)


def test_a_log_that_was_rotated_meanwhile_is_left(tmp_path):
    file = put(tmp_path / "JobCreator", "ComponentLog.1", 20)
    chosen = older_than(find_rotated(tmp_path), NOW, DAY)
    os.utime(file, (time.time(), time.time()))
    assert remove(chosen) == 0 and file.exists()


def test_a_work_area_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(WMAgentError, match="is it the agent's work area"):
        find_rotated(tmp_path / "nowhere")
