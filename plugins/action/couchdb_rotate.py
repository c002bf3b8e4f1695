# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin: shows how far the module of the same name is."""

from __future__ import annotations

from ansible_collections.dmwm.wmagent.plugins.plugin_utils.long_task import LongTaskAction


class ActionModule(LongTaskAction):
    """See the module of the same name for the documentation."""
