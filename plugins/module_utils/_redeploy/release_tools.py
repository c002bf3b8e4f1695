# SPDX-License-Identifier: GPL-3.0-or-later
"""A release's own programs, run by its own interpreter, with what they leave out put right."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import mask, secret_values
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.describe import MODULES
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy import couchapp_pusher, schema_creator


def create_schema(
    release: Release,
    secrets: Mapping[str, str],
    environment: Mapping[str, str],
    timeout: float,
    modules: Sequence[str] = MODULES,
) -> None:
    """Create a release's tables in the database that its config.py names, which has to be empty.

    timeout: seconds. Raises WMAgentError where any statement failed, the last ones included.
    """
    request = {"program": _program(release, "wmcore-db-init"), "config": str(release.config), "modules": list(modules)}
    answer = _run(schema_creator, release, request, secrets, environment, timeout)
    if answer["errors"] or answer["ended"]:
        first = answer["errors"][0] if answer["errors"] else f"it ended with {answer['ended']}"
        more = f" (and {len(answer['errors']) - 1} more)" if len(answer["errors"]) > 1 else ""
        raise WMAgentError(f"wmcore-db-init of {release.name} failed: {first}{more}")


def couchapps(
    release: Release,
    secrets: Mapping[str, str],
    environment: Mapping[str, str],
    timeout: float,
    *,
    only_list: bool,
) -> dict[str, list[str]]:
    """CouchDB databases that a release wants on the agent's CouchDB, with the couchapps of each.

    only_list: push nothing. timeout: seconds. Raises WMAgentError, also where it wants none at all.
    """
    couch = settings_from_secrets(secrets)
    request = {
        "program": _program(release, "wmagent-couchapp-init"),
        "prefix": str(release.prefix),
        "host": couch.host,
        "port": couch.port,
        "list": only_list,
    }
    answer = _run(couchapp_pusher, release, request, secrets, environment, timeout)
    wanted: dict[str, list[str]] = {}
    for database, app in answer["apps"]:
        wanted.setdefault(str(database), []).append(str(app))
    if not wanted:
        raise WMAgentError(
            f"config.py of {release.name} names no database of {couch.where}; "
            "are COUCH_HOST and COUCH_PORT those that it was made with?"
        )
    return wanted


def resource_control(
    release: Release,
    secrets: Mapping[str, str],
    environment: Mapping[str, str],
    timeout: float,
    arguments: Sequence[str],
) -> None:
    """Run a release's ``wmagent-resource-control`` on the database that its config.py names. Raises WMAgentError.

    timeout: seconds
    """
    program = "wmagent-resource-control"
    _execute([_program(release, program), *arguments], program, release, secrets, environment, timeout)


def _program(release: Release, name: str) -> str:
    file = release.prefix / "bin" / name
    if not file.is_file():
        raise WMAgentError(f"{file} does not exist; is {release.name} a complete wmagent?")
    return str(file)


def _run(
    script: Any,
    release: Release,
    request: Mapping[str, Any],
    secrets: Mapping[str, str],
    environment: Mapping[str, str],
    timeout: float,
) -> dict[str, Any]:
    # Ansible may run this from a zip, where a module has no file of its own.
    source = script.__loader__.get_source(script.__name__)
    with tempfile.TemporaryDirectory(prefix="wmagent-redeploy-") as folder:
        output = Path(folder) / "answer.json"
        told = json.dumps({**request, "output": str(output)})
        name = Path(request["program"]).name
        said = _execute(["-c", source], name, release, secrets, environment, timeout, told)
        if not output.is_file():
            raise WMAgentError(f"{name} of {release.name} failed: {said}")
        return dict(json.loads(mask(output.read_text(encoding="utf-8"), secret_values(secrets))))


def _execute(
    arguments: Sequence[str],
    name: str,
    release: Release,
    secrets: Mapping[str, str],
    environment: Mapping[str, str],
    timeout: float,
    told: str = "",
) -> str:
    """Run a release's interpreter and return the last line that it said. told: on standard input.

    Raises WMAgentError with that line where it fails.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    own = {"WMCORE_ROOT": str(release.prefix), "WMAGENT_CONFIG": str(release.config), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        with tempfile.TemporaryDirectory(prefix="wmagent-redeploy-") as folder:
            done = subprocess.run(
                [str(release.python), "-sP", *arguments],
                input=told,
                env={**clean, **environment, **own},
                capture_output=True,
                text=True,
                cwd=folder,
                timeout=timeout,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise WMAgentError(f"{name} of {release.name} did not finish in {timeout:g} s; allow more") from None
    except OSError as error:
        raise WMAgentError(f"{release.python} cannot be run ({error.strerror}); stage the image again") from None
    lines = mask(done.stderr.strip() or done.stdout.strip(), secret_values(secrets)).splitlines()
    said = lines[-1][:400] if lines else "no reason given"
    if done.returncode != 0:
        raise WMAgentError(f"{name} of {release.name} failed: {said}")
    return said
