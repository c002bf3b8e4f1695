# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures shared by all tests."""

pytest_plugins = ["support.mariadb"]
