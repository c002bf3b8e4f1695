# SPDX-License-Identifier: GPL-3.0-or-later
"""``python finish.py SECRETS DATABASE``: what the agent has begun is done, as its components would have left it."""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / "collections"), str(CHECKOUT / "roles" / "lab" / "files")]

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (  # noqa: E402
    connect,
    settings_from_secrets,
)

if __name__ == "__main__":
    with connect(settings_from_secrets(read_secrets(Path(sys.argv[1])), sys.argv[2]), read_only=False) as session:
        session.execute("UPDATE wmbs_job SET state = (SELECT id FROM wmbs_job_state WHERE name = 'cleanout')")
        session.execute("UPDATE wmbs_subscription SET finished = 1")
        session.execute("UPDATE dbsbuffer_workflow SET completed = 1")
