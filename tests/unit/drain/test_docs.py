# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/drain.md names every signal with its class."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import SIGNALS

DOCS = Path(__file__).resolve().parents[3] / "docs" / "drain.md"


def test_every_signal_is_told_with_its_class():
    told: dict[str, str] = {}
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        columns = [column.strip() for column in line.strip("|").split("|")]
        if len(columns) != 3 or not columns[0].startswith("`"):
            continue
        names, classes = re.findall(r"`(\w+)`", columns[0]), columns[2].split(", ")
        told |= dict(zip(names, classes if len(classes) == len(names) else classes * len(names), strict=True))
    assert told == {name: signal.kind for name, signal in SIGNALS.items()}
