# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that a build runs, always with a time limit and one line on failure."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_LAST_LINES = 6
_LENGTH = 700
_NOISE = (
    "WARNING:",
    "warning:",
    "[notice]",
    "error: subprocess-exited-with-error",
    "ERROR: Failed building wheel",
    "ERROR: Failed to build",
)


@dataclass(frozen=True)
class BuildTools:
    """Where a build works and what it runs.

    python:  interpreter that images are built for
    cache:   folder of downloads and built wheels; may be shared by builds that run at once
    timeout: seconds for one program (a resolution, a download of everything, one compilation)
    log:     called with a line for each step
    """

    python: Path
    cache: Path
    timeout: float = 1800
    log: Callable[[str], None] = field(default=lambda _line: None, repr=False)

    def python_version(self) -> str:
        """``3.11``. Raises WMAgentError where the interpreter is missing or of another platform."""
        code = "import sys, sysconfig; print('%d.%d' % sys.version_info[:2], sysconfig.get_platform())"
        try:
            done = subprocess.run([self.python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            raise WMAgentError(
                f"{self.python} is no working Python; install it (apt install python3.11) or give another"
            ) from None
        version, its_platform = done.stdout.split()
        if its_platform != this_platform():
            raise WMAgentError(
                f"{self.python} is for {its_platform}, this machine is {this_platform()}; give one of this machine"
            )
        return version

    def uv(self, arguments: Sequence[str], what: str, environment: Mapping[str, str] | None = None) -> str:
        """Run uv; returns its standard output. ``what`` names the step in an error."""
        return self.run([_find_uv(), *arguments], what, environment)

    def run(
        self,
        command: Sequence[str | Path],
        what: str,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> str:
        """Run a program and return its standard output. Raises WMAgentError with the program's last words."""
        try:
            done = subprocess.run(
                [str(part) for part in command],
                env={**os.environ, **(environment or {})},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.timeout,
                check=False,
            )
        except FileNotFoundError:
            raise WMAgentError(f"{what}: {command[0]} is not installed; install it") from None
        except subprocess.TimeoutExpired:
            raise WMAgentError(
                f"{what} did not finish within {self.timeout:g} s; try again or raise the time limit"
            ) from None
        if done.returncode != 0:
            raise WMAgentError(f"{what} failed: {_last_words(done.stderr or done.stdout)}")
        return done.stdout


def this_platform() -> str:
    """The platform of this machine as images name it, like ``linux-x86_64``."""
    return sysconfig.get_platform() if sys.platform != "linux" else f"linux-{platform.machine()}"


def _find_uv() -> str:
    """uv of the environment that runs us, else of the PATH."""
    beside = Path(sys.executable).with_name("uv")
    if beside.is_file():
        return str(beside)
    found = shutil.which("uv")
    if not found:
        raise WMAgentError("uv is not installed; pip install uv")
    return found


def _last_words(output: str) -> str:
    """A program's complaint in one line, without decoration and without lines that only frame others."""
    lines = [" ".join(line.strip(" \t│\u00d7╰─▶┌└").split()) for line in output.splitlines()]
    lines = [line for line in lines if line and not line.startswith(_NOISE)]
    if any(line.startswith("cause:") for line in lines):
        return "; ".join(lines)[:_LENGTH]
    wanted = [line for line in lines if "error:" in line.lower() or line.lower().startswith(("because", "hint"))]
    return "; ".join((wanted or lines)[-_LAST_LINES:])[:_LENGTH] or "no reason given"
