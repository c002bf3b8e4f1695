# SPDX-License-Identifier: GPL-3.0-or-later
"""A complete ``WMAgent.secrets`` for one database."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import REQUIRED
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings


def write_secrets(path: Path, settings: DatabaseSettings, couch_port: int = 5984) -> Path:
    """Write the file; the CouchDB it names is on 127.0.0.1, its password ``couch-word``."""
    values = dict.fromkeys(REQUIRED, "something") | {
        "AGENT_NUMBER": "0",
        "MDB_USER": settings.user,
        "MDB_PASS": settings.password,
        "MDB_HOST": f"{settings.host}:{settings.port}",
        "COUCH_USER": "u",
        "COUCH_PASS": "couch-word",
        "COUCH_HOST": "127.0.0.1",
        "COUCH_PORT": str(couch_port),
    }
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    path.chmod(0o600)
    return path
