# SPDX-License-Identifier: GPL-3.0-or-later
"""From locked packages to wheel files: downloaded with their hashes checked, or built here, repeatably, from sdists."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shlex
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_lock import Pin, write_lock
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_request import BUILDER
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_tools import BuildTools, this_platform
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.wheelfile import (
    EPOCH,
    file_digest,
    normal_name,
    normalise_wheel,
    parse_wheel_name,
)


@dataclass(frozen=True)
class Fetched:
    """A wheel and the published file it comes from, which is itself or an sdist, with that one's digest."""

    pin: Pin
    wheel: Path
    published: Path
    source: str


def missing_pins(pins: Sequence[Pin], tools: BuildTools, python: str) -> list[Pin]:
    """Those of ``pins`` whose file is not in the cache yet."""
    return [pin for pin in pins if _cached(pin, tools, python) is None]


def fetch_wheels(pins: Sequence[Pin], builder: Sequence[Pin], tools: BuildTools, python: str) -> list[Fetched]:
    """A wheel for each pin, from the cache, the package index or a build.

    builder: the packages that sdists are built with
    python:  version of the interpreter of ``tools``

    Raises WMAgentError where a file is missing, has another hash or does not build.
    """
    wanted = missing_pins(pins, tools, python)
    if wanted:
        tools.log(f"downloading {len(wanted)} of {len(pins)} packages")
        _download(wanted, builder, tools, python)
    found = [_wheel_of(pin, builder, tools, python) for pin in pins]
    return [item for item in found if item is not None]


def _files(tools: BuildTools, python: str) -> Path:
    """Published files, each in a folder named by its SHA-256."""
    return tools.cache / "files" / f"{python}-{this_platform()}"


def _cached(pin: Pin, tools: BuildTools, python: str) -> Path | None:
    """The published file of a pin, checked; a damaged one is removed and so fetched again."""
    for value in pin.hashes:
        folder = _files(tools, python) / value.removeprefix("sha256:")
        for file in folder.glob("*") if folder.is_dir() else ():
            if file_digest(file) == value:
                return file
            file.unlink()
    return None


def _download(pins: Sequence[Pin], builder: Sequence[Pin], tools: BuildTools, python: str) -> None:
    interpreter = builder_python(builder, tools, python)
    store = _files(tools, python)
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wmagent-download-", dir=store) as name:
        folder = Path(name)
        lock = folder / "lock.txt"
        lock.write_text(write_lock(pins), encoding="utf-8")
        command: list[str | Path] = [
            interpreter,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
        ]
        command += ["--require-hashes", "--no-deps", "--no-build-isolation", "--prefer-binary"]
        tools.run(
            [*command, "--dest", folder / "got", "--requirement", lock], "downloading packages", _repeatable(folder)
        )
        for file in sorted((folder / "got").iterdir()):
            target = store / file_digest(file).removeprefix("sha256:") / file.name
            target.parent.mkdir(exist_ok=True)
            file.rename(target)


def _wheel_of(pin: Pin, builder: Sequence[Pin], tools: BuildTools, python: str) -> Fetched | None:
    file = _cached(pin, tools, python)
    if file is None and pin.marker:
        return None  # pip, which knows the interpreter, found that the marker leaves it out
    if file is None:
        raise WMAgentError(
            f"{pin.name}=={pin.version} was not found under one of its locked hashes; make the lock again"
        )
    source = "sha256:" + file.parent.name
    if file.suffix == ".whl":
        return Fetched(pin, file, file, source)
    recipe = hashlib.sha256(f"{BUILDER} {python} {source} {write_lock(builder)}".encode()).hexdigest()
    folder = tools.cache / "built" / recipe
    built = next(folder.glob("*.whl"), None)
    if built is None:
        tools.log(f"building {pin.name} {pin.version}")
        built = _build(file, folder, builder, tools, python)
    if parse_wheel_name(built.name).name != pin.name:
        raise WMAgentError(f"{file.name} built {built.name}, which is not {pin.name}; do not use this package")
    return Fetched(pin, built, file, source)


def _build(sdist: Path, target: Path, builder: Sequence[Pin], tools: BuildTools, python: str) -> Path:
    """Build one wheel where only the sdist and the tools decide its bytes; ``target`` holds it wholly or not at all."""
    interpreter = builder_python(builder, tools, python)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wmagent-build-", dir=target.parent) as name:
        work = Path(name)
        source = _unpack_sdist(sdist, work / "source", tools)
        command: list[str | Path] = [
            interpreter,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        command += ["--no-index", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", work / "raw", source]
        tools.run(command, f"building {sdist.name}", _repeatable(work), cwd=work)
        raw = next((work / "raw").glob("*.whl"))
        (work / "done").mkdir()
        normalise_wheel(raw, work / "done" / raw.name, work / "unpacked")
        if not target.is_dir():
            (work / "done").rename(target)
    return next(target.glob("*.whl"))


def _unpack_sdist(sdist: Path, folder: Path, tools: BuildTools) -> Path:
    what = f"unpacking {sdist.name}"
    folder.mkdir()
    if sdist.suffix == ".zip":
        try:
            with zipfile.ZipFile(sdist) as archive:
                archive.extractall(folder)
        except zipfile.BadZipFile as error:
            raise WMAgentError(f"{what} failed: {error}; remove {sdist} and build again") from None
    else:
        tools.run(["tar", "-xf", sdist, "--no-same-owner", "--no-same-permissions", "-C", folder], what)
    inside = list(folder.iterdir())
    if len(inside) != 1:
        raise WMAgentError(f"{what} gives {len(inside)} top folders instead of one; it is no source package")
    return inside[0]


def builder_python(builder: Sequence[Pin], tools: BuildTools, python: str) -> Path:
    """Interpreter of the environment that downloads and builds; made once for each lock of it."""
    key = hashlib.sha256(f"{python} {write_lock(builder)}".encode()).hexdigest()[:16]
    environment = tools.cache / "builders" / key
    interpreter = environment / "bin" / "python"
    if (environment / "complete").is_file():
        return interpreter
    tools.log("making the build environment")
    environment.parent.mkdir(parents=True, exist_ok=True)
    with _alone(environment.with_suffix(".lock")):
        if not (environment / "complete").is_file():
            # Not renamed into place: an environment knows its own path.
            shutil.rmtree(environment, ignore_errors=True)
            _make_builder(environment, builder, tools)
    return interpreter


def _make_builder(environment: Path, builder: Sequence[Pin], tools: BuildTools) -> None:
    what = "making the build environment"
    tools.uv(["venv", "--quiet", "--python", str(tools.python), str(environment)], what)
    lock = environment / "lock.txt"
    lock.write_text(write_lock(builder), encoding="utf-8")
    install = ["pip", "install", "--quiet", "--python", str(environment / "bin" / "python"), "--no-deps"]
    tools.uv([*install, "--require-hashes", "-r", str(lock)], what)
    (environment / "complete").touch()


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Only one build at a time makes the environment; the holder's own time limits bound the wait."""
    with file.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _repeatable(work: Path) -> dict[str, str]:
    """An environment in which a compiler leaves neither time nor place in what it makes."""
    here = shlex.quote(f"-ffile-prefix-map={work}=.")
    return {
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TMPDIR": str(work),
        "CFLAGS": f"-g0 {here}",
        "CXXFLAGS": f"-g0 {here}",
        "LDFLAGS": "-Wl,--build-id=none -Wl,-s",
    }


def locked_lines(fetched: Sequence[Fetched]) -> tuple[str, ...]:
    """What an image description says of where its wheels come from."""
    return tuple(f"{item.pin.name}=={item.pin.version} {item.source}" for item in fetched)


def compact_lock(fetched: Sequence[Fetched]) -> str:
    """A lock that allows exactly the files that were taken."""
    return write_lock(Pin(item.pin.name, item.pin.version, (item.source,)) for item in fetched)


def wheel_for(fetched: Sequence[Fetched], name: str) -> Fetched:
    """The one of a project; WMAgentError where there is none."""
    for item in fetched:
        if item.pin.name == normal_name(name):
            return item
    raise WMAgentError(f"the lock holds no {name}; make it again")
