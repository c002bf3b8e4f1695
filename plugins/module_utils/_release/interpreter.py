# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python that a release is made for, and the skeleton that makes a folder its environment."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_PROBE = """
import json, os, sys, sysconfig
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (ValueError, OSError, AttributeError):
    libc = ""
print(json.dumps({
    "executable": getattr(sys, "_base_executable", sys.executable),
    "version": "%d.%d" % sys.version_info[:2],
    "full_version": "%d.%d.%d" % sys.version_info[:3],
    "implementation": sys.implementation.name,
    "cache_tag": sys.implementation.cache_tag,
    "platform": sysconfig.get_platform(),
    "glibc": libc.rpartition(" ")[2],
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python as it says itself. ``executable`` is the base one, outside any environment."""

    executable: Path
    version: str
    full_version: str
    implementation: str
    cache_tag: str
    platform: str
    glibc: str

    @property
    def library(self) -> str:
        """Where packages go, relative to the prefix."""
        return f"lib/python{self.version}/site-packages"


def probe(python: Path, timeout: float = 30) -> Interpreter:
    """Ask ``python`` what it is.

    timeout: seconds. Raises WMAgentError where it does not run.
    """
    try:
        answer = subprocess.run(
            [str(python), "-I", "-S", "-c", _PROBE], capture_output=True, text=True, timeout=timeout, check=True
        )
        data = json.loads(answer.stdout)
    except FileNotFoundError:
        raise WMAgentError(f"{python} does not exist; install it or set wmagent_python") from None
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise WMAgentError(f"{python} does not run ({type(error).__name__}); set wmagent_python") from None
    return Interpreter(**{**data, "executable": Path(data["executable"])})


def problems_with(python: Interpreter, image: str, version: str, platform: str, glibc: str) -> list[str]:
    """Why an image for ``version``, ``platform`` and ``glibc`` does not run with ``python``. Pure."""
    problems = []
    if python.version != version:
        problems.append(f"image {image} is for Python {version}, {python.executable} is {python.version}")
    if python.implementation != "cpython":
        problems.append(f"image {image} is for CPython, {python.executable} is {python.implementation}")
    if platform != python.platform:
        problems.append(f"image {image} is for {platform}, this host is {python.platform}")
    if glibc and _numbers(python.glibc) < _numbers(glibc):
        problems.append(f"image {image} needs glibc {glibc}, this host has {python.glibc or 'none'}")
    return problems


def environment_links(python: Interpreter) -> dict[str, str]:
    """Links of an environment of ``python``, relative to its prefix, as venv makes them."""
    return {
        "bin/python": str(python.executable),
        "bin/python3": "python",
        f"bin/python{python.version}": "python",
        "lib64": "lib",
    }


def environment_config(python: Interpreter) -> bytes:
    """Content of ``pyvenv.cfg``."""
    return (
        f"home = {python.executable.parent}\n"
        "include-system-site-packages = false\n"
        f"version = {python.full_version}\n"
        f"executable = {python.executable}\n"
    ).encode()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
