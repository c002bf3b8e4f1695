# SPDX-License-Identifier: GPL-3.0-or-later
"""Read ``WMAgent.secrets``: the one place where an agent keeps its passwords."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_LINE = re.compile(r"^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
_TEMPLATE_WORDS = re.compile(r"update[-_]?me|fix[-_]?me", re.IGNORECASE)
_SECRET_KEY = re.compile(r"PASS|TOKEN|CREDENTIALS|SECRET|KEY$")
_MASK = "********"

REQUIRED = (
    "COUCH_USER",
    "COUCH_PASS",
    "COUCH_HOST",
    "COUCH_PORT",
    "REQMGR2_URL",
    "WMSTATS_URL",
    "GLOBAL_WORKQUEUE_URL",
    "WORKLOAD_SUMMARY_URL",
    "ACDC_URL",
    "DBS3_URL",
    "DBS3_READER_URL",
    "DQM_URL",
    "REQUESTCOUCH_URL",
    "CENTRAL_LOGDB_URL",
    "WMARCHIVE_URL",
    "RUCIO_ACCOUNT",
    "RUCIO_HOST",
    "RUCIO_AUTH",
    "TEAMNAME",
    "AGENT_NUMBER",
)
"""Keys without which ``wmagent-mod-config`` makes no working config.py (WMCore bin/wmagent-mod-config)."""


def parse_secrets(text: str) -> dict[str, str]:
    """Parse ``KEY=value`` lines; quotes around a value and ``#`` comment lines are dropped.

    Bash arrays (``RESOURCE_OPP1=(…)``) keep their text. Lines of any other shape are passed over, as a shell's
    ``source`` would not make a variable of them either.
    """
    secrets: dict[str, str] = {}
    for raw in text.splitlines():
        match = _LINE.match(raw.strip())
        if not match:
            continue
        value = match.group(2).strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        secrets[match.group(1)] = value
    return secrets


def _database_keys(secrets: Mapping[str, str]) -> tuple[str, ...]:
    if any(key.startswith("ORACLE_") for key in secrets):
        return ("ORACLE_USER", "ORACLE_PASS", "ORACLE_TNS")
    if "MYSQL_USER" in secrets and "MDB_USER" not in secrets:
        return ("MYSQL_USER", "MYSQL_PASS")
    return ("MDB_USER", "MDB_PASS")


def problems_in_secrets(secrets: Mapping[str, str]) -> list[str]:
    """What keeps these secrets from being used: missing keys, blank or template values. Names only, never values."""
    problems = []
    required = (*_database_keys(secrets), *REQUIRED)
    if missing := [key for key in required if not secrets.get(key)]:
        problems.append(f"missing or blank: {', '.join(missing)}")
    if template := sorted(key for key, value in secrets.items() if _TEMPLATE_WORDS.search(value)):
        problems.append(f"still as in the template: {', '.join(template)}")
    return problems


def read_secrets(path: Path) -> dict[str, str]:
    """Read and check the secrets file.

    Raises WMAgentError where it is missing, unreadable, incomplete or a blank template.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise WMAgentError(f"secrets file {path} does not exist; copy it there or set wmagent_secrets") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise WMAgentError(f"secrets file {path} cannot be read ({reason}); fix its owner and mode") from None
    secrets = parse_secrets(text)
    if not secrets:
        raise WMAgentError(f"secrets file {path} is blank; fill it in")
    if problems := problems_in_secrets(secrets):
        raise WMAgentError(f"secrets file {path}: {'; '.join(problems)}; fill it in")
    return secrets


def secret_values(secrets: Mapping[str, str]) -> list[str]:
    """The values that must never be seen, longest first so that masking one does not uncover another."""
    # AMQ_CREDENTIALS reads user@@@password@@@topic; config.py holds the parts.
    parts = (part for key, value in secrets.items() if _SECRET_KEY.search(key) for part in (value, *value.split("@@@")))
    values = {part for part in parts if len(part) >= 3}
    return sorted(values, key=len, reverse=True)


def mask(text: str, values: Iterable[str]) -> str:
    """``text`` with every one of ``values`` replaced by asterisks."""
    for value in values:
        text = text.replace(value, _MASK)
    return text
