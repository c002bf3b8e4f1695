# SPDX-License-Identifier: GPL-3.0-or-later
"""``python finish_work.py AGENT NAME SECRETS DATABASE``: what the agent has begun is done and archived."""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "collections"), str(CHECKOUT / "roles" / "lab" / "files")]

from wmagent_lab.work import Work  # noqa: E402

if __name__ == "__main__":
    agent, name, secrets, database = sys.argv[1:]
    queue = Path(secrets).with_name("condor.json")
    Work(agent, name, Path(secrets), database, queue, seconds=0).step(1.0)
