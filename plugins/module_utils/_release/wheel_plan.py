# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file of which wheel goes where, before anything is written."""

from __future__ import annotations

import base64
import hashlib
import io
import posixpath
import re
import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import Any, BinaryIO

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Wheel
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.files import InstalledFile

INSTALLER = b"dmwm.wmagent\n"
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class PlannedFile:
    """A file to put in place: either member ``member`` of the wheel in ``blob``, or ``content``."""

    path: str
    file: InstalledFile
    wheel: str
    blob: Path | None = None
    member: str = ""
    content: bytes = b""


def plan_wheels(
    wheels: Sequence[tuple[Wheel, Path]], final_prefix: Path, library: str, python_version: str
) -> dict[str, PlannedFile]:
    """Plan the installation of ``wheels`` (each with the file that holds it) under ``final_prefix``.

    library:        where packages go, relative to the prefix
    python_version: ``3.11``; names the folder of C headers

    Returns path relative to the prefix → file. Where two wheels hold one path, the wheel that needs the other one
    wins, as when pip installs dependencies first. Raises WMAgentError where a wheel is no wheel or holds a path
    that leads out of the prefix.
    """
    import_installer([path for wheel, path in wheels if wheel.name == "installer"])
    planned: dict[str, PlannedFile] = {}
    for wheel, path in _dependencies_first(wheels):
        for file in _plan_wheel(wheel, path, final_prefix, library, python_version):
            planned[file.path] = file
    _check_no_file_is_a_folder(planned)
    return planned


def import_installer(wheels: Iterable[Path] = ()) -> Any:
    """The library ``installer``; taken from its own wheel among ``wheels`` where it is not installed.

    Raises WMAgentError where it is in neither.
    """
    try:
        import installer
    except ImportError:
        sys.path.extend(str(path) for path in wheels)
        try:
            import installer
        except ImportError:
            raise WMAgentError(
                f"{sys.executable} has no library 'installer'; run module dmwm.wmagent.tools and set "
                "ansible_python_interpreter to the python it returns"
            ) from None
    return installer


def _check_no_file_is_a_folder(planned: dict[str, PlannedFile]) -> None:
    for target, file in planned.items():
        for parent in _parents(target):
            if parent in planned:
                raise WMAgentError(
                    f"{planned[parent].wheel} installs {parent} as a file, {file.wheel} as a folder; change the image"
                )


def _plan_wheel(
    wheel: Wheel, blob: Path, final_prefix: Path, library: str, python_version: str
) -> Iterator[PlannedFile]:
    from installer import install
    from installer.sources import WheelFile

    try:
        with zipfile.ZipFile(blob) as archive:
            archive.filename = wheel.filename
            source = _watched(WheelFile)(archive)
            folders = {
                "purelib": library,
                "platlib": library,
                "scripts": "bin",
                "data": "",
                "headers": f"include/site/python{python_version}/{wheel.name}",
            }
            destination = _planner()(source, wheel, blob, folders, f"{final_prefix}/bin/python")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # byte code inside a wheel is left out, which is all it has to say
                install(source, destination, {"INSTALLER": INSTALLER})
    except WMAgentError:
        raise
    except Exception as error:  # the library has no common base for what it makes of a damaged wheel
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WMAgentError(f"{wheel.filename} cannot be installed ({reason}); build the image again") from None
    yield from destination.planned


def _watched(base: Any) -> Any:
    class Watched(base):
        """Tells which member is being handed out, which the library keeps to itself."""

        current: tuple[str, str, str] = ("", "", "")

        def get_contents(self) -> Iterator[Any]:
            for element in super().get_contents():
                self.current = element[0]
                yield element

    return Watched


def _planner() -> Any:
    from installer.destinations import WheelDestination
    from installer.records import Hash, RecordEntry
    from installer.scripts import Script
    from installer.utils import construct_record_file, fix_shebang

    class Planner(WheelDestination):
        """Writes nothing: notes what the library would write, and takes digests from RECORD where it can."""

        def __init__(self, source: Any, wheel: Wheel, blob: Path, folders: Mapping[str, str], python: str) -> None:
            self.planned: list[PlannedFile] = []
            self._source, self._wheel, self._blob = source, wheel, blob
            self._folders, self._python = folders, python

        def write_file(self, scheme: str, path: Any, stream: BinaryIO, is_executable: bool) -> Any:
            member, recorded, size = self._source.current
            mode = 0o755 if is_executable else 0o644
            if scheme == "scripts":
                with fix_shebang(stream, self._python) as changed:
                    return self._note(scheme, path, mode, changed.read())
            if isinstance(stream, io.BytesIO):  # made by the library's caller, not from the wheel
                return self._note(scheme, path, mode, stream.read())
            if recorded.startswith("sha256=") and size:
                digest, length = _hex(recorded), int(size)
            else:
                content = stream.read()
                digest, length = hashlib.sha256(content).hexdigest(), len(content)
            file = InstalledFile(digest, length, mode)
            target = self._target(scheme, path)
            self.planned.append(PlannedFile(target, file, self._wheel.filename, self._blob, member))
            return RecordEntry(path, Hash("sha256", _base64(digest)), length)

        def write_script(self, name: str, module: str, attr: str, section: Any) -> Any:
            file_name, content = Script(name, module, attr, section).generate(self._python, "posix")
            return self._note("scripts", file_name, 0o755, content)

        def finalize_installation(self, scheme: str, record_file_path: str, records: Any) -> None:
            library = self._folders["purelib"]
            prefixes = {name: posixpath.relpath(folder or ".", library) + "/" for name, folder in self._folders.items()}
            prefixes["purelib"] = prefixes["platlib"] = None  # type: ignore[assignment]
            with construct_record_file(records, prefixes.get) as stream:
                self._note(scheme, record_file_path, 0o644, stream.read())

        def _note(self, scheme: str, path: str, mode: int, content: bytes) -> Any:
            digest = hashlib.sha256(content).hexdigest()
            file = InstalledFile(digest, len(content), mode)
            target = self._target(scheme, path)
            self.planned.append(PlannedFile(target, file, self._wheel.filename, content=content))
            return RecordEntry(path, Hash("sha256", _base64(digest)), len(content))

        def _target(self, scheme: str, path: str) -> str:
            folder = self._folders[scheme]
            target = posixpath.normpath(posixpath.join(folder, path))
            inside = posixpath.normpath(path)
            if inside.startswith(("../", "/")) or inside in ("..", "."):
                raise WMAgentError(
                    f"{self._wheel.filename} holds {path!r}, which leads out of its folder; build the image again"
                )
            return target

    return Planner


def _dependencies_first(wheels: Sequence[tuple[Wheel, Path]]) -> list[tuple[Wheel, Path]]:
    by_name = {wheel.name: (wheel, path) for wheel, path in wheels}
    if len(by_name) != len(wheels):
        raise WMAgentError("the image holds one project in two wheels; build it again")
    needs = {name: _requirements(wheel, path) & by_name.keys() for name, (wheel, path) in by_name.items()}
    ordered: dict[str, None] = {}
    for start in sorted(by_name):
        waiting = [(start, iter(sorted(needs[start])))]
        entered = {start}
        while waiting:
            name, rest = waiting[-1]
            following = next((other for other in rest if other not in ordered and other not in entered), None)
            if following is None:
                ordered.setdefault(name)
                waiting.pop()
            else:
                entered.add(following)
                waiting.append((following, iter(sorted(needs[following]))))
    return [by_name[name] for name in ordered]


def _requirements(wheel: Wheel, path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            text = archive.read(names[0]).decode("utf-8", "replace") if names else ""
    except (OSError, zipfile.BadZipFile) as error:
        raise WMAgentError(f"{wheel.filename} is no wheel ({error}); build the image again") from None
    headers = HeaderParser().parsestr(text)
    found = (_REQUIREMENT.match(line.strip()) for line in headers.get_all("Requires-Dist", []))
    return {re.sub(r"[-_.]+", "-", match.group()).lower() for match in found if match}


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


def _hex(recorded: str) -> str:
    encoded = recorded.partition("=")[2]
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex()


def _base64(digest: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(digest)).decode("ascii").rstrip("=")
