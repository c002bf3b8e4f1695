# SPDX-License-Identifier: GPL-3.0-or-later
"""May an agent go to another image by code alone? Only where nothing about the structure of its database changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import compare


def differences(
    target: Mapping[str, Any], live: Mapping[str, Any], running: Mapping[str, Any] | None = None
) -> list[str]:
    """Why code alone is not enough: what the target image expects that the live schema is not; [] where it is.

    running: the structure that the running release's image describes, where it has one. A live schema that is not as
             its own image says was changed by hand, and is refused as well.
    """
    found = compare(live, target, ("the live schema", "the target image"))
    if running is not None:
        found += [line for line in compare(live, running, ("the live schema", "the running image")) if line not in found]
    return found
