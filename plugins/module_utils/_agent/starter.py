# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a release's own interpreter: imports everything, waits for a word, then starts all components at once.

It stands alone (standard library and the release's WMCore only): the release's interpreter knows nothing of Ansible.
Line 1 of stdin is a request (JSON) that BOOTSTRAP takes, line 2 says what to start; end of file before it means "never
mind". Answers are JSON lines on stdout: ``ready``, then ``up`` or ``failed`` for each component, then ``done``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import sys
import time
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

BOOTSTRAP = (
    "import io,json;r=json.loads(io.FileIO(0,closefd=False).readline());"
    "exec(compile(r.pop('code'),'starter','exec'),{'__name__':'wmagent_starter','REQUEST':r})"
)
INITIALIZED = b">>>Initialization finished!"
TICK = 0.004
STABLE = 1.0
RETRIES = 2
DEADLOCKS = (b"Deadlock found", b"Lock wait timeout exceeded", b"ORA-00060")
DAO_PACKAGES = (
    "WMCore.Agent.Database",
    "WMCore.WMBS",
    "WMCore.BossAir",
    "WMCore.ResourceControl",
    "WMCore.WorkQueue.Database",
    "WMComponent.DBS3Buffer",
    "WMComponent.JobAccountant",
    "WMComponent.JobSubmitter",
    "WMComponent.JobTracker",
    "WMComponent.ErrorHandler",
    "WMComponent.RetryManager",
    "WMComponent.TaskArchiver",
    "WMComponent.RucioInjector",
)
"""Packages whose MySQL or Oracle modules WMCore.WMFactory loads by name, later, in each component for itself."""
LATE_MODULES = (
    "WMCore.Database.DBCore",
    "WMCore.Database.MySQLCore",
    "WMCore.Services.LogDB.LogDB",
    "WMCore.BossAir.Plugins.SimpleCondorPlugin",
)
"""Modules that components import only while they initialize."""


class Refusal(Exception):  # noqa: N818 - a reason to tell in one line
    """Why something cannot be started."""


def say(channel: int, **answer: Any) -> None:
    """Send one answer; nobody listening any more is no reason to stop half-way."""
    with contextlib.suppress(BrokenPipeError):
        os.write(channel, json.dumps(answer).encode() + b"\n")


def load(request: dict[str, Any]) -> Any:
    """Import config and all modules the components need; returns config."""
    config = importlib.import_module("WMCore.Configuration").loadConfigurationFile(request["config"])
    configured = config.listComponents_()
    request["components"] = request["components"] or list(configured)
    if missing := [name for name in request["components"] if name not in configured]:
        raise Refusal(f"{request['config']} has no component {', '.join(missing)}")
    importlib.import_module("WMCore.WMFactory")
    importlib.import_module("WMCore.Agent.Harness")
    for name in request["components"]:
        importlib.import_module(config.component_(name).namespace)
    oracle = config.CoreDatabase.connectUrl.lower().startswith("oracle")
    for package in DAO_PACKAGES:
        preload(f"{package}.{'Oracle' if oracle else 'MySQL'}")
    for name in ("Utils.ProcFS", *LATE_MODULES, *(() if oracle else ("sqlalchemy.dialects.mysql", "MySQLdb"))):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    return config


def preload(package: str) -> None:
    """Import all modules below a package, which this release may not have. What fails to import is not needed here."""
    try:
        folder = importlib.import_module(package)
    except ImportError:
        return
    for module in pkgutil.walk_packages(folder.__path__, f"{package}.", onerror=lambda name: None):
        with contextlib.suppress(Exception):
            importlib.import_module(module.name)


def describe(config: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Component -> its folder and log, as config.py has them."""
    described = {}
    for name in names:
        section = config.component_(name)
        folder = os.path.expandvars(section.componentDir)
        described[name] = {"dir": folder, "log": getattr(section, "logFile", f"{folder}/ComponentLog")}
    return described


def rename_process(arguments: Sequence[str]) -> None:
    """Overwrite this process's command line, so that ps tells which component it is and of which release.

    The room is what the process was started with, which is why that is padded.
    """
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    text = b"\0".join(os.fsencode(one) for one in arguments) + b"\0"
    if 0 < begin < end:
        room = end - begin
        # The last byte must stay NUL, or the kernel reads on into the environment.
        ctypes.memmove(begin, text[: room - 1].ljust(room, b"\0"), room)


def descriptors() -> set[int]:
    """Open file descriptors of this process."""
    found = set()
    for name in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):  # the listing's own is closed by now
            os.fstat(name)
            found.add(name)
    return found


def size_of(path: Path) -> int:
    """Size of a file in bytes, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def alive(pid: int) -> bool:
    """True for a process that exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def daemon_pid(folder: Path) -> int | None:
    """Process id in Daemon.xml; None while it is missing or half-written."""
    try:
        text = (folder / "Daemon.xml").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    _, found, after = text.partition('<ProcessID Value="')
    return int(after.partition('"')[0]) if found and "</Daemon>" in text else None


class Start:
    """One component on its way up."""

    def __init__(self, name: str, folder: str, log: str) -> None:
        self.name = name
        self.folder = Path(folder)
        self.log = Path(log)
        self.tries = 0
        self.reset()

    def reset(self) -> None:
        """Forget an earlier try."""
        self.offset = self.read_to = size_of(self.log)
        self.pid: int | None = None
        self.launcher: int | None = None
        self.output = -1
        self.threads = (0, 0.0)
        self.logged = b""

    def fork(self, config: Any, request: dict[str, Any], keep: Collection[int]) -> None:
        """Fork the launcher; its stdout and stderr go to a file in memory."""
        self.output = os.memfd_create(self.name)
        self.launcher = os.fork()
        if self.launcher == 0:
            os.dup2(self.output, 1)
            os.dup2(self.output, 2)
            launch(config, self, request, keep)

    def launched(self) -> bool:
        """False while the launcher is at work. Raises Refusal where it failed."""
        if self.launcher is None:
            return True
        pid, status = os.waitpid(self.launcher, os.WNOHANG)
        if pid == 0:
            return False
        self.launcher = None
        os.lseek(self.output, 0, os.SEEK_SET)
        text = os.read(self.output, 65536).decode("utf-8", "replace").strip()
        os.close(self.output)
        if status != 0:
            raise Refusal(text[-2000:] or f"its launcher ended with status {status}")
        return True

    def up(self) -> bool:
        """True once Daemon.xml is there and all worker threads were created. Raises Refusal where it died."""
        if not self.launched():
            return False
        if self.pid is None:
            self.pid = daemon_pid(self.folder)
            if self.pid is None:
                return False
        living = alive(self.pid)
        text = self.new_log()
        if not living:
            raise Refusal(text[-32000:].decode("utf-8", "replace").strip() or "it ended without a word")
        return INITIALIZED in text or self.threads_stable()

    def new_log(self) -> bytes:
        """The end of what the component has logged so far."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as stream:
            stream.seek(self.read_to)
            block = stream.read()
            self.read_to += len(block)
            self.logged = (self.logged + block)[-65536:]
        return self.logged

    def threads_stable(self) -> bool:
        """For one that logs less than INFO: there are worker threads, as many as a second ago."""
        count = len(list(Path(f"/proc/{self.pid}/task").iterdir())) if self.pid and alive(self.pid) else 0
        if count != self.threads[0]:
            self.threads = (count, time.monotonic())
        return count > 1 and b":INFO:" not in self.logged and time.monotonic() - self.threads[1] >= STABLE

    def may_retry(self, reason: str) -> bool:
        """All components register at once, and a database may pick one of them as the victim of a deadlock."""
        return self.tries < RETRIES and any(word in reason.encode() for word in DEADLOCKS)

    def retry(self, config: Any, request: dict[str, Any], keep: Collection[int]) -> None:
        """Once more, from the beginning."""
        self.tries += 1
        if self.pid is not None:
            (self.folder / "Daemon.xml").unlink(missing_ok=True)
        self.reset()
        self.fork(config, request, keep)


def launch(config: Any, start: Start, request: dict[str, Any], keep: Collection[int]) -> NoReturn:
    """In a forked child: build the component and let WMCore turn it into a daemon.

    keep: descriptors that stay open; all others above stderr belong to the starter.
    """
    me = os.getpid()
    code = 1
    try:
        for number in descriptors() - set(keep) - {0, 1, 2}:
            with contextlib.suppress(OSError):
                os.close(number)
        rename_process([*request["argv"], f"--components={start.name}", f"--config={request['config']}"])
        factory = sys.modules["WMCore.WMFactory"].WMFactory("componentFactory")
        component = factory.loadObject(classname=config.component_(start.name).namespace, args=config)
        component.startDaemon(keepParent=True)
        code = 0
        os.wait()  # the session leader in between; it exits at once
    except BaseException:
        report(start, os.getpid() == me)
    finally:
        # A component whose main thread failed must be gone, not linger with idle workers.
        os._exit(code)


def report(start: Start, launcher: bool) -> None:
    """Leave the traceback where somebody will look: with the starter, or in the log of one that could not log."""
    text = traceback.format_exc()
    if launcher:
        sys.stdout.flush()
        os.write(2, text.encode())
    elif size_of(start.log) == start.offset:
        with start.log.open("a", encoding="utf-8") as stream:
            stream.write(text)


def write_threads(start: Start) -> None:
    """threads.json as the release's own wmcoreD writes it; releases before 2.4.0 have none and get none."""
    module = sys.modules.get("Utils.ProcFS")
    if module is None:
        return
    file = start.folder / "threads.json.new"
    file.write_text(json.dumps(module.processStatus(start.pid)), encoding="utf-8")
    file.replace(start.folder / "threads.json")


def start_all(
    config: Any, request: dict[str, Any], names: Sequence[str], channel: int, deadline: float, keep: Collection[int]
) -> list[Start] | None:
    """Start these components at once; those that came up, or None where one failed."""
    began = time.monotonic()
    up = []
    starts = [Start(name, request["dirs"][name], request["logs"][name]) for name in names]
    for start in starts:
        start.fork(config, request, keep)
    good = True
    while starts:
        for start in list(starts):
            about = {"component": start.name, "tries": start.tries}
            late = time.monotonic() >= deadline
            try:
                if start.up():
                    write_threads(start)
                    up.append(start)
                    seconds = time.monotonic() - began
                    say(channel, event="up", pid=start.pid, offset=start.offset, seconds=seconds, **about)
                elif late:
                    raise Refusal("it did not come up in time")
                else:
                    continue
            except Refusal as refusal:
                if not late and start.may_retry(str(refusal)):
                    start.retry(config, request, keep)
                    continue
                good = False
                say(channel, event="failed", pid=start.pid, offset=start.offset, error=str(refusal), **about)
            starts.remove(start)
        time.sleep(TICK)
    return up if good else None


def main(request: dict[str, Any]) -> None:
    """Warm up, wait for the word, start."""
    words = io.FileIO(0, closefd=False)
    channel = os.dup(1)
    os.dup2(2, 1)  # what imports print is not an answer
    sys.argv = list(request["argv"][1:])
    try:
        config = load(request)
        described = describe(config, request["components"])
        gc.collect()
        gc.freeze()  # children share these pages as long as the collector leaves them alone
    except Refusal as refusal:
        return say(channel, event="error", message=str(refusal))
    except BaseException as error:
        return say(channel, event="error", message=f"{type(error).__name__}: {error}")
    request["dirs"] = {name: one["dir"] for name, one in described.items()}
    request["logs"] = {name: one["log"] for name, one in described.items()}
    keep = descriptors() - {channel}
    say(channel, event="ready", described=described, cpu=time.process_time())
    line = json.loads(words.readline() or "null")
    if line is None:
        return None
    deadline = time.monotonic() + line["timeout"]
    up = start_all(config, request, line["first"], channel, deadline, keep)
    if up is not None and line["last"]:
        up += start_all(config, request, line["last"], channel, deadline, keep) or []
    say(channel, event="done")
    if not words.readline():
        return None
    # Some threads come with the first cycle, and AgentWatchdog restarts a component that has one it cannot find here.
    for start in up or []:
        if start.pid and alive(start.pid):
            write_threads(start)
    return say(channel, event="written")


if __name__ == "wmagent_starter":
    with contextlib.suppress(BaseException):
        main(globals()["REQUEST"])
    os._exit(0)  # exit handlers of what was imported belong to the components
