# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a release's config.py from its own template, the agent's secrets and inventory overrides."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import config_renderer
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import mask, secret_values
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

# Option of wmagent-mod-config -> key of WMAgent.secrets (WMCore bin/wmagent-mod-config, option list).
_OPTION_OF_SECRET = {
    "reqmgr2_url": "REQMGR2_URL",
    "wmstats_url": "WMSTATS_URL",
    "global_workqueue_url": "GLOBAL_WORKQUEUE_URL",
    "workload_summary_url": "WORKLOAD_SUMMARY_URL",
    "acdc_url": "ACDC_URL",
    "dbs3_url": "DBS3_URL",
    "dbs3_reader_url": "DBS3_READER_URL",
    "dqm_url": "DQM_URL",
    "requestcouch_url": "REQUESTCOUCH_URL",
    "central_logdb_url": "CENTRAL_LOGDB_URL",
    "wmarchive_url": "WMARCHIVE_URL",
    "mspileup_url": "MSPILEUP_URL",
    "rucio_account": "RUCIO_ACCOUNT",
    "rucio_host": "RUCIO_HOST",
    "rucio_auth": "RUCIO_AUTH",
    "amq_credentials": "AMQ_CREDENTIALS",
    "grafana_token": "GRAFANA_TOKEN",
}


def database_url(secrets: Mapping[str, str], database: str) -> str:
    """``mysql://user:pass@host:port/database`` or ``oracle://user:pass@tns``, as config.py's CoreDatabase wants it."""
    if secrets.get("ORACLE_USER"):
        return f"oracle://{secrets['ORACLE_USER']}:{secrets['ORACLE_PASS']}@{secrets['ORACLE_TNS']}"
    user = secrets.get("MDB_USER") or secrets["MYSQL_USER"]
    password = secrets.get("MDB_PASS") or secrets["MYSQL_PASS"]
    host = secrets.get("MDB_HOST") or "127.0.0.1"
    if secrets.get("MDB_PORT") and ":" not in host:
        host = f"{host}:{secrets['MDB_PORT']}"
    return f"mysql://{user}:{password}@{host}/{database}"


def couch_url(secrets: Mapping[str, str]) -> str:
    """CouchDB's address with credentials, as config.py wants it."""
    scheme = "https" if secrets.get("COUCH_PORT") == "6984" else "http"
    return f"{scheme}://{secrets['COUCH_USER']}:{secrets['COUCH_PASS']}@{secrets['COUCH_HOST']}:{secrets['COUCH_PORT']}"


def mod_config_options(secrets: Mapping[str, str], database: str, work_dir: Path) -> dict[str, str]:
    """Options for ``wmagent-mod-config``, without the leading dashes."""
    options = {option: secrets[key] for option, key in _OPTION_OF_SECRET.items() if secrets.get(key)}
    options["grafana_token"] = options.get("grafana_token", "")
    options["coredb_url"] = database_url(secrets, database)
    options["couch_url"] = couch_url(secrets)
    options["working_dir"] = str(work_dir)
    return options


def render_config(
    *,
    prefix: Path,
    final_prefix: Path | None = None,
    python: Path,
    secrets: Mapping[str, str],
    database: str,
    work_dir: Path,
    overrides: Mapping[str, Any],
    environment: Mapping[str, str],
    components: Sequence[str] = (),
    timeout: float = 60,
) -> str:
    """Text of config.py for the release under ``prefix``, made by that release's own ``wmagent-mod-config``.

    final_prefix: where the release will stand, if it is still being installed under ``prefix``.
    overrides: dotted names of config.py's sections, e.g. ``{"JobSubmitter.maxJobsPerPoll": 500}``.
    components: the only ones that config.py lists; all of the template's where empty
    timeout:   seconds.

    The secrets travel through a pipe, never on a command line. Raises WMAgentError.
    """
    with tempfile.TemporaryDirectory(prefix="wmagent-config-") as folder:
        output = Path(folder) / "config.py"
        request = {
            "program": str(prefix / "bin" / "wmagent-mod-config"),
            "input": str(prefix / "etc" / "WMAgentConfig.py"),
            "output": str(output),
            "options": mod_config_options(secrets, database, work_dir),
            "team": secrets["TEAMNAME"],
            "agent_number": int(secrets["AGENT_NUMBER"]) if secrets["AGENT_NUMBER"].isdigit() else 0,
            "submit_script": str((final_prefix or prefix) / "etc" / "submit_py3.sh"),
            "overrides": dict(overrides),
            "components": list(components),
        }
        answer = _run(
            python,
            request,
            {**environment, "WMCORE_ROOT": str(prefix), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
            timeout,
            secrets,
        )
        if answer.returncode != 0 or not output.is_file():
            lines = mask(answer.stderr.strip(), secret_values(secrets)).splitlines()
            raise WMAgentError(
                f"config.py of {prefix.name} cannot be made: {lines[-1] if lines else 'no reason given'}"
            )
        return output.read_text(encoding="utf-8")


# WMCore's Configuration writes sets in hash order: a fixed seed makes the same input give the same config.py.
def _run(
    python: Path, request: dict[str, Any], environment: Mapping[str, str], timeout: float, secrets: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    source = Path(config_renderer.__file__)
    # Ansible may run this from a zip, where a module has no file of its own: hand the source over by its loader.
    code = source.read_text(encoding="utf-8") if source.is_file() else _source_from_loader()
    try:
        return subprocess.run(
            [str(python), "-sP", "-c", code],
            input=json.dumps(request),
            env={**clean, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WMAgentError(
            f"{request['program']} did not finish in {timeout:g} s; try again or look at the host's load"
        ) from None
    except OSError as error:
        raise WMAgentError(f"{python} cannot be run ({error.strerror}); stage this release again") from None


def _source_from_loader() -> str:
    loader = config_renderer.__loader__
    source = loader.get_source(config_renderer.__name__) if loader and hasattr(loader, "get_source") else None
    if source is None:
        raise WMAgentError("the config renderer's source cannot be read; install the collection again")
    return source
