# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: what all agents of a rollout told, as one table. Runs on the controller only."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.dmwm.wmagent.plugins.module_utils._rollout.outcome import (
    Summary,
    stop_reason,
    summarise_preflight,
    summarise_result,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._rollout.table import text_table

ARGUMENTS: dict[str, Any] = {
    "about": {"type": "str", "choices": ["preflight", "batch", "result"], "required": True},
    "agents": {"type": "list", "elements": "str", "required": True},
    "max_failed": {"type": "int", "default": 0},
    "reason": {"type": "str", "default": ""},
}
FACTS = ("wmagent_tools", "wmagent_preflight", "wmagent_staged", "wmagent_outcome")


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Entry point."""
        result = super().run(tmp, task_vars)
        _spec, params = self.validate_argument_spec(argument_spec=ARGUMENTS)
        hostvars = (task_vars or {})["hostvars"]
        told = {agent: {name: hostvars[agent].get(name) for name in FACTS} for agent in params["agents"]}
        if params["about"] == "preflight":
            summary = summarise_preflight(told)
        else:
            summary = summarise_result(params["agents"], told, check=self._task.check_mode)
        reason = params["reason"]
        if params["about"] == "batch":
            reason = stop_reason(summary, params["max_failed"])
        result.update(self._answer(params["about"], summary, reason))
        return result

    def _answer(self, about: str, summary: Summary, reason: str) -> dict[str, Any]:
        if about != "batch":
            for line in ["", *text_table(summary.rows, summary.columns), ""]:
                self._display.display(line)
        message = (
            f"{summary.message}; the rollout stopped: {reason}" if reason and about == "result" else summary.message
        )
        failed = about != "batch" and bool(summary.failed or (about == "result" and summary.not_reached))
        answer: dict[str, Any] = {
            "changed": False,
            "failed": failed,
            "rows": summary.rows,
            "failed_agents": summary.failed,
            "not_reached": summary.not_reached,
            "stop": reason if about == "batch" else "",
        }
        return {**answer, "msg": message} if failed else {**answer, "message": message if about != "batch" else ""}
