# SPDX-License-Identifier: GPL-3.0-or-later
"""How full the disks of this host are, measured as upstream does (Utils.Utilities.diskUse: ``df -klP``)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_COLUMNS = 6
_BLOCK = 1024


@dataclass(frozen=True)
class Disk:
    """One file system. mounted: where; percent: how full, 0 to 100; total: bytes without what is reserved for root."""

    mounted: str
    percent: int
    device: str = field(default="", compare=False)
    used: int = field(default=0, compare=False)
    total: int = field(default=0, compare=False)


def read_disks(timeout: float) -> list[Disk]:
    """All local file systems. timeout: seconds. Raises WMAgentError where none can be measured."""
    try:
        done = subprocess.run(
            ["df", "-klP"],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise WMAgentError(f"df did not answer within {timeout:g} s; a file system hangs") from None
    except OSError as error:
        raise WMAgentError(f"df cannot be run ({error.strerror}); install coreutils") from None
    return parse_df(done.stdout)


def parse_df(text: str) -> list[Disk]:
    """The lines of ``df -P``. Raises WMAgentError where there is none: disks that nobody measured are not empty."""
    disks = []
    for line in text.splitlines()[1:]:
        columns = line.split(maxsplit=_COLUMNS - 1)
        # A file system without size, such as an automounter's, has "-" for its percentage.
        if len(columns) == _COLUMNS and columns[4].endswith("%") and columns[4][:-1].isdigit():
            used, available = (int(blocks) * _BLOCK for blocks in columns[2:4])
            disks.append(Disk(columns[5], int(columns[4][:-1]), columns[0], used, used + max(0, available)))
    if not disks:
        raise WMAgentError("df tells of no file system, so nobody knows how full the disks are; run df -klP by hand")
    return disks


def holding(path: Path, disks: Iterable[Disk]) -> str:
    """Where the file system of ``path``, or of what of it exists, is mounted; '' where it is none of these.

    Raises WMAgentError where nobody may look.
    """
    try:
        there = next(part for part in (path, *path.parents) if part.exists()).resolve()
        device = there.stat().st_dev
        mounts = {Path(one.mounted) for one in disks if there.is_relative_to(one.mounted)}
        same = [mount for mount in mounts if mount.stat().st_dev == device]
    except OSError as error:
        raise WMAgentError(f"cannot tell on which disk {path} is ({error.strerror}); see to its mode") from None
    return str(max(same, key=lambda mount: len(mount.parts))) if same else ""


def of_interest(disks: Iterable[Disk], wanted: Collection[str]) -> list[Disk]:
    """Those on block devices, and those mounted where ``wanted`` says; of a device mounted twice one of these."""
    kept: dict[str, Disk] = {}
    for disk in sorted(disks, key=lambda one: (one.mounted not in wanted, len(one.mounted), one.mounted)):
        on_block_device = disk.device.startswith("/dev/") and not disk.device.startswith("/dev/loop")
        if disk.total and (on_block_device or disk.mounted in wanted):
            kept.setdefault(disk.device if on_block_device else disk.mounted, disk)
    return sorted(kept.values(), key=lambda one: one.mounted)
