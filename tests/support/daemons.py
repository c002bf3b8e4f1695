# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that look like an agent's components, and a WMCore just real enough to start some.

Nothing here needs WMAgent: a "release" is a folder with ``bin/python``, ``bin/wmcoreD`` and a small package ``WMCore``
whose Harness turns components into daemons the way the real one does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.processes import all_processes, read_process

PYTHON = Path(os.path.realpath(sys.executable))

# Becomes a daemon in a component's folder, writes Daemon.xml, does what it is told and says when it is ready.
_WMCORED = """
import os, signal, sys, threading, time
folder, behaviour, ready = os.environ["FOLDER"], os.environ["BEHAVIOUR"].split(","), os.environ["READY"]
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.chdir(folder)
names = [("ProcessID", os.getpid()), ("ParentProcessID", os.getppid()), ("ProcessGroupID", os.getpgrp()),
         ("UserID", os.getuid())]
if "no-file" not in behaviour:
    with open("Daemon.xml", "w") as stream:
        stream.write("<Daemon>" + "".join('<%s Value="%d"/>' % pair for pair in names) + "</Daemon>")
if "deaf" in behaviour:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "child" in behaviour and not os.fork():
    time.sleep(600)
if "thread" in behaviour:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
if "group" in behaviour and not os.fork():
    os.setpgid(0, 0)
    time.sleep(600)
with open(ready, "w") as stream:
    stream.write(str(os.getpid()))
time.sleep(600)
"""

_HARNESS = """
import logging, os, sys, threading, time, traceback

class Harness:
    def __init__(self, config):
        self.config = config
        self.name = type(self).__name__
        os.makedirs(getattr(config, self.name).componentDir, exist_ok=True)

    def startDaemon(self, keepParent=False):
        folder = getattr(self.config, self.name).componentDir
        if os.path.exists(folder + "/Daemon.xml"):
            print("Start aborted since pid file exists")
            sys.exit(1)
        pid = os.fork()
        if pid:
            return pid
        os.chdir("/")
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir(folder)
        with open("Daemon.xml", "w") as stream:
            stream.write('<Daemon><ProcessID Value="%d"/><ProcessGroupID Value="%d"/><UserID Value="%d"/></Daemon>'
                         % (os.getpid(), os.getpgrp(), os.getuid()))
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.close(null)
        self.startComponent()

    def log(self, text, level="INFO"):
        with open("ComponentLog", "a") as stream:
            stream.write("2026-11-23 06:54:46,105:1234:%s:Harness:%s\\n" % (level, text))

    def startComponent(self):
        try:
            self.log(">>>Starting: %s<<<" % self.name)
            self.preInitialization()
            self.log(">>>Initialization finished!")
        except Exception as error:
            reason = "PostMortem: choked when initializing with error: %s" % error
            self.log(reason + "\\n" + traceback.format_exc(), "CRITICAL")
            raise
        while True:
            time.sleep(360)

    def preInitialization(self):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
"""

_CONFIGURATION = """
import importlib.machinery, importlib.util

class Section:
    pass

class Configuration:
    def __init__(self):
        self.names = []
    def component_(self, name):
        if name not in self.names:
            self.names.append(name)
            setattr(self, name, Section())
        return getattr(self, name)
    def section_(self, name):
        setattr(self, name, Section())
        return getattr(self, name)
    def listComponents_(self):
        return self.names

def loadConfigurationFile(path):
    loader = importlib.machinery.SourceFileLoader("config", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("config", loader))
    loader.exec_module(module)
    return module.config
"""

_FACTORY = """
import importlib

class WMFactory:
    def __init__(self, name):
        pass
    def loadObject(self, classname, args):
        return getattr(importlib.import_module(classname), classname.rpartition(".")[2])(args)
"""

_PROCFS = """
import os

def processStatus(pid):
    threads = [one for one in os.listdir("/proc/%s/task" % pid) if one != str(pid)]
    return ([{"process": "python", "pid": str(pid), "status": "sleeping", "type": "process"}]
            + [{"process": "python-thread", "pid": one, "status": "running", "type": "thread"} for one in threads])
"""

_COMPONENT = """
from WMCore.Agent.Harness import Harness
{before}
class {name}(Harness):
    def preInitialization(self):
        import os, sys, threading, time
{body}
"""


def wait_until(condition: Callable[[], object], timeout: float = 20) -> None:
    """Wait for a condition; fails the test after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@dataclass
class FakeAgent:
    """An agent root with one release; ``spawn`` puts processes into its work area."""

    root: Path
    prefix: Path
    layout: AgentLayout
    release: Release
    log: list[str] = field(default_factory=list)

    def folder(self, component: str) -> Path:
        """Work area of a component."""
        folder = self.layout.work_dir / component
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def spawn(self, component: str, *behaviour: str, prefix: Path | None = None) -> int:
        """Start a daemon as a component; its pid.

        behaviour: ``deaf`` (ignores SIGTERM), ``child`` (forks one), ``group`` (a child in its own process group),
                   ``thread`` (a second thread), ``no-file`` (writes no Daemon.xml)
        prefix:    another release to run it from
        """
        home = prefix or self.prefix
        ready = self.root / f"ready-{component}-{time.monotonic_ns()}"
        subprocess.run(
            [home / "bin" / "python", home / "bin" / "wmcoreD", "--start", "--components=A,B"],
            env={"FOLDER": str(self.folder(component)), "BEHAVIOUR": ",".join(behaviour), "READY": str(ready)},
            check=True,
            timeout=20,
        )
        wait_until(lambda: ready.exists() and ready.read_text())
        return int(ready.read_text())

    def name_in_daemon_file(self, component: str, pid: int) -> Path:
        """Write a Daemon.xml that names a process."""
        file = self.folder(component) / "Daemon.xml"
        group = os.getpgid(pid) if read_process(pid) else pid
        values = {"ProcessID": pid, "ProcessGroupID": group, "UserID": os.getuid()}
        text = "".join(f'<{name} Value="{value}"/>' for name, value in values.items())
        file.write_text(f"<Daemon>{text}</Daemon>", encoding="utf-8")
        return file

    def component(self, name: str, *, body: str = "Harness.preInitialization(self)", before: str = "") -> None:
        """Add a component to the release's code and config."""
        package = self.prefix / "lib" / "WMComponent"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()
        text = _COMPONENT.format(name=name, before=before, body=textwrap.indent(textwrap.dedent(body), " " * 8))
        (package / f"{name}.py").write_text(text, encoding="utf-8")
        with self.release.config.open("a", encoding="utf-8") as stream:
            stream.write(f"config.component_('{name}')\n")
            stream.write(f"config.{name}.namespace = 'WMComponent.{name}'\n")
            stream.write(f"config.{name}.componentDir = {str(self.layout.work_dir / name)!r}\n")

    def environment(self) -> dict[str, str]:
        """Lets the release's interpreter find its code: a bare symlink to a Python knows no prefix of its own."""
        return {"PYTHONPATH": str(self.prefix / "lib")}

    def processes(self) -> list[int]:
        """Everything that works below the root."""
        found = []
        for process in all_processes():
            with contextlib.suppress(OSError):
                if str(Path(f"/proc/{process.pid}/cwd").readlink()).startswith(str(self.root)) and not process.dead:
                    found.append(process.pid)
        return found


def make_agent(root: Path) -> FakeAgent:
    """A fake agent below ``root``."""
    prefix = root / "releases" / "x-000000000000"
    for folder in (
        prefix / "bin",
        prefix / "lib" / "WMCore" / "Agent",
        prefix / "lib" / "Utils",
        root / "shared" / "install",
    ):
        folder.mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(PYTHON)
    (prefix / "bin" / "wmcoreD").write_text(_WMCORED, encoding="utf-8")
    code = {
        "WMCore/__init__.py": "",
        "WMCore/Agent/__init__.py": "",
        "WMCore/Agent/Harness.py": _HARNESS,
        "WMCore/Configuration.py": _CONFIGURATION,
        "WMCore/WMFactory.py": _FACTORY,
        "Utils/__init__.py": "",
        "Utils/ProcFS.py": _PROCFS,
    }
    for name, text in code.items():
        (prefix / "lib" / name).write_text(text, encoding="utf-8")
    config = prefix / "config.py"
    config.write_text(
        "from WMCore.Configuration import Configuration\nconfig = Configuration()\n"
        "config.section_('CoreDatabase')\nconfig.CoreDatabase.connectUrl = 'mysql://u:secret@h/d'\n",
        encoding="utf-8",
    )
    release = {
        "image": "x",
        "digest": "sha256:" + "0" * 64,
        "tag": "2.4.5.9",
        "python": str(prefix / "bin" / "python"),
        "prefix": str(prefix),
        "config": str(config),
    }
    (prefix / "release.json").write_text(json.dumps(release), encoding="utf-8")
    (root / "current").symlink_to(prefix)
    (root / ".deploy").mkdir()
    layout = AgentLayout(root)
    return FakeAgent(root, prefix, layout, layout.current_release())


@pytest.fixture
def fake_agent(tmp_path: Path) -> Iterator[FakeAgent]:
    """A fake agent; whatever works below its root at the end of the test is killed."""
    agent = make_agent(tmp_path / "agent")
    try:
        yield agent
    finally:
        for pid in agent.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else."""
    process = subprocess.Popen(["sleep", "600"], cwd=tmp_path, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
