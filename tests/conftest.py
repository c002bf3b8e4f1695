# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures shared by all tests."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["support.mariadb", "support.couch_fixtures"]

# A busy machine is no defect: examples have no time limit of their own, the test has.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
