# SPDX-License-Identifier: GPL-3.0-or-later
"""When nothing may be wiped, whatever the plan says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import Blocker
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.waivers import apply_waivers, waivers_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def refuse_undrained(blockers: Iterable[Blocker], waivers: Sequence[Mapping[str, Any]], now: float) -> None:
    """Raise WMAgentError where a blocker is left that no waiver covers. now: UNIX time, seconds. Pure."""
    left, _waived = apply_waivers(blockers, waivers_of(waivers), now)
    if left:
        told = ", ".join(str(blocker) for blocker in left[:4])
        why = left[0].text
        raise WMAgentError(
            f"this agent is not drained: {told}{f' ({why})' if why else ''}; nothing was wiped, drain it first"
        )


def refuse_changed_file(saved: Mapping[str, Any]) -> None:
    """Raise WMAgentError where a saved file is gone or of another size."""
    file = Path(str(saved["file"]))
    if not file.is_file() or file.stat().st_size != saved["size"]:
        raise WMAgentError(f"{file} is not there as it was saved; nothing was wiped, run again from the start")
