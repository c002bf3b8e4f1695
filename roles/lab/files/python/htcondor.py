# SPDX-License-Identifier: GPL-3.0-or-later
"""The first generation's name for the same stand-in."""

from htcondor2 import *  # noqa: F403
from htcondor2 import htcondor, version  # noqa: F401
