# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that tell a module how to reach an agent's database (doc fragment ``dmwm.wmagent.database.login``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    MARIADB,
    ORACLE,
    DatabaseSettings,
    settings_from_secrets,
)

LOGIN_OPTIONS: dict[str, dict[str, Any]] = {
    "secrets": {"type": "path", "no_log": False},
    "database_name": {"type": "str", "default": "wmagent"},
    "timeout": {"type": "float", "default": 30},
    "login_user": {"type": "str"},
    "login_password": {"type": "str", "no_log": True},
    "login_host": {"type": "str", "default": "127.0.0.1"},
    "login_port": {"type": "int", "default": 3306},
    "login_unix_socket": {"type": "path"},
    "login_dsn": {"type": "str"},
    "ca_cert": {"type": "path"},
}

LOGIN_RULES: dict[str, Any] = {
    "required_one_of": [("secrets", "login_user")],
    "mutually_exclusive": [("secrets", "login_user")],
    "required_together": [("login_user", "login_password")],
}


def settings_from_options(params: Mapping[str, Any]) -> DatabaseSettings:
    """Database settings out of a module's options. Raises WMAgentError where the secrets file is not complete."""
    if params["secrets"]:
        return settings_from_secrets(read_secrets(Path(params["secrets"])), params["database_name"])
    if params["login_dsn"]:
        return DatabaseSettings(ORACLE, params["login_user"], params["login_password"], params["login_dsn"])
    return DatabaseSettings(
        MARIADB,
        params["login_user"],
        params["login_password"],
        params["database_name"],
        params["login_host"],
        params["login_port"],
        params["login_unix_socket"] or "",
        params["ca_cert"] or "",
    )
