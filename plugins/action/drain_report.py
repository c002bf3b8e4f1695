# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: what a drain came to on all agents, as one table. Runs on the controller only."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.drain_summary import COLUMNS, summarise
from ansible_collections.dmwm.wmagent.plugins.module_utils._rollout.table import text_table

ARGUMENTS: dict[str, Any] = {"agents": {"type": "list", "elements": "str", "required": True}}


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Entry point."""
        result = super().run(tmp, task_vars)
        _spec, params = self.validate_argument_spec(argument_spec=ARGUMENTS)
        hostvars = (task_vars or {})["hostvars"]
        told = {agent: hostvars[agent].get("wmagent_drained") for agent in params["agents"]}
        rows, left, message = summarise(told, check=self._task.check_mode)
        for line in ["", *text_table(rows, COLUMNS), ""]:
            self._display.display(line)
        failed = bool(left) and not self._task.check_mode
        result.update(changed=False, failed=failed, rows=rows, left=left)
        result["msg" if failed else "message"] = message
        return result
