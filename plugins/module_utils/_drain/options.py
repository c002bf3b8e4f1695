# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the drain modules (doc fragment ``dmwm.wmagent.drain``), and what is reached by them."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ansible.module_utils.basic import env_fallback
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.central import CentralClient, Certificates
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

CENTRAL_OPTIONS: dict[str, dict[str, Any]] = {
    "secrets": {"type": "path", "required": True, "no_log": False},
    "agent": {"type": "str"},
    "timeout": {"type": "float", "default": 30},
    "host_cert": {"type": "path", "fallback": (env_fallback, ["X509_HOST_CERT"])},
    "host_key": {"type": "path", "no_log": False, "fallback": (env_fallback, ["X509_HOST_KEY"])},
    "ca_path": {"type": "path", "fallback": (env_fallback, ["X509_CERT_DIR"])},
}


def checked_secrets(params: Mapping[str, Any]) -> dict[str, str]:
    """The agent's secrets. Raises WMAgentError where they are not complete, or the timeout is none."""
    if not params["timeout"] > 0:
        raise WMAgentError(f"timeout is {params['timeout']:g} s; it must be more than 0")
    return read_secrets(Path(params["secrets"]))


def agent_name(params: Mapping[str, Any]) -> str:
    """The agent's full host name. Raises WMAgentError where it is not a full one."""
    name = str(params["agent"] or socket.getfqdn()).strip()
    if "." not in name or any(character.isspace() or character in "/?#" for character in name):
        raise WMAgentError(f"agent is {name!r}; give the full host name by which ReqMgr2 knows the agent")
    return name


def reqmgr(params: Mapping[str, Any], secrets: Mapping[str, str]) -> CentralClient:
    """ReqMgr2. Raises WMAgentError for a URL or certificates that cannot be used."""
    return CentralClient(secrets["REQMGR2_URL"], "ReqMgr2", params["timeout"], _certificates(params))


def global_workqueue(params: Mapping[str, Any], secrets: Mapping[str, str]) -> CentralClient:
    """The central workqueue's database. Raises WMAgentError for a URL or certificates that cannot be used."""
    url = secrets["GLOBAL_WORKQUEUE_URL"]
    return CentralClient(url, "the central workqueue", params["timeout"], _certificates(params))


def auxiliary(params: Mapping[str, Any], secrets: Mapping[str, str]) -> CentralClient:
    """ReqMgr2's database with the agents' configurations. Raises WMAgentError as the others do."""
    url = params["auxiliary_url"] or _beside(secrets["REQUESTCOUCH_URL"], "reqmgr_auxiliary")
    return CentralClient(url, "ReqMgr2's CouchDB", params["timeout"], _certificates(params))


def _beside(url: str, database: str) -> str:
    """The URL of another database of the same server."""
    parts = urlsplit(url)
    folder = parts.path.rstrip("/").rpartition("/")[0]
    return urlunsplit((parts.scheme, parts.netloc, f"{folder}/{database}", "", ""))


def _certificates(params: Mapping[str, Any]) -> Certificates:
    return Certificates(params["host_cert"] or "", params["host_key"] or "", params["ca_path"] or "")
