# SPDX-License-Identifier: GPL-3.0-or-later
"""Lengths of time as people write them."""

from __future__ import annotations

import re

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")


def seconds_of(text: str, what: str) -> float:
    """Seconds of ``90``, ``90s``, ``15m``, ``12h``, ``30d`` or ``2w``.

    what: name of the option, for the message. Raises WMAgentError for anything else, negative lengths included.
    """
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise WMAgentError(f"{what} is {text!r}; write a number with s, m, h, d or w, such as 30d")
    return float(match[1]) * _SECONDS[match[2]]
