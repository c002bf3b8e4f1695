# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's WMAGENT_CONFIG document, by ReqMgr2 (WMCore.ReqMgr.Service.Auxiliary, WMCore.Services.ReqMgrAux)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.central import CentralClient, CentralError
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

SPEED_DRAIN_STAGES = ("CondorPriority", "NoJobRetries", "EnableAllSites")
"""Parts of SpeedDrainConfig (WMComponent.AgentStatusWatcher.DrainStatusPoller)."""

_NOT_FOUND = 404
_FLAGS = ("UserDrainMode", "AgentDrainMode", "SpeedDrainMode")

Document = dict[str, Any]


def read_document(client: CentralClient, agent: str) -> Document:
    """The whole document. agent: full host name. Raises WMAgentError where ReqMgr2 knows no such agent."""
    try:
        answer = client.get(path_of(agent))
    except CentralError as error:
        if error.status == _NOT_FOUND:
            raise WMAgentError(
                f"{client.where} knows no agent {agent}; give its full host name, or upload its configuration first "
                "(wmagent-upload-config)"
            ) from None
        raise
    return check_document(only_result(client, answer), agent)


def path_of(agent: str) -> str:
    """Where the document of an agent is, below ReqMgr2's URL."""
    return f"/data/wmagentconfig/{quote(agent, safe='')}"


def only_result(client: CentralClient, answer: Any) -> Any:
    """The one result of an answer. Raises WMAgentError where there is another number of them."""
    results = answer.get("result") if isinstance(answer, Mapping) else None
    if not isinstance(results, list) or len(results) != 1:
        raise WMAgentError(f"{client.where} did not answer with one result; is it ReqMgr2?")
    return results[0]


def check_document(document: Any, agent: str) -> Document:
    """The document, if it has all that draining is about. Raises WMAgentError that names what it lacks."""
    problems = []
    if isinstance(document, Mapping):
        problems = [flag for flag in _FLAGS if not isinstance(document.get(flag), bool)]
        stages = document.get("SpeedDrainConfig")
        stages = stages if isinstance(stages, Mapping) else {}
        problems += [f"SpeedDrainConfig.{name}" for name in SPEED_DRAIN_STAGES if not _is_stage(stages.get(name))]
    if problems or not isinstance(document, Mapping):
        lacks = ", ".join(problems) or "everything"
        raise WMAgentError(
            f"the configuration of {agent} in ReqMgr2 lacks {lacks}; upload its release's defaults first "
            "(wmagent-upload-config)"
        )
    return dict(document)


def _is_stage(stage: Any) -> bool:
    if not isinstance(stage, Mapping) or not isinstance(stage.get("Enabled"), bool):
        return False
    threshold = stage.get("Threshold")
    return isinstance(threshold, int) and not isinstance(threshold, bool)
