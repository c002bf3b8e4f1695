# SPDX-License-Identifier: GPL-3.0-or-later
"""How a preflight looks into a real agent's databases, processes and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.components import collect_evidence, judge
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.preflight import Probes
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.server import read_databases, settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._database import connection as database
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.guard import refusals
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema_reader import read_structure
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.adopted_drift import environment_drift
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import ImageDescription
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.drift import release_drift
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
