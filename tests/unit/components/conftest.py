# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of these tests."""

from support.daemons import fake_agent, stranger

__all__ = ["fake_agent", "stranger"]
