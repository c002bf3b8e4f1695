# SPDX-License-Identifier: GPL-3.0-or-later
"""Role schedule: a crontab, systemd's units, what both leave alone, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.playbook import ROOT

STAND_INS = ROOT / "tests/support/schedule"
OTHER_LINE = "5 4 * * sun /usr/bin/somebody's own"
FIRST = {"name": "cleanup", "playbook": "dmwm.wmagent.cleanup", "at": ["03:17"]}


class Controller:
    """A controller of a test's own: home, crontab and systemctl, ``tools`` of which are there."""

    def __init__(self, folder: Path, tools: Sequence[str]) -> None:
        self.folder = folder
        self.spool = folder / "crontab"
        self.state = folder / "state"
        self.units = folder / "home/.config/systemd/user"
        self.systemd = folder / "systemd"
        for part in (folder / "home", folder / "bin", self.systemd):
            part.mkdir(parents=True)
        for tool in tools:
            shutil.copy(STAND_INS / tool, folder / "bin" / tool)

    def run(self, steps: Mapping[str, Mapping[str, Any]], *options: str) -> tuple[dict[str, str], str]:
        """Run the role once for each step with the step's variables: step -> the crontab then, and all output.

        The units as they are then are in ``units-<step>``.

        ``check``: in check mode; ``from``: only this file of the role's tasks
        """
        plays = []
        for name, step in steps.items():
            variables = dict(step)
            role = {"name": "dmwm.wmagent.schedule", "tasks_from": variables.pop("from", "main")}
            check = variables.pop("check", False)
            keep = f"cp -r {self.units} {self.folder}/units-{name} 2>/dev/null; cat {self.spool} 2>/dev/null || true"
            after = f"{{{{ lookup('ansible.builtin.pipe', '{keep}') }}}}"
            tasks = [
                {"name": name, "ansible.builtin.import_role": role, "vars": variables, "check_mode": check},
                {"name": f"after {name}", "ansible.builtin.debug": {"msg": after}},
            ]
            plays.append(
                {"name": name, "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
            )
        (self.folder / "play.json").write_text(json.dumps(plays))
        record = self.folder / "record.jsonl"
        record.unlink(missing_ok=True)
        common = {
            "wmagent_state_dir": str(self.state),
            "wmagent_schedule_scope": "user",
            "ansible_python_interpreter": sys.executable,
        }
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "play.json", "-e", json.dumps(common), *options],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
                "HOME": str(self.folder / "home"),
                "PATH": f"{self.folder}/bin:{self._machine()}",
                "SPOOL": str(self.spool),
                "STATE": str(self.systemd),
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
                "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
                "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/support/callbacks"),
                "ANSIBLE_CALLBACKS_ENABLED": "record",
                "ANSIBLE_PIPELINING": "1",
                "RECORD_FILE": str(record),
            },
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        after = {}
        for entry in map(json.loads, record.read_text().splitlines()):
            if entry["task"].startswith("after "):
                after[entry["task"].removeprefix("after ")] = entry["result"]["msg"]
        return after, done.stdout + done.stderr

    def _machine(self) -> Path:
        """This machine's programs without those that a test brings or does without."""
        programs = self.folder / "programs"
        if not programs.exists():
            programs.mkdir()
            for program in Path("/usr/bin").iterdir():
                if program.name not in ("crontab", "systemctl"):
                    (programs / program.name).symlink_to(program)
        return programs


def changed_in(output: str, play: str) -> int:
    """How many tasks changed something in one play."""
    return output.split(f"PLAY [{play}]")[1].split("PLAY [")[0].count("changed: [localhost]")


def test_a_crontab_is_changed_and_runs(tmp_path):
    """The job has a playbook of its own, the inventory given, and options with all that shells know."""
    controller = Controller(tmp_path, ["crontab"])
    controller.spool.write_text(f"{OTHER_LINE}\n#Ansible: dmwm.wmagent old 01:01\n1 1 * * * /usr/bin/old\n")
    task = {"ansible.builtin.debug": {"msg": "ran on {{ inventory_hostname }} with {{ x }}"}}
    play = tmp_path / "own play.yml"
    play.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"agent1": {}, "agent2": {}}}}))
    value = "100% \"of' $HOME"
    options = ["-e", json.dumps({"x": value}), "-l", "agent1"]
    job = {"name": "own", "playbook": str(play), "at": ["02:00", "14:30"], "days": ["sat", "sun"], "options": options}
    own = {
        "wmagent_schedule_jobs": [job],
        "wmagent_schedule_jitter": "2s",
        "wmagent_schedule_environment": {"PASSWORD": "not to be shown"},
    }
    steps = {"look": own | {"check": True}, "install": own, "again": own}
    after, output = controller.run(steps, "-i", str(tmp_path / "hosts.json"), "--diff")
    assert "failed=0" in output, output

    assert (
        after["look"] == "\n".join([OTHER_LINE, "#Ansible: dmwm.wmagent old 01:01", "1 1 * * * /usr/bin/old"])
        and changed_in(output, "look") > 0
    )
    assert after["again"] == after["install"] and changed_in(output, "again") == 0
    for play_name in ("look", "install"):
        told = output.split(f"PLAY [{play_name}]")[1].split("PLAY [")[0]
        assert "+#Ansible: dmwm.wmagent own 02:00" in told and "-#Ansible: dmwm.wmagent old 01:01" in told
    assert "not to be shown" not in output + after["install"]
    assert (controller.state / "schedule/own.json").stat().st_mode & 0o777 == 0o600

    kept, first, line, second, other = after["install"].splitlines()
    assert kept == OTHER_LINE and line.startswith("0 2 * * sat,sun ") and other.startswith("30 14 * * sat,sun ")
    assert [first, second] == [f"#Ansible: dmwm.wmagent own {time}" for time in job["at"]]
    waits = {text.split("--wait=")[1].split()[0] for text in (line, other)}
    assert len(waits) == 1 and 0 <= int(waits.pop()) <= 2
    command = line.split(maxsplit=5)[5].replace("\\%", "%")
    done = subprocess.run(["/bin/sh", "-c", command], env={}, capture_output=True, text=True, timeout=60, check=False)
    log = (controller.state / "schedule/own.log").read_text()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), log
    assert f"ran on agent1 with {value}" in log.replace('\\"', '"') and "agent2" not in log


def test_timers_are_made_changed_and_removed(tmp_path):
    controller = Controller(tmp_path, ["systemctl"])
    common = {
        "from": "systemd",
        "wmagent_schedule_by": "systemd",
        "wmagent_schedule_dir": f'{controller.state}/100% "it"/s',
        "wmagent_schedule_jobs": [FIRST],
    }
    steps = {"look": common | {"check": True}, "install": common, "again": common}
    steps["change"] = common | {"wmagent_schedule_jobs": [FIRST | {"at": ["02:00", "14:30"], "days": ["sat", "sun"]}]}
    steps["remove"] = common | {"wmagent_schedule_state": "absent"}
    _, output = controller.run(steps)
    assert "failed=0" in output, output
    assert not (tmp_path / "units-look").exists()
    assert changed_in(output, "look") > 0 and changed_in(output, "again") == 0
    assert names_in(tmp_path / "units-install") == ["dmwm-wmagent-cleanup.service", "dmwm-wmagent-cleanup.timer"]
    timer = (tmp_path / "units-change/dmwm-wmagent-cleanup.timer").read_text()
    assert "OnCalendar=Sat,Sun *-*-* 02:00:00\nOnCalendar=Sat,Sun *-*-* 14:30:00\n" in timer
    assert "RandomizedDelaySec=15m" in timer
    assert names_in(controller.units) == [] and names_in(controller.systemd) == ["log"], "enabled or active"
    assert (
        "start dmwm-wmagent-cleanup.timer\nreload\nrestart dmwm-wmagent-cleanup.timer"
        in (controller.systemd / "log").read_text()
    )
    verify(tmp_path / "units-install")
    verify(tmp_path / "units-change")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def verify(units: Path) -> None:
    """systemd's own opinion of the units, where it is there."""
    program = shutil.which("systemd-analyze")
    if not program:
        return
    files = sorted(map(str, units.iterdir()))
    done = subprocess.run(
        [program, "verify", "--man=no", *files], capture_output=True, text=True, timeout=60, check=False
    )
    about_ours = [line for line in done.stderr.splitlines() if "dmwm-wmagent" in line]
    assert not about_ours, about_ours


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs here")
def test_where_nothing_can_run_it_one_line_says_so(tmp_path):
    _, output = Controller(tmp_path, []).run({"install": {}})
    assert "can run nothing by itself: there is no crontab, and systemd does not run; install cron" in " ".join(
        output.split()
    )
    assert not (tmp_path / "state").exists()
