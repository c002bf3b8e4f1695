# SPDX-License-Identifier: GPL-3.0-or-later
"""WMAgent as people installed it by hand: a virtual environment with the packages of one tag.

It is made once for each tag and copied to each agent, so that a hand patch on one of them stays with that one.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import open_repository

from .settings import Lab

DONE = ".complete"
# Nobody edits these in place (Python itself replaces a .pyc), so agents share them: that saves most of the time.
LINKED = frozenset((".pyc", ".so", ".mo", ".po", ".dat"))
# Source distributions of a few dependencies build only with a setuptools that still has pkg_resources.
BUILD_CONSTRAINTS = "setuptools<81\n"


@dataclass(frozen=True)
class Source:
    """Where the packages come from: an image of a repository, or (without an image) requirements from an index."""

    image: str
    repository: str
    requirements: tuple[str, ...]
    python: str

    def key(self) -> str:
        """Folder name for what this source gives: an image's content, or the words of the requirements."""
        if self.image:
            image = open_repository(self.repository, timeout=60).image(self.image)
            return f"{image.name}-{image.digest.removeprefix('sha256:')[:12]}"
        digest = hashlib.sha256("\n".join((*self.requirements, self.python)).encode())
        return f"index-{digest.hexdigest()[:12]}"


def build(lab: Lab, source: Source, timeout: float = 1800) -> Path:
    """The by-hand environment of ``source``, made where it is not there yet. ``timeout``: seconds."""
    folder = lab.software / source.key()
    lab.software.mkdir(parents=True, exist_ok=True)
    # Agents come up side by side: one makes the environment, the others wait for it.
    with (lab.software / f".{folder.name}.lock").open("w") as handle:
        flock(handle, LOCK_EX)
        if not (folder / DONE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _install(source, folder, timeout)
            (folder / DONE).touch()
    return folder


def _install(source: Source, folder: Path, timeout: float) -> None:
    uv = _uv()
    _run([uv, "venv", "--quiet", "--python", source.python, str(folder)], timeout)
    base = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "--link-mode", "copy"]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".wheels-") as scratch:
        if source.image:
            _run([*base, "--offline", "--no-deps", *_wheels(source, Path(scratch))], timeout)
        else:
            constraints = Path(scratch) / "build.txt"
            constraints.write_text(BUILD_CONSTRAINTS, encoding="ascii")
            _run([*base, "--build-constraint", str(constraints), *source.requirements], timeout)
    # Compiled once here instead of by each component of each agent while it starts.
    compile_all = [str(folder / "bin" / "python"), "-m", "compileall", "-q", "-j", "0", str(_site_packages(folder))]
    _run(compile_all, timeout, {1})


def copy(software: Path, prefix: Path) -> None:
    """Copy an environment to its place on an agent and let its scripts run the interpreter there."""
    partial = prefix.with_name(prefix.name + ".new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(software, partial, symlinks=True, copy_function=_copy_or_link)
    (partial / DONE).unlink()
    old, new = f"{software}/bin/python".encode(), f"{prefix}/bin/python".encode()
    changed = {}
    for script in (partial / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        # Two lines, since a shebang that would be too long for the kernel is written as a line of shell.
        first, second, rest = (*script.read_bytes().split(b"\n", 2), b"", b"")[:3]
        if old in first or old in second:
            head = b"\n".join((first, second)).replace(old, new)
            script.write_bytes(head + b"\n" + rest)
            changed[f"../../../bin/{script.name}"] = script.read_bytes()
    _record(partial, changed)
    partial.replace(prefix)


def _copy_or_link(source: str, target: str) -> None:
    if Path(source).suffix in LINKED:
        try:
            os.link(source, target)
            return
        except OSError:
            # Another disk, or one without links.
            pass
    shutil.copy2(source, target)


def _record(prefix: Path, changed: Mapping[str, bytes]) -> None:
    """Have the packages' RECORDs say what their scripts are, as an installation in this place would have written."""
    for file in _site_packages(prefix).glob("*.dist-info/RECORD"):
        lines = file.read_text(encoding="utf-8").splitlines()
        renewed = [_record_line(line, changed) for line in lines]
        if renewed != lines:
            file.write_text("\n".join(renewed) + "\n", encoding="utf-8")


def _record_line(line: str, changed: Mapping[str, bytes]) -> str:
    content = changed.get(line.partition(",")[0])
    if content is None:
        return line
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{line.partition(',')[0]},sha256={digest},{len(content)}"


def tag_of(prefix: Path) -> str:
    """Version of the installed ``wmagent``, without a local version. Raises WMAgentError where there is none."""
    found = sorted(_site_packages(prefix).glob("wmagent-*.dist-info"))
    if not found:
        raise WMAgentError(f"{prefix} has no wmagent package; check wmagent_lab_image or wmagent_lab_requirements")
    return found[0].name.removeprefix("wmagent-").removesuffix(".dist-info").split("+")[0]


def hand_patch(prefix: Path) -> Path:
    """Change one file of an installed agent as somebody in a hurry would; returns the file."""
    file = _site_packages(prefix) / "WMComponent" / "JobSubmitter" / "JobSubmitterPoller.py"
    text = file.read_text(encoding="utf-8")
    marker = "# patched by hand: keep more jobs in the cache\n"
    if marker not in text:
        file.write_text(text + marker, encoding="utf-8")
    return file


def _site_packages(prefix: Path) -> Path:
    found = sorted(prefix.glob("lib/python3*/site-packages"))
    if not found:
        raise WMAgentError(f"{prefix} is not a Python environment; remove it and start the lab again")
    return found[0]


def _wheels(source: Source, scratch: Path) -> list[str]:
    repository = open_repository(source.repository, timeout=60)
    files = []
    for wheel in repository.image(source.image).description.wheels:
        if wheel.part != "release":
            continue
        file = scratch / wheel.filename
        with repository.open_blob(wheel.digest, wheel.size) as blob, file.open("wb") as target:
            while chunk := blob.read(1 << 20):
                target.write(chunk)
        files.append(str(file))
    return files


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = shutil.which("uv") or (str(beside) if beside.exists() else None)
    if found is None:
        raise WMAgentError("uv is not on this machine; install it (pip install uv)")
    return found


def _run(argv: Sequence[str], timeout: float, allowed: frozenset[int] | set[int] = frozenset()) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    try:
        done = subprocess.run(list(argv), env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise WMAgentError(f"{Path(argv[0]).name} took longer than {timeout:.0f} s; start the lab again") from None
    except OSError as error:
        raise WMAgentError(f"{argv[0]} cannot be run ({error.strerror})") from None
    if done.returncode not in {0, *allowed}:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise WMAgentError(f"{Path(argv[0]).name} failed: {' '.join(lines)[-600:] or 'no reason given'}")
