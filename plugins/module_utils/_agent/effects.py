# SPDX-License-Identifier: GPL-3.0-or-later
"""What a switch does to a real agent: its processes, its link and its databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.components import prepare_start, stop_components
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.heartbeats import heartbeat_reader
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.records import AgentRecords
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.starting import FAILED, NOT_STARTED, PreparedStart
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.switch import Effects
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import switch_current


@dataclass(frozen=True)
class Options:
    """How to stop and start. Times in seconds."""

    secrets: Mapping[str, str] = field(repr=False)
    database_name: str
    components: tuple[str, ...]
    environment: Mapping[str, str]
    stop_timeout: float
    graceful_timeout: float
    start_timeout: float
    settle: float
    require_records: bool
    back: bool = False


@dataclass(frozen=True)
class _Prepared:
    """A prepared start, in the plain data that a switch deals in."""

    start: PreparedStart
    settle: float

    def go(self) -> list[dict[str, Any]]:
        """Start the components."""
        bad = (FAILED, NOT_STARTED)
        return [{**one.as_dict(), "ok": one.how not in bad} for one in self.start.go(self.settle)]

    @property
    def up_at(self) -> float | None:
        """When the last component was up with its worker threads."""
        return self.start.up_at

    def abandon(self) -> None:
        """End the waiting interpreter."""
        self.start.abandon()


def real_effects(layout: AgentLayout, options: Options) -> Effects:
    """Effects on the agent at ``layout``."""
    settings = settings_from_secrets(options.secrets, options.database_name)
    graceful = heartbeat_reader(settings) if options.graceful_timeout else None

    def prepare(release: Release) -> _Prepared:
        start = prepare_start(release, layout, options.components, options.environment, options.start_timeout)
        return _Prepared(start, options.settle)

    def stop(releases: Sequence[Release]) -> list[dict[str, Any]]:
        stopped = stop_components(
            layout,
            releases[0],
            options.components,
            timeout=options.stop_timeout,
            graceful_timeout=options.graceful_timeout,
            heartbeats=graceful,
        )
        return [one.as_dict() for one in stopped if one.changed]

    return Effects(
        prepare=prepare,
        stop=stop,
        link=lambda name: switch_current(layout, name),
        records=AgentRecords(settings, options.secrets),
        require_records=options.require_records,
        back=options.back,
    )
