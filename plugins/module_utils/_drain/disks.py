# SPDX-License-Identifier: GPL-3.0-or-later
"""How full the disks of this host are, measured as upstream does (Utils.Utilities.diskUse: ``df -klP``)."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_COLUMNS = 6


@dataclass(frozen=True)
class Disk:
    """One file system. mounted: where; percent: how full, 0 to 100."""

    mounted: str
    percent: int


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
            disks.append(Disk(columns[5], int(columns[4][:-1])))
    if not disks:
        raise WMAgentError("df tells of no file system, so nobody knows how full the disks are; run df -klP by hand")
    return disks
