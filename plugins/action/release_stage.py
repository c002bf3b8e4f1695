# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: sends the wheels that an agent lacks, then has its module install them."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import RELEASE_PART
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import open_repository
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.stage import image_of
from ansible_collections.dmwm.wmagent.plugins.plugin_utils.sending import SendingAction, bundle_size, text_argument


class ActionModule(SendingAction):
    """See the module of the same name for the documentation."""

    def _send(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        started = time.monotonic()
        if args.get("source", "controller") != "controller":
            return _shown(self._module(args, task_vars), self._task.check_mode)
        repository = open_repository(text_argument(args, "repository"), timeout=float(args.get("timeout", 60)))
        image, documents = image_of(repository, text_argument(args, "image"), text_argument(args, "digest", ""))
        args.update(image_documents=documents, bundle=None)
        answer = self._module(args, task_vars)
        wanted = {entry["digest"] for entry in answer.get("missing", [])}
        wheels = [wheel for wheel in image.description.part(RELEASE_PART) if wheel.digest in wanted]
        size = bundle_size(wheels)
        if wheels and not self._task.check_mode and not answer.get("failed"):
            args["bundle"], size = self._transfer_bundle(repository, wheels)
            answer = self._module(args, task_vars)
        if not answer.get("failed"):
            answer.update(blobs_sent=len(wheels), bytes_sent=size, seconds=round(time.monotonic() - started, 3))
        return _shown(answer, self._task.check_mode)


def _shown(answer: dict[str, Any], check: bool) -> dict[str, Any]:
    """Only a plan has something to tell about what is missing, and only a difference is worth a diff."""
    if not check:
        answer.pop("missing", None)
    if not answer.get("diff"):
        answer.pop("diff", None)
    return answer
