# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: sends the tools wheels of an image where the agent has no environment of them yet."""

from __future__ import annotations

from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import TOOLS_PART
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import open_repository
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.stage import image_of
from ansible_collections.dmwm.wmagent.plugins.plugin_utils.sending import SendingAction, bundle_size, text_argument


class ActionModule(SendingAction):
    """See the module of the same name for the documentation."""

    remedy = "install it or set wmagent_python"

    def _send(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        # No discovery: it could find a Python that this collection does not run with.
        python = text_argument(args, "python", "/usr/bin/python3.11")
        task_vars = {**task_vars, "ansible_python_interpreter": python}
        if not args.get("image"):
            return self._module({**args, "wheels": [], "bundle": None}, task_vars)
        repository = open_repository(text_argument(args, "repository"))
        image, _documents = image_of(repository, text_argument(args, "image"), text_argument(args, "digest", ""))
        tools = image.description.part(TOOLS_PART)
        args.update(wheels=[wheel.as_dict() for wheel in tools], bundle=None)
        answer = self._module(args, task_vars)
        wanted = set(answer.pop("missing", []))
        wheels = [wheel for wheel in tools if wheel.digest in wanted]
        size = bundle_size(wheels)
        if wheels and not self._task.check_mode and not answer.get("failed"):
            args["bundle"], size = self._transfer_bundle(repository, wheels)
            answer = self._module(args, task_vars)
            answer.pop("missing", None)
        if not answer.get("failed"):
            answer.update(blobs_sent=len(wheels), bytes_sent=size)
        return answer
