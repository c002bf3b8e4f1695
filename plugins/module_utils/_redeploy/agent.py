# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent that is redeployed: its options, its release, its databases, and that nothing of it runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import daemons
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.adopt import find_deployment
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.stopping import owner_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.switch import find_release
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import client as couch
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import list_databases, path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    DatabaseSettings,
    connect,
    settings_from_secrets,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.release_tools import couchapps
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import read_image_description

OPTIONS: dict[str, dict[str, Any]] = {
    "wmagent_root": {"type": "path", "required": True},
    "secrets": {"type": "path", "required": True, "no_log": False},
    "database_name": {"type": "str", "default": "wmagent"},
    "environment": {"type": "dict", "default": {}},
    "timeout": {"type": "float", "default": 3600},
}

WIPE_OPTIONS: dict[str, dict[str, Any]] = {
    "confirm": {"type": "str", "default": ""},
    "waivers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            **{key: {"type": "str", "required": True} for key in ("blocker", "reason", "person", "expires")},
            "at_most": {"type": "int"},
        },
    },
}

_SHORT = 30.0
"""Seconds for what should not take long."""


@dataclass(frozen=True)
class Agent:
    """timeout: seconds for what reads or writes all of a database."""

    layout: AgentLayout
    secrets: Mapping[str, str]
    settings: DatabaseSettings
    environment: Mapping[str, str]
    timeout: float

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Agent:
        """The agent that a module's options name. Raises WMAgentError."""
        if not params["timeout"] > 0:
            raise WMAgentError(f"timeout is {params['timeout']:g} s; it must be more than 0")
        secrets = read_secrets(Path(params["secrets"]))
        return cls(
            AgentLayout(Path(params["wmagent_root"])),
            secrets,
            settings_from_secrets(secrets, params["database_name"]),
            {name: str(value) for name, value in params["environment"].items()},
            params["timeout"],
        )

    def session(self, *, read_only: bool = True) -> Connection:
        """A session with its database whose statements may take long."""
        return connect(self.settings, _SHORT, read_only=read_only, statement_timeout=self.timeout)

    def couchdb(self) -> couch.CouchClient:
        """Its CouchDB."""
        return couch.CouchClient(couch.settings_from_secrets(self.secrets), min(self.timeout, 300.0))

    def current(self, prefix: str | None = None, config: str | None = None) -> tuple[AgentLayout, Release]:
        """The release that it runs, one deployed by hand included, and the layout that fits it.

        prefix, config: of a deployment by hand, where it is not found by itself
        """
        if self.layout.is_adopted():
            return self.layout, self.layout.current_release()
        deployment = find_deployment(
            self.layout.root, Path(prefix) if prefix else None, Path(config) if config else None
        )
        layout = AgentLayout(self.layout.root, by_hand_work=deployment.work_dir)
        return layout, deployment.release(layout)

    def release(self, name: str) -> Release:
        """A staged release."""
        return find_release(self.layout, name)

    def known_tables(self, *names: str) -> set[str]:
        """Tables that the images of these releases describe. Raises WMAgentError where none describes any."""
        known: set[str] = set()
        for name in names:
            description = read_image_description(self.release(name))
            known |= set((description.schema.get(self.settings.dialect) if description else None) or {})
        if not known:
            raise WMAgentError(f"the image of {names[-1]} describes no {self.settings.dialect} schema; build it again")
        return known

    def refuse_running(self) -> None:
        """Raise WMAgentError where a component runs."""
        layout, release = self.current()
        if running := sorted(daemons.component_processes(owner_of(layout, release))):
            raise WMAgentError(f"components run ({', '.join(running)}); stop them first")

    def couchdb_databases(self, client: couch.CouchClient, release: Release) -> tuple[list[str], list[str]]:
        """Databases of its CouchDB that are there: those that a release makes, and all others."""
        wanted = couchapps(release, self.secrets, self.environment, min(self.timeout, 300.0), only_list=True)
        there = list_databases(client)
        return [name for name in there if name in wanted], [name for name in there if name not in wanted]


def update_seqs(client: couch.CouchClient, names: list[str]) -> dict[str, str]:
    """Database -> where it stands. Raises WMAgentError."""
    return {name: str(client.get(path_of(name))["update_seq"]) for name in names}


def demand_room(folder: Path, needed: int) -> None:
    """Raise WMAgentError where a disk has not that many bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise WMAgentError(
            f"{folder} has {free / 1e9:.1f} GB left, and saving may take {needed / 1e9:.1f} GB; "
            "free some, or set wmagent_redeploy_saves to another disk"
        )
