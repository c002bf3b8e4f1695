# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback plugin: writes every task's result to a file, one JSON object a line."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: record
type: notification
short_description: Writes results to a file
description: Writes results to the file that RECORD_FILE names.
"""


class CallbackModule(CallbackBase):
    """See above."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "record"

    def _record(self, result: Any, **_options: Any) -> None:
        line = {"host": result._host.get_name(), "task": result._task.get_name(), "result": result._result}
        with open(os.environ["RECORD_FILE"], "a", encoding="utf-8") as stream:  # noqa: PTH123
            stream.write(json.dumps(line, default=str) + "\n")

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_unreachable = v2_runner_on_skipped = _record
