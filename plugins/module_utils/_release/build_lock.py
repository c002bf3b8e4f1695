# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks: every package of an image with its version and hashes, resolved by uv or given."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_request import PROJECT, BuildRequest
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_tools import BuildTools
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.wheelfile import normal_name

_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==(?P<version>[^\s;]+)\s*(?:;(?P<marker>.*))?")
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """One package of a lock. ``hashes`` (``sha256:…``, sorted) are those of all files that may be taken for it."""

    name: str
    version: str
    hashes: tuple[str, ...]
    marker: str = ""

    def as_line(self) -> str:
        """The pin as a line of a requirements file."""
        marker = f" ; {self.marker}" if self.marker else ""
        return " ".join([f"{self.name}=={self.version}{marker}", *(f"--hash={value}" for value in self.hashes)])


def parse_lock(text: str, where: str) -> list[Pin]:
    """Read a lock, sorted by name.

    Raises WMAgentError for a line that is no pin with SHA-256 hashes: a lock decides alone what is taken.
    """
    pins: dict[str, Pin] = {}
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        bare = line.split(" #")[0].strip()
        if not bare or bare.startswith("#"):
            continue
        requirement = bare.split("--hash")[0].strip()
        match = _PIN.fullmatch(requirement)
        hashes = tuple(sorted(set(_HASH.findall(bare))))
        if not match or not hashes:
            raise WMAgentError(
                f"{where}: {requirement[:80]!r} is not 'name==version' with --hash=sha256:…; make the lock again"
            )
        pin = Pin(normal_name(match["name"]), match["version"], hashes, (match["marker"] or "").strip())
        if pin.name in pins:
            raise WMAgentError(f"{where} names {pin.name} twice; make the lock again")
        pins[pin.name] = pin
    if not pins:
        raise WMAgentError(f"{where} is empty; make the lock again")
    return [pins[name] for name in sorted(pins)]


def write_lock(pins: Iterable[Pin]) -> str:
    """A lock's text: one line for each pin, sorted."""
    return "".join(pin.as_line() + "\n" for pin in sorted(pins, key=lambda pin: pin.name))


def release_pins(request: BuildRequest, tools: BuildTools) -> list[Pin]:
    """The packages of a request: those of its lock, or resolved now.

    Raises WMAgentError where nothing resolves, or the lock is not for this tag or lacks a requirement.
    """
    if not request.lock:
        wanted = [f"{PROJECT}=={request.tag}", *request.requirements]
        tools.log(f"resolving {', '.join(wanted)}")
        return resolve(wanted, tools, request.overrides, request.build_requirements)
    pins = parse_lock(request.lock, f"the lock of image {request.name}")
    versions = {pin.name: pin.version for pin in pins}
    if versions.get(PROJECT) != request.tag:
        found = versions.get(PROJECT, "none")
        raise WMAgentError(f"the lock of image {request.name} is for {PROJECT} {found}; give the lock of {request.tag}")
    for name in sorted(required_names(request.requirements)):
        if name not in versions:
            raise WMAgentError(
                f"the lock of image {request.name} lacks {name}; make a new lock (build once without one)"
            )
    return pins


def build_pins(request: BuildRequest, tools: BuildTools) -> list[Pin]:
    """The packages that sdists are built with."""
    if request.build_lock:
        where = "the lock of the build requirements"
        pins = parse_lock(request.build_lock, where)
        if missing := required_names(["pip", *request.build_requirements]) - {pin.name for pin in pins}:
            raise WMAgentError(f"{where} lacks {', '.join(sorted(missing))}; make a new lock or leave it out")
        return pins
    return resolve(["pip", *request.build_requirements], tools)


def required_names(requirements: Iterable[str]) -> set[str]:
    """The projects that requirements name."""
    return {normal_name(re.split(r"[\s\[<>=!~;@(]", line.strip(), maxsplit=1)[0]) for line in requirements}


def resolve(
    requirements: Iterable[str],
    tools: BuildTools,
    overrides: Iterable[str] = (),
    build_constraints: Iterable[str] = (),
) -> list[Pin]:
    """Resolve requirements for the interpreter of ``tools``, with the hashes of all their files."""
    with tempfile.TemporaryDirectory(prefix="wmagent-lock-") as name:
        folder = Path(name)
        files = {"requirements": requirements, "override": overrides, "build-constraint": build_constraints}
        for kind, lines in files.items():
            (folder / f"{kind}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        arguments = ["pip", "compile", "--quiet", "--python", str(tools.python), "--generate-hashes"]
        arguments += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
        arguments += [
            "--override",
            str(folder / "override.txt"),
            "--build-constraint",
            str(folder / "build-constraint.txt"),
        ]
        text = tools.uv([*arguments, str(folder / "requirements.txt")], "resolving the requirements")
    return parse_lock(text, "uv's lock")
