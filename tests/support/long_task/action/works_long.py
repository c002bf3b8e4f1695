# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of the module of the same name."""

from __future__ import annotations

from ansible_collections.dmwm.wmagent.plugins.plugin_utils.long_task import LongTaskAction


class ActionModule(LongTaskAction):
    """See the module."""
