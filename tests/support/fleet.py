# SPDX-License-Identifier: GPL-3.0-or-later
"""Run this collection's playbooks on agents of a lab, as an operator would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from support.agent import CHECKOUT, LabAgent

IMAGES = Path(os.environ.get("WMAGENT_TEST_IMAGES") or CHECKOUT / "build" / "images")
QUICK = {
    "wmagent_healthy_for": 2,
    "wmagent_healthy_within": 60,
    "wmagent_settle": 2,
    "wmagent_disk_reserve": "10M",
}
"""A test has no patience."""


@dataclass(frozen=True)
class Run:
    """One ansible-playbook: its exit code and all that a person saw."""

    code: int
    output: str

    def line_of(self, agent: str) -> str:
        """The last line of a table that begins with the agent's name."""
        return [line for line in self.output.splitlines() if line.startswith(agent)][-1]


@dataclass(frozen=True)
class Fleet:
    """Agents and the inventory that names them. ``variables`` are the whole fleet's."""

    folder: Path
    agents: Mapping[str, Mapping[str, Any]]
    variables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, agents: Iterable[LabAgent], **variables: Any) -> Fleet:
        """The fleet of some agents of a lab."""
        return cls(folder, {agent.name: agent.variables() for agent in agents}, variables)

    def command(self, playbook: str, *options: str, **extra: Any) -> tuple[list[str], dict[str, str]]:
        """Command line and environment of one run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        common = {
            "wmagent_repository": str(IMAGES),
            "wmagent_tools_dir": str(self.folder / "tools"),
            "wmagent_state_dir": str(self.folder / "state"),
            **QUICK,
            **self.variables,
        }
        inventory = {"all": {"vars": common, "hosts": {name: dict(values) for name, values in self.agents.items()}}}
        (self.folder / "inventory.json").write_text(json.dumps(inventory))
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"),
            "ANSIBLE_NOCOLOR": "1",
            "COLUMNS": "500",
        }
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(self.folder / "inventory.json")]
        command += [str(CHECKOUT / "playbooks" / playbook), "-e", json.dumps(extra), *options]
        return command, environment

    def play(self, playbook: str, *options: str, timeout: float = 240, **extra: Any) -> Run:
        """Run a playbook to its end; ``extra`` are extra variables."""
        command, environment = self.command(playbook, *options, **extra)
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout, check=False, cwd=self.folder
        )
        return Run(done.returncode, done.stdout + done.stderr)

    def upgrade(self, image: str, *options: str, **extra: Any) -> Run:
        """The main job."""
        return self.play("upgrade.yml", *options, wmagent_image=image, **extra)


def current(agent: LabAgent) -> str:
    """Image of the agent's current release."""
    return agent.layout.current_release().image


def actions(agent: LabAgent) -> list[tuple[str, str]]:
    """Action and verdict of each of the ledger's entries."""
    return [(entry["action"], entry.get("verdict", "")) for entry in ledger.read(agent.layout.ledger)]
