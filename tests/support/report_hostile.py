# SPDX-License-Identifier: GPL-3.0-or-later
"""A report in which every text tries to be markup."""

from __future__ import annotations

from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._history import model
from support.report_model import some_report

HOSTILE = (
    "<script>alert(1)</script> \"'><img src=x onerror=alert(1)> | a|b `code` **bold** [x](javascript:alert(1)) "
    "{{ 7*7 }} {% raw %} $x^2$ \\| ]]> --> &amp; \n# heading\n- item"
)


def hostile_report() -> model.Report:
    """One agent; every text that an agent or an operator can choose is :data:`HOSTILE`."""
    report: Any = some_report(2, weeks=2)
    agent = report["agents"][1]
    name = agent["name"] = f"agent {HOSTILE}"
    for key in ("release", "digest", "verdict"):
        agent[key] = HOSTILE
    agent["reasons"], agent["gaps"], agent["drift"]["examples"] = [HOSTILE], [HOSTILE], [HOSTILE]
    agent["drift"] = {"count": 1, "kinds": {HOSTILE: 1}, "examples": [HOSTILE]}
    for part in ("disks", "sizes", "forecast"):
        for one in agent[part]:
            one["name"] += HOSTILE
    for one in agent["forecast"]:
        one["why"] = HOSTILE
    agent["drain"]["bottleneck"] = agent["drain"]["stages"][0]["name"] = agent["drain"]["blockers"][0]["name"] = HOSTILE
    agent["drain"]["verdict"] = agent["drain"]["blockers"][0]["class"] = HOSTILE
    agent["ledger"][0] |= dict.fromkeys(("time", "action", "from", "to", "verdict", "owner"), HOSTILE)
    agent["ledger"][0]["details"] = {HOSTILE: [HOSTILE]}
    report["fleet"] |= {
        "uniform": False,
        "releases": {HOSTILE: [name]},
        "differences": [{"agent": name, "what": HOSTILE, "details": HOSTILE}],
    }
    report["redeploy_first"] |= {"agent": name, "name": HOSTILE}
    report["rollouts"][0] |= {"id": HOSTILE, "label": HOSTILE}
    report["rollouts"][0]["agents"][1] |= dict.fromkeys(("from", "to", "verdict"), HOSTILE) | {"agent": name}
    return report  # type: ignore[no-any-return]
