# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: open or close a rollout, plan its batches. Runs on the controller only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._rollout.batches import plan_batches
from ansible_collections.dmwm.wmagent.plugins.module_utils._rollout.state import (
    close_rollout,
    open_rollout,
    owner_name,
    rollout_under_way,
)

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["open", "close"], "default": "open"},
    "subject": {"type": "str", "required": True},
    "label": {"type": "str", "default": "rollout"},
    "agents": {"type": "list", "elements": "str"},
    "waves": {"type": "list", "elements": "str", "default": ["all"]},
    "batches": {"type": "list", "elements": "raw", "default": [1, "25%", "100%"]},
    "rollout": {"type": "str", "default": ""},
    "state_dir": {"type": "path", "required": True},
}


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Entry point."""
        result = super().run(tmp, task_vars)
        _spec, params = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            act = self._open if params["state"] == "open" else self._close
            result.update(act(params, task_vars or {}))
        except WMAgentError as error:
            result.update(failed=True, msg=str(error))
        return result

    def _open(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        agents = params["agents"] or []
        waves = [[a for a in self._matching(pattern, task_vars) if a in agents] for pattern in params["waves"]]
        batches = plan_batches([*waves, agents], params["batches"])
        state_dir = Path(params["state_dir"]).expanduser()
        if self._task.check_mode:
            name = (
                params["rollout"] or rollout_under_way(state_dir, self._fleet(task_vars), params["subject"]) or "check"
            )
            return {"changed": False, "id": name, "owner": owner_name(), "resumed": False, "batches": batches}
        rollout, resumed = open_rollout(
            state_dir,
            self._fleet(task_vars),
            params["subject"],
            params["label"],
            os.getppid(),  # a worker's parent is ansible-playbook itself
            params["rollout"],
        )
        return {"changed": False, "id": rollout.id, "owner": rollout.owner, "resumed": resumed, "batches": batches}

    def _close(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if not self._task.check_mode:
            fleet = self._fleet(task_vars)
            close_rollout(Path(params["state_dir"]).expanduser(), fleet, params["subject"], params["rollout"])
        return {"changed": False, "id": params["rollout"], "owner": owner_name()}

    def _matching(self, pattern: str, task_vars: dict[str, Any]) -> list[str]:
        lookup = lookup_loader.get("ansible.builtin.inventory_hostnames", loader=self._loader, templar=self._templar)
        found = list(lookup.run([pattern], variables=task_vars))
        if not found:
            raise WMAgentError(f"wmagent_waves has {pattern!r}, which matches no host of the inventory; correct it")
        return found

    @staticmethod
    def _fleet(task_vars: dict[str, Any]) -> str:
        return ",".join(task_vars.get("ansible_inventory_sources") or [])
