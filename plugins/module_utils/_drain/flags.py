# SPDX-License-Identifier: GPL-3.0-or-later
"""What the drain flags of an agent have to be. Pure: document in, document out.

What each flag does is upstream's: UserDrainMode and AgentDrainMode keep WorkQueueManager from taking work
(WMCore.Services.ReqMgrAux.isDrainMode); AgentStatusPoller sets AgentDrainMode by DiskUseThreshold
(listDiskUsageOverThreshold); DrainStatusPoller sets and resets SpeedDrainMode and the parts of SpeedDrainConfig.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.agent_config import SPEED_DRAIN_STAGES, Document
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.disks import Disk
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_DEFAULT_THRESHOLD = 85


@dataclass(frozen=True)
class SpeedStage:
    """What is wanted of one part of SpeedDrainConfig; None leaves it. threshold: jobs in the batch system."""

    threshold: int | None = None
    enabled: bool | None = None


@dataclass(frozen=True)
class DiskRule:
    """AgentDrainMode begins at ``high`` % of any disk and ends below ``low`` % of all."""

    high: int
    low: int


@dataclass(frozen=True)
class Wanted:
    """What is wanted. draining: None leaves UserDrainMode; speed: by name of the part; disk: None for no rule."""

    draining: bool | None = None
    speed: Mapping[str, SpeedStage] = field(default_factory=dict)
    disk: DiskRule | None = None

    @property
    def needs_disks(self) -> bool:
        """Whether how full the disks are makes a difference."""
        return self.disk is not None or self.draining is False


def check(wanted: Wanted) -> None:
    """Raises WMAgentError for what makes no sense."""
    if wanted.draining is None and not wanted.speed and wanted.disk is None:
        raise WMAgentError("nothing is asked for; give state, speed_drain, or disk_high and disk_low")
    for name, stage in wanted.speed.items():
        if stage.threshold is not None and stage.threshold < 0:
            raise WMAgentError(f"speed_drain: threshold of {name} is {stage.threshold}; it must be 0 or more")
    if wanted.disk is not None and not 0 < wanted.disk.low < wanted.disk.high <= 100:
        raise WMAgentError(
            f"disk_low is {wanted.disk.low} and disk_high {wanted.disk.high}; they are percent, and low is below high"
        )


def changed_document(document: Document, wanted: Wanted, disks: Sequence[Disk]) -> Document:
    """The document as it has to be; all that no flag is about stays.

    disks: all that were measured; needed where ``wanted.needs_disks``

    Raises WMAgentError where speed drain is to be on while the agent does not drain: upstream would end it at once.
    """
    new = deepcopy(document)
    if wanted.draining is not None:
        new["UserDrainMode"] = wanted.draining
    if wanted.needs_disks:
        _by_disk(new, wanted, disks)
    for name, stage in wanted.speed.items():
        if stage.threshold is not None:
            new["SpeedDrainConfig"][name]["Threshold"] = stage.threshold
    _speed_drain(new, wanted)
    return new


def _by_disk(new: Document, wanted: Wanted, disks: Sequence[Disk]) -> None:
    fullest = max((disk.percent for disk in counted_disks(new, disks)), default=0)
    if wanted.disk is None:
        # The flag may be stale: upstream leaves it alone while UserDrainMode is on.
        new["AgentDrainMode"] = fullest >= _threshold(new)
        return
    if fullest >= wanted.disk.high:
        new["AgentDrainMode"] = True
    elif fullest < wanted.disk.low:
        new["AgentDrainMode"] = False
    # AgentStatusPoller compares with this threshold in each cycle. So that it does not undo what was decided here, the
    # threshold is the one that ends the mode while it is on, and the one that begins it while it is off.
    new["DiskUseThreshold"] = wanted.disk.low if new["AgentDrainMode"] else wanted.disk.high


def counted_disks(document: Document, disks: Sequence[Disk]) -> list[Disk]:
    """Those that the agent's IgnoreDisks does not leave out."""
    ignored = document.get("IgnoreDisks") or []
    return [disk for disk in disks if disk.mounted not in ignored]


def _threshold(document: Document) -> float:
    threshold = document.get("DiskUseThreshold", _DEFAULT_THRESHOLD)
    return threshold if isinstance(threshold, (int, float)) else _DEFAULT_THRESHOLD


def _speed_drain(new: Document, wanted: Wanted) -> None:
    stages = new["SpeedDrainConfig"]
    on = [name for name, stage in wanted.speed.items() if stage.enabled]
    if not (new["UserDrainMode"] or new["AgentDrainMode"]):
        if on:
            raise WMAgentError(
                f"speed_drain: {', '.join(on)} cannot be on while the agent does not drain; give state: draining too"
            )
        for name in SPEED_DRAIN_STAGES:
            stages[name]["Enabled"] = False
        new["SpeedDrainMode"] = False
        return
    for name, stage in wanted.speed.items():
        if stage.enabled is not None:
            stages[name]["Enabled"] = stage.enabled
    if any(stage.enabled is not None for stage in wanted.speed.values()):
        new["SpeedDrainMode"] = any(stages[name]["Enabled"] for name in SPEED_DRAIN_STAGES)


_ABSENT = object()


def merge(base: Mapping[str, Any], theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Document:
    """Ours, with what another changed since ``base`` and we did not; where both did, ours stays."""
    merged: Document = dict(ours)
    for key in {**base, **theirs}:
        was, is_theirs, is_ours = (part.get(key, _ABSENT) for part in (base, theirs, ours))
        if is_theirs == was:
            continue
        if all(isinstance(part, Mapping) for part in (was, is_theirs, is_ours)):
            merged[key] = merge(base[key], theirs[key], ours[key])
        elif is_ours == was:
            if is_theirs is _ABSENT:
                del merged[key]
            else:
                merged[key] = is_theirs
    return merged


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[dict[str, Any]]:
    """Each field that differs, as ``{"field": "SpeedDrainConfig.NoJobRetries.Enabled", "before": …, "after": …}``."""
    found: list[dict[str, Any]] = []
    for key in sorted({*before, *after}):
        one, other = before.get(key), after.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += differences(one, other, f"{prefix}{key}.")
        elif one != other:
            found.append({"field": f"{prefix}{key}", "before": one, "after": other})
    return found
