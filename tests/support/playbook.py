# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a playbook made on the spot, as a user would, and look at what its tasks returned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """What a run did. ``results``: host → task name → what the task returned. ``output``: all that a person saw."""

    code: int
    results: dict[str, dict[str, dict[str, Any]]]
    output: str


def run_tasks(
    folder: Path,
    tasks: Sequence[Mapping[str, Any]],
    hosts: Mapping[str, Mapping[str, Any]],
    *options: str,
    timeout: float = 300,
) -> Outcome:
    """Run ``tasks`` on ``hosts`` (name → variables) over the local connection; files go into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    play = [{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}]
    (folder / "play.json").write_text(json.dumps(play))
    variables = {"ansible_connection": "local"}
    inventory = {"all": {"hosts": {name: {**variables, **values} for name, values in hosts.items()}}}
    (folder / "inventory.json").write_text(json.dumps(inventory))
    record = folder / "record.jsonl"
    record.unlink(missing_ok=True)
    config = folder / "ansible.cfg"
    config.write_text("[defaults]\n")
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": "record",
        "RECORD_FILE": str(record),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "remote"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
    }
    command = [sys.executable, "-m", "ansible", "playbook", "-i", str(folder / "inventory.json")]
    done = subprocess.run(
        [*command, str(folder / "play.json"), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=folder,
    )
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for line in record.read_text(encoding="utf-8").splitlines() if record.exists() else []:
        entry = json.loads(line)
        results.setdefault(entry["host"], {})[entry["task"]] = entry["result"]
    return Outcome(done.returncode, results, done.stdout + done.stderr)
