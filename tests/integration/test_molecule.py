# SPDX-License-Identifier: GPL-3.0-or-later
"""The molecule scenarios: a lab comes up, a rollout changes its agents and takes them back, nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SCENARIOS = {path.parent.name for path in (CHECKOUT / "molecule").glob("*/molecule.yml")}
LIMIT = 900  # seconds


def _molecule(folder: Path, *arguments: str, hosts: str = "", limit: float = LIMIT) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "MOLECULE_HOSTS": hosts,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MOLECULE_EPHEMERAL_DIRECTORY": str(folder),
        "MOLECULE_COMMAND_BORDERS": "false",
        "NO_COLOR": "1",
    }
    command = [sys.executable, "-m", "molecule", *arguments]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=limit)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return subprocess.CompletedProcess(command, process.returncode, output)


@pytest.mark.slow
@pytest.mark.timeout(LIMIT + 240)
def test_the_lab_scenario(tmp_path: Path) -> None:
    """The short form: what the other scenarios do to the lab's agents, tests/e2e does, too, except for a cleanup."""
    done = _molecule(tmp_path, "test", "-s", "default", hosts="lab01")
    assert done.returncode == 0, done.stdout
    steps = set(re.findall(r"^default > (\w+): Executed: Successful", done.stdout, re.MULTILINE))
    assert {"converge", "idempotence", "verify", "side_effect"} <= steps, done.stdout


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(LIMIT + 240)
def test_all_scenarios(tmp_path: Path) -> None:
    try:
        done = _molecule(tmp_path, "test", "--all")
    finally:
        if (tmp_path / "lab").exists():
            _molecule(tmp_path, "destroy", limit=200)
    assert done.returncode == 0, done.stdout
    steps = set(re.findall(r"^(\w+) > (\w+): Executed: Successful", done.stdout, re.MULTILINE))
    assert {scenario for scenario, _ in steps} == SCENARIOS, done.stdout
    # A redeployment is not idempotent, see its scenario.
    assert {(one, "idempotence") for one in SCENARIOS - {"upgraded_redeploy"}} <= steps, done.stdout
    assert {(one, "side_effect") for one in SCENARIOS} <= steps, done.stdout
