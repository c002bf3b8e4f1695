# SPDX-License-Identifier: GPL-3.0-or-later
"""Long modules through Ansible: what is shown, what comes back, and how they end whatever happens to the controller."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from support.playbook import ROOT

PLUGINS = ROOT / "tests/support/long_task"
SECRET = "correct horse battery"


class Play:
    """One play with one long task on some hosts, each with a folder of its own.

    hosts: name -> arguments of the module and, with ``ansible_`` or ``limit``, variables
    """

    def __init__(self, folder: Path, hosts: Mapping[str, Mapping[str, Any]], *options: str, **environment: str) -> None:
        self.folder = folder
        self._hosts = list(hosts)
        for part in ("links", "tmp", *hosts):
            (folder / part).mkdir(parents=True)
        task = {
            "name": "Count",
            "works_long": {
                "seconds": "{{ seconds }}",
                "step": "{{ step | default(omit) }}",
                "fails": "{{ fails | default(omit) }}",
                "password": SECRET,
                "folder": f"{folder}/{{{{ inventory_hostname }}}}",
            },
            "timeout": "{{ limit | default(0) }}",
        }
        (folder / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
        common = {"ansible_connection": "cuttable", "ansible_python_interpreter": sys.executable}
        inventory = {"all": {"hosts": {name: {**common, **variables} for name, variables in hosts.items()}}}
        (folder / "inventory.json").write_text(json.dumps(inventory))
        self.environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_LIBRARY": str(PLUGINS / "modules"),
            "ANSIBLE_ACTION_PLUGINS": str(PLUGINS / "action"),
            "ANSIBLE_CONNECTION_PLUGINS": str(PLUGINS / "connection"),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/support/callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "record",
            "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
            "ANSIBLE_REMOTE_TEMP": str(folder / "remote"),
            "RECORD_FILE": str(folder / "record.jsonl"),
            "CUT": str(folder / "links"),
            "TMPDIR": str(folder / "tmp"),
            "TERM": "xterm",
            "COLUMNS": "100",
            **environment,
        }
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "inventory.json", "play.json"]
        self._command = [*command, *options]

    @contextlib.contextmanager
    def running(self, output: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            self._command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()

    def results(self) -> dict[str, dict[str, Any]]:
        lines = (self.folder / "record.jsonl").read_text().splitlines()
        return {entry["host"]: entry["result"] for entry in map(json.loads, lines)}

    def recorded(self) -> set[str]:
        return set(self.results()) if (self.folder / "record.jsonl").exists() else set()

    def left(self) -> list[str]:
        """Tasks' folders that are still on the hosts."""
        return sorted(path.name for path in (self.folder / "tmp").glob("wmagent-task-*"))

    def process(self, host: str) -> int:
        return int((self.folder / host / "process").read_text())

    def handed_over(self) -> set[str]:
        """Hosts on which the work goes on by itself."""
        at_work = [host for host in self._hosts if (self.folder / host / "process").exists()]
        return {host for host in at_work if not _parent_is_a_module(self.process(host))}

    def ended(self, host: str) -> str:
        """Why the work ended on a host, '' where it has not."""
        file = self.folder / host / "ended"
        return file.read_text() if file.exists() else ""


def _parent_is_a_module(process: int) -> bool:
    """Whether the module that was started is still there, and has not handed over to this one."""
    try:
        parent = re.search(r"PPid:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
        return bool(parent) and b"works_long" in Path(f"/proc/{parent[1]}/cmdline").read_bytes()
    except OSError:
        return False


def wait_for(what: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_whatever_happens_meanwhile_the_result_is_the_modules_own(tmp_path):
    """On several agents at once, with --check and --diff, in a pipe."""
    hosts = {
        "quick": {"seconds": 0.1},
        "long": {"seconds": 5, "step": "purges \x1b[2J\x1b]0;x\x07 jobs"},
        "failing": {"seconds": 4, "fails": True},
        "limited": {"seconds": 60, "limit": 8},
        "cut": {"seconds": 6},
        "killed": {"seconds": 60},
    }
    play = Play(tmp_path, hosts, "--check", "--diff")
    with play.running() as process:
        wait_for(lambda: play.handed_over() >= {"cut", "killed"})
        (tmp_path / "links/cut").touch()
        os.kill(play.process("killed"), signal.SIGKILL)
        wait_for(lambda: play.ended("cut"))
        (tmp_path / "links/cut").unlink()
        output, _ = process.communicate(timeout=60)
    results = play.results()
    for name, number in (("quick", 1), ("long", 50), ("cut", 60)):
        result = results[name]
        assert result["changed"] and result["check"] and result["number"] == number and result["stopped_by"] == ""
        assert result["diff"] == {"before": "0\n", "after": f"{number}\n"}
        assert "it counted" in str(result["warnings"])
    assert results["failing"]["msg"].startswith("it failed with ***") and results["failing"]["number"] == 40
    assert "8" in results["limited"]["msg"] and re.search(r"limited +failed", output)
    # It had ended when the play went on, and as asked, not killed.
    assert play.ended("limited") == "controller" and int((tmp_path / "limited/count").read_text()) < 100
    assert "works_long ended on killed without a result; was it killed, or the host restarted?" in output
    assert not play.left(), play.left()
    assert SECRET not in output and "Traceback" not in output
    told = [line for line in output.splitlines() if "purges" in line]
    assert len(told) == 1, output  # one step, far less than half a minute
    assert re.search(r"\d\d:\d\d:\d\d long  purges \?\[2J\?\]0;x\? jobs  \[#*\.+\] +\d+ %", told[0])
    assert output.index("Count") < output.index("purges") < output.index("OK" if "OK" in output else "FAILED")
    assert "\x1b" not in output and "\x07" not in output


def test_a_terminal_has_lines_that_are_drawn_anew(tmp_path):
    play = Play(tmp_path, {"agent1": {"seconds": 4}, "agent2": {"seconds": 3}})
    ours, theirs = pty.openpty()
    with play.running(theirs) as process:
        os.close(theirs)
        shown = _read_all(ours)
        assert process.wait(20) == 0
    assert "Count: 0 of 2 agents" in shown and "Count: 1 of 2 agents" in shown
    shares = [int(share) for share in re.findall(r"agent1  counts  \[[#.]{20}\] +(\d+) %", shown)]
    assert len(set(shares)) >= 2 and shares == sorted(shares)
    screen = _screen(shown)
    # What was live is gone at the end, and what was printed meanwhile is whole.
    assert not any("[##" in line or "of 2 agents" in line for line in screen), screen
    assert [line.split()[:2] for line in screen if "changed  " in line] in (
        [["agent1", "changed"], ["agent2", "changed"]],
        [["agent2", "changed"], ["agent1", "changed"]],
    )
    assert screen[-1].startswith("OK  2 agents  changed=2")


def test_work_that_nobody_watches_any_more_ends(tmp_path):
    """One agent's link stays cut; then the play is interrupted while it works on another."""
    play = Play(tmp_path, {"cut": {"seconds": 60}, "watched": {"seconds": 60}}, LOST="6")
    with play.running() as process:
        wait_for(lambda: play.handed_over() >= {"cut", "watched"})
        (tmp_path / "links/cut").touch()
        wait_for(lambda: "cut" in play.recorded())
        assert not play.ended("watched")
        os.killpg(process.pid, signal.SIGINT)
        wait_for(lambda: play.ended("watched"), 4)  # it was told, and did not find out by itself
        output, _ = process.communicate(timeout=30)
    assert re.search(r"cut +unreachable .*no connection for 6 s while works_long was at work.*Run it again", output)
    for name in ("cut", "watched"):
        wait_for(lambda name=name: play.ended(name))
        assert play.ended(name) == "controller"
    wait_for(lambda: not play.left())


def _read_all(descriptor: int) -> str:
    data = b""
    try:
        while part := os.read(descriptor, 65536):
            data += part
    except OSError:  # how a terminal ends
        pass
    finally:
        os.close(descriptor)
    return data.decode()


def _screen(shown: str) -> list[str]:
    """What stands on a terminal in the end; knows the few sequences that are used here, and fails at any other."""
    lines, row = [""], 0
    for token in re.findall(r"\x1b\[\d+A|\x1b\[J|\x1b\[[\d;]*m|\r|\n|[^\x1b\r\n]+", shown):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            at_begin = True
            continue
        elif token.endswith("A"):
            row = max(0, row - int(token[2:-1]))
        elif token == "\x1b[J":
            lines[row:] = [""]
        elif not token.startswith("\x1b"):
            lines[row] = token if at_begin else lines[row] + token
        at_begin = False
    assert "\x1b" not in re.sub(r"\x1b\[(\d+A|J|[\d;]*m)", "", shown)
    return [line for line in lines if line]
