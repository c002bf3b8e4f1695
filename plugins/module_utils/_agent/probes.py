# SPDX-License-Identifier: GPL-3.0-or-later
"""How a preflight looks into a real agent's databases, processes and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.components import collect_evidence, wait_for_verdict
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.preflight import Probes
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.server import read_databases
from ansible_collections.dmwm.wmagent.plugins.module_utils._database import connection as database
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.guard import differences
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema_reader import read_structure
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import ImageDescription
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.inventory import find_drift
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import read_image_description


def real_probes() -> Probes:
    """Looks at the agent on this host."""
    return Probes(
        structure=_structure,
        guard=_guard,
        couch_databases=lambda secrets: len(read_databases(settings_from_secrets(secrets))),
        verdict=_verdict,
        drift=_drift,
        image_of=read_image_description,
    )


def _structure(secrets: Mapping[str, str], name: str) -> tuple[str, Mapping[str, Any]]:
    settings = database.settings_from_secrets(secrets, name)
    with database.connect(settings) as session:
        return settings.dialect, read_structure(session)


def _guard(
    target: ImageDescription, running: ImageDescription | None, dialect: str, live: Mapping[str, Any]
) -> list[str]:
    wanted = target.schema.get(dialect)
    if wanted is None:
        reason = target.schema_unknown.get(dialect, "it was built without")
        raise WMAgentError(f"image {target.name} has no {dialect} schema to compare with ({reason}); build it again")
    return differences(target=wanted, running=running.schema.get(dialect) if running else None, live=live)


def _verdict(
    layout: AgentLayout, release: Release, secrets: Mapping[str, str], name: str, components: tuple[str, ...]
) -> tuple[str, list[str]]:
    settings = database.settings_from_secrets(secrets, name)
    said = wait_for_verdict(
        lambda: collect_evidence(layout, release, settings, components), healthy_for=0, healthy_within=0
    ).as_dict()
    return said["verdict"], said["reasons"]


def _drift(release: Release) -> list[str]:
    return [difference.path for difference in find_drift(release)]
