# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of the module of the same name."""

from __future__ import annotations

import os

from ansible_collections.dmwm.wmagent.plugins.plugin_utils import long_task
from ansible_collections.dmwm.wmagent.plugins.plugin_utils.long_task import LongTaskAction

long_task.LOST = float(os.environ.get("LOST", long_task.LOST))


class ActionModule(LongTaskAction):
    """See the module."""
