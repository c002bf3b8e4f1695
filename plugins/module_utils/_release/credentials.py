# SPDX-License-Identifier: GPL-3.0-or-later
"""Who we are for an OCI registry: from the environment or from docker's ``config.json``; never from a URL."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

USER_VARIABLE = "WMAGENT_REGISTRY_USER"
PASSWORD_VARIABLE = "WMAGENT_REGISTRY_PASSWORD"  # noqa: S105 - the name of a variable
TOKEN_VARIABLE = "WMAGENT_REGISTRY_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True)
class Credentials:
    """``user`` and ``secret`` for basic authentication, or a ready ``token``; ``origin`` says where they were found."""

    user: str = ""
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    origin: str = ""

    def basic(self) -> str | None:
        """The value of an Authorization header, None for an anonymous client."""
        if self.token:
            return f"Bearer {self.token}"
        if not self.user:
            return None
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode("ascii")

    def advice(self) -> str:
        """What to do when a registry says no."""
        if self.origin:
            return f"the credentials are from {self.origin}: check them"
        return (
            f"set {USER_VARIABLE} and {PASSWORD_VARIABLE}, or {TOKEN_VARIABLE}, or log in with docker, podman or skopeo"
        )


def find_credentials(host: str, *, secure: bool) -> Credentials:
    """Credentials for ``host[:port]``.

    In this order: ``WMAGENT_REGISTRY_TOKEN``; ``WMAGENT_REGISTRY_USER`` and ``WMAGENT_REGISTRY_PASSWORD``;
    ``auths`` in ``$DOCKER_CONFIG/config.json`` (``~/.docker/config.json``). Anonymous where none of them says anything.

    Raises WMAgentError where there are some but the way there is not ``secure``, so they would travel in the clear.
    """
    found = _from_environment() or _from_docker(host) or Credentials()
    if found.origin and not secure:
        raise WMAgentError(
            f"credentials for {host} (from {found.origin}) would travel in the clear; use an https:// URL"
        )
    return found


def _from_environment() -> Credentials | None:
    if token := os.environ.get(TOKEN_VARIABLE):
        return Credentials(token=token, origin=TOKEN_VARIABLE)
    if user := os.environ.get(USER_VARIABLE):
        return Credentials(
            user, os.environ.get(PASSWORD_VARIABLE, ""), origin=f"{USER_VARIABLE} and {PASSWORD_VARIABLE}"
        )
    return None


def _from_docker(host: str) -> Credentials | None:
    file = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        entries = json.loads(file.read_bytes()).get("auths", {})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise WMAgentError(f"{file} cannot be read ({error}); repair it or set {USER_VARIABLE}") from None
    for key in (host, f"https://{host}", f"http://{host}", f"https://{host}/v1/", f"https://{host}/v2/"):
        entry = entries.get(key)
        if not isinstance(entry, dict):
            continue
        if token := entry.get("registrytoken"):
            return Credentials(token=token, origin=str(file))
        try:
            user, colon, secret = base64.b64decode(entry.get("auth", ""), validate=True).decode().partition(":")
        except ValueError:
            raise WMAgentError(f"{file}: the entry of {host} cannot be decoded; log in again") from None
        if user and colon:
            return Credentials(user, secret, origin=str(file))
    return None
