# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether ReqMgr2 has archived all that an agent's database knows of: wiped before that, workflows are orphaned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.central import CentralClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.signals_central import read_requests
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

# DBSBuffer keeps the name of each workflow for good, WMBS until it is archived.
_NAMES = "SELECT name FROM wmbs_workflow UNION SELECT name FROM dbsbuffer_workflow"


def workflow_names(connection: Connection) -> list[str]:
    """All workflows that the agent's database knows. Raises WMAgentError."""
    return sorted(str(name) for (name,) in connection.query(_NAMES))


def accepted_names(accepted: Sequence[Mapping[str, Any]]) -> set[str]:
    """Workflows that a person has decided to leave behind. Raises WMAgentError where one lacks a reason. Pure."""
    for one in accepted:
        blank = [key for key in ("workflow", "reason", "person") if not str(one.get(key) or "").strip()]
        if blank:
            raise WMAgentError(f"wmagent_redeploy_accept: {one.get('workflow') or 'an entry'} has no {blank[0]}")
    return {str(one["workflow"]) for one in accepted}


def problems(
    open_client: Callable[[], CentralClient],
    names: Sequence[str],
    accepted: set[str],
    timeout: float,
) -> list[str]:
    """What speaks against wiping, one line each; [] where every workflow is archived or accepted.

    timeout: seconds for all answers together
    """
    asked = [name for name in names if name not in accepted]
    blockers, told = read_requests(open_client, asked, timeout)
    lines = []
    for blocker in blockers:
        if blocker.count is None:
            lines.append(f"nobody can tell whether the workflows are archived: {blocker.text}")
        else:
            lines.append(
                f"{blocker.count} workflows that ReqMgr2 does not know, such as {', '.join(list(blocker.examples)[:3])}"
            )
    if told["not_archived"]:
        examples = ", ".join(f"{name} ({status})" for name, status in list(told["examples"].items())[:3])
        lines.append(f"{told['not_archived']} workflows that are not archived in ReqMgr2, such as {examples}")
    return lines
