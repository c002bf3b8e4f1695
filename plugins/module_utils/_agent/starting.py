# SPDX-License-Identifier: GPL-3.0-or-later
"""Start components from one interpreter of the release that has imported everything beforehand."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import pwd
import selectors
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import component_log, daemons, processes, starter
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.daemons import WATCHDOG, Owner
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.processes import Handle
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

UP = "up"
RUNNING = "already running"
FAILED = "failed"
NOT_STARTED = "not started"

_INHERITED = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
_ROOM = 256
"""Bytes of padding per command line, so that a component's own fits over the starter's."""


@dataclass(frozen=True)
class Started:
    """What became of one component.

    how:        up; already running (left alone); failed; not started (AgentWatchdog, where another one failed)
    seconds:    from the fork to all its worker threads being there
    log_offset: size of its ComponentLog before the start, bytes
    tries:      starts repeated because the database chose it as a deadlock's victim
    error:      for ``failed``: why, in one line
    last_lines: for ``failed``: the end of what it left in its ComponentLog, or of its traceback
    """

    component: str
    how: str
    pid: int | None = None
    seconds: float = 0.0
    log_offset: int = 0
    tries: int = 0
    error: str = ""
    last_lines: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for module results."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def failures(started: Iterable[Started]) -> str:
    """One line that names the components that failed and why; empty where none did."""
    parts = [f"{one.component} ({one.error})" for one in started if one.how == FAILED]
    return f"these components did not stay up: {', '.join(parts)}" if parts else ""


def component_environment(release: Release, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment components get: the given one over a small, clean base.

    WMAGENT_CONFIG, WMCORE_ROOT and PATH are the release's; nothing else of the session gets through.
    """
    user = pwd.getpwuid(os.geteuid())
    base = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    base |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell or "/bin/sh"}
    base |= environment
    path = environment.get("PATH") or "/usr/local/bin:/usr/bin:/bin"
    base |= {
        "PATH": f"{release.prefix}/bin:{path}",
        "PWD": user.pw_dir,  # WMCore.Agent.Daemon.Details.run reads it, and a session without a shell has none
        "VIRTUAL_ENV": str(release.prefix),
        "WMCORE_ROOT": str(release.prefix),
        "WMA_DEPLOY_DIR": str(release.prefix),  # AgentStatusWatcher reads etc/replication_selector.json below it
        "WMAGENT_CONFIG": str(release.config),
        # A release never changes; and Python would keep config.py, passwords and all, in a file that anyone may read.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return base


class PreparedStart:
    """A release's interpreter that has imported everything and waits for the word. Use ``go`` or ``abandon``.

    components:  those it will start
    cpu_seconds: what the imports took
    """

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes], owner: Owner, timeout: float) -> None:
        self._process = process
        self._errors = errors
        self._owner = owner
        self._timeout = timeout
        self._pending = b""
        self.components: list[str] = []
        self.folders: dict[str, Path] = {}
        self.logs: dict[str, Path] = {}
        self.cpu_seconds = 0.0
        self.up_at: float | None = None
        """``time.monotonic()`` when the last component was up with its worker threads; None before ``go``."""

    def wait_ready(self) -> None:
        """Wait until everything is imported. Raises WMAgentError."""
        answer = self._answer(time.monotonic() + self._timeout)
        if answer is None or answer["event"] != "ready":
            reason = answer["message"] if answer else self._last_words()
            self._process.kill()
            self.abandon()
            first_line = next((line.strip() for line in reason.splitlines() if line.strip()), "no reason given")
            raise WMAgentError(f"the release cannot start its components: {first_line}")
        self.components = list(answer["described"])
        self.cpu_seconds = answer["cpu"]
        for name, described in answer["described"].items():
            self.folders[name] = Path(os.path.realpath(described["dir"]))
            self.logs[name] = Path(described["log"])
        astray = [name for name, folder in self.folders.items() if folder != self._owner.work_dir / name]
        if astray:
            self.abandon()
            raise WMAgentError(
                f"config.py puts {', '.join(astray)} outside {self._owner.work_dir}/<component>; correct componentDir"
            )

    def running(self) -> dict[str, int]:
        """Components that run already and are ours: component -> pid."""
        found = {}
        for name, living in daemons.component_processes(self._owner).items():
            daemon = daemons.read_daemon(self._owner.work_dir / name)
            for process in living:
                if daemon and process.pid == daemon.pid:
                    found[name] = process.pid
        return found

    def go(self, settle_seconds: float = 1.0) -> list[Started]:
        """Start all components that do not run yet, AgentWatchdog last, and watch them for ``settle_seconds``.

        Returns one entry per component; those that died or never came up are ``failed``. AgentWatchdog is not started
        where another one failed, because it would start that one again and again. Raises WMAgentError where the
        starter itself fails.
        """
        running = self.running()
        wanted = [name for name in self.components if name not in running]
        for name in wanted:
            daemons.move_daemon_file_aside(self.folders[name])
            daemons.remove_threads_file(self.folders[name])
        first = [name for name in wanted if name != WATCHDOG]
        self._send({"timeout": self._timeout, "first": first, "last": [one for one in wanted if one == WATCHDOG]})
        results = {name: Started(name, RUNNING, pid) for name, pid in running.items() if name in self.components}
        self._collect(results, set(wanted))
        self.up_at = time.monotonic()
        _settle(results, self.logs, settle_seconds)
        with contextlib.suppress(WMAgentError):  # a starter that is gone has said so above
            self._send({"write": "threads"})
            self._answer(time.monotonic() + 10)
        self.abandon()
        return [results[name] for name in self.components]

    def _collect(self, results: dict[str, Started], wanted: set[str]) -> None:
        deadline = time.monotonic() + self._timeout + 5
        while (answer := self._answer(deadline)) and answer["event"] != "done":
            name = answer["component"]
            left = answer.get("error", "")
            results[name] = Started(
                component=name,
                how=UP if answer["event"] == "up" else FAILED,
                pid=answer["pid"],
                seconds=answer.get("seconds", 0.0),
                log_offset=answer["offset"],
                tries=answer["tries"],
                error=component_log.telling_line(left),
                last_lines=component_log.last_lines(left),
            )
        for name in wanted - set(results):
            # AgentWatchdog is held back on purpose after a failure; anything else was lost with the starter.
            how = NOT_STARTED if name == WATCHDOG else FAILED
            results[name] = Started(name, how, error="" if how == NOT_STARTED else self._last_words())

    def abandon(self) -> None:
        """Let the interpreter go; it starts nothing it was not told to. Harmless after ``go``."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None  # for the type checker: opened as a pipe
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise WMAgentError(f"the prepared start is gone: {self._last_words()}; run it again") from None

    def _answer(self, deadline: float) -> dict[str, Any] | None:
        """The next answer; None at the end of the stream or the time limit."""
        assert self._process.stdout is not None  # for the type checker: opened as a pipe
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                block = os.read(self._process.stdout.fileno(), 65536)
                if not block:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(timeout=1)
                    return None
                self._pending += block
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        if self._errors.closed:
            return "its starter ended early"
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            return lines[-1].strip()
        return "its starter ended early" if self._process.poll() is not None else f"no answer in {self._timeout:g} s"


def prepare_start(
    release: Release,
    layout: AgentLayout,
    components: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> PreparedStart:
    """Start the release's interpreter and let it import config and all components, while the old ones still run.

    components:  names, empty for all that config.py has
    environment: variables for the components, e.g. X509_HOST_CERT
    timeout:     seconds for the imports, and again for all components to come up

    Raises WMAgentError: interpreter missing, config.py broken, unknown component, import error, time limit.
    """
    owner = Owner.of(layout.work_dir, [release.prefix, *(one.prefix for one in layout.all_releases())])
    argv = [str(release.python), f"{release.prefix}/bin/wmcoreD", "--start"]
    request = {
        "code": inspect.getsource(starter),
        "config": str(release.config),
        "components": list(components),
        "argv": argv,
    }
    room = sum(len(one) for one in argv) + len(str(release.config)) + _ROOM
    command = [str(release.python), "-sP", "-c", starter.BOOTSTRAP, *argv[1:], " " * room]
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process that writes to it
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd="/",
            env=component_environment(release, environment or {}),
            start_new_session=True,
        )
    except OSError as error:
        errors.close()
        raise WMAgentError(f"{release.python} cannot be run ({error.strerror}); stage this release again") from None
    prepared = PreparedStart(process, errors, owner, timeout)
    prepared._send(request)
    prepared.wait_ready()
    return prepared


def _settle(results: dict[str, Started], logs: Mapping[str, Path], seconds: float) -> None:
    """Watch for ``seconds``, or until one dies; mark those as failed that died."""
    watched: dict[str, Handle] = {}
    for name, one in results.items():
        process = processes.read_process(one.pid) if one.how == UP and one.pid else None
        if one.how == UP and process is not None:
            watched[name] = Handle(process)
        elif one.how == UP:
            results[name] = _died(one, logs[name])
    deadline = time.monotonic() + seconds
    while watched and (left := deadline - time.monotonic()) > 0:
        if len(processes.wait_gone(watched.values(), left)) < len(watched):
            break
    for name, handle in watched.items():
        if not handle.alive():
            results[name] = _died(results[name], logs[name])
        handle.close()


def _died(one: Started, log: Path) -> Started:
    left = component_log.written_since(log, one.log_offset)
    reason = component_log.telling_line(left) or "it left no word"
    return replace(one, how=FAILED, error=reason, last_lines=component_log.last_lines(left))
