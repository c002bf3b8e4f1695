# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: write the report as a page, as JSON and as Markdown. Runs on the controller only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.write import FORMATS, checked, contents, write

ARGUMENTS: dict[str, Any] = {
    "model": {"type": "dict", "required": True},
    **{name: {"type": "path"} for name in FORMATS},
}


class ActionModule(ActionBase):
    """See the module of the same name for the documentation."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Entry point."""
        result = super().run(tmp, task_vars)
        _spec, params = self.validate_argument_spec(argument_spec=ARGUMENTS, required_one_of=[FORMATS])
        try:
            result.update(self._report(params))
        except WMAgentError as error:
            result.update(failed=True, msg=str(error))
        return result

    def _report(self, params: dict[str, Any]) -> dict[str, Any]:
        files = {name: Path(params[name]).expanduser().absolute() for name in FORMATS if params[name]}
        if len(set(files.values())) < len(files):
            raise WMAgentError("two of html, json and markdown name the same file; give each its own")
        new = contents(checked(params["model"]), files)
        if not self._task.check_mode:
            write(new)
        verb = "would be written" if self._task.check_mode else "written"
        written = [str(file) for file in new]
        summary = f"{', '.join(written)} {verb}" if written else "the report says what it said before"
        return {
            "changed": bool(new),
            "written": written,
            "files": {name: str(file) for name, file in files.items()},
            "summary": summary,
            # Of a page nobody reads a diff line by line; what the agents told is in the JSON report.
            **({"diff": {"before": "", "after": f"{summary}\n"}} if new else {}),
        }
