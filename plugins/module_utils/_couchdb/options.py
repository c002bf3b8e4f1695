# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that work on an agent's CouchDB (doc fragment ``dmwm.wmagent.couchdb``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import list_databases
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits

SERVER_OPTIONS: dict[str, dict[str, Any]] = {
    "secrets": {"type": "path", "required": True, "no_log": False},
    "timeout": {"type": "float", "default": 30},
}

DATABASES_OPTION: dict[str, dict[str, Any]] = {
    "databases": {"type": "list", "elements": "str", "default": []},
}

LIMIT_OPTIONS: dict[str, dict[str, Any]] = {
    "max_runtime": {"type": "str"},
    "stop_file": {"type": "path"},
}


def client_from_options(params: Mapping[str, Any]) -> CouchClient:
    """A client for the server that ``secrets`` names. Raises WMAgentError where the file is not complete."""
    if not params["timeout"] > 0:
        raise WMAgentError(f"timeout is {params['timeout']:g} s; it must be more than 0")
    return CouchClient(settings_from_secrets(read_secrets(Path(params["secrets"]))), params["timeout"])


def check_at_least(params: Mapping[str, Any], **least: int) -> None:
    """Raise WMAgentError where one of these options is smaller."""
    for name, smallest in least.items():
        if params[name] < smallest:
            raise WMAgentError(f"{name} is {params[name]}; it must be {smallest} or more")


def names_from_options(client: CouchClient, params: Mapping[str, Any]) -> list[str]:
    """The databases asked for, all but CouchDB's own where none are. Raises WMAgentError where one does not exist."""
    there = list_databases(client)
    for name in params["databases"]:
        if name not in there:
            raise WMAgentError(f"{client.settings.where} has no database {name}; check the option databases")
    return list(dict.fromkeys(params["databases"])) or there


def limits_from_options(params: Mapping[str, Any]) -> Limits:
    """When to end; the time counts from here on. Raises WMAgentError for a duration that is none."""
    return Limits(
        seconds_of(params["max_runtime"], "max_runtime") if params["max_runtime"] else None,
        None,
        Path(params["stop_file"]) if params["stop_file"] else None,
    )
