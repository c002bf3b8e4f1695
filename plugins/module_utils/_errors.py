# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception that a user sees."""

from __future__ import annotations


class WMAgentError(Exception):
    """A condition to tell a user in one line: what is wrong, where, and what to do.

    Modules and plugins turn it into ``fail_json(msg=str(error))``; it never comes with a traceback.
    """
