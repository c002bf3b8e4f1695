# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file systems a report tells of, and which of them holds the databases."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.disks import Disk, holding, of_interest, parse_df
from ansible_collections.dmwm.wmagent.plugins.modules import disks_info

DF = """\
Filesystem 1024-blocks Used Available Capacity Mounted on
/dev/sda1 1000 300 200 60% /
/dev/sda1 1000 300 200 60% /bind
/dev/sdb1 4000 1000 3000 25% /data
tmpfs 500 0 500 0% /run
/dev/loop0 50 50 0 100% /snap/core
overlay 1000 300 200 60% /containers
"""


def test_bytes_are_those_of_df_s_percentage() -> None:
    root = parse_df(DF)[0]
    assert (root.used, root.total, root.device) == (300 * 1024, 500 * 1024, "/dev/sda1")
    assert 100 * root.used / root.total == root.percent


def test_memory_and_images_of_packages_are_no_disks_and_a_device_is_one() -> None:
    assert [one.mounted for one in of_interest(parse_df(DF), ())] == ["/", "/data"]


def test_what_holds_the_databases_is_told_of_whatever_it_is() -> None:
    names = [one.mounted for one in of_interest(parse_df(DF), {"/containers", "/bind"})]
    assert names == ["/bind", "/containers", "/data"]


def test_a_path_that_is_not_there_yet_lies_on_the_disk_of_its_folder(tmp_path: Path) -> None:
    mounts = [Disk(str(part), 1) for part in (tmp_path, *tmp_path.parents)]
    assert holding(tmp_path / "not" / "there", mounts) == str(tmp_path)
    assert holding(tmp_path, []) == ""


def test_this_machine_s_disk_is_found(tmp_path: Path) -> None:
    found = disks_info.run([str(tmp_path)], 30)
    name = found["holds"][str(tmp_path)]
    disk = next(one for one in found["disks"] if one["name"] == name)
    assert 0 < disk["used"] <= disk["total"]
