# SPDX-License-Identifier: GPL-3.0-or-later
"""Install a release from staged blobs: aside, complete, checked and on disk, then renamed into ``releases/``."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import (
    RELEASE_FILE,
    AgentLayout,
    Release,
    read_release,
    release_folder_name,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.byte_code import compile_files
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.config_file import CONFIG_FILE, write_config
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import (
    RELEASE_PART,
    Image,
    ImageDescription,
    Wheel,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.drift import OWN_FILES, tree_drift
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.durable import (
    sync_file_system,
    sync_folder,
    write_file,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.files import (
    FILES_FILE,
    FileList,
    InstalledFile,
    content_digest,
    read_file_list,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import (
    Interpreter,
    environment_config,
    environment_links,
    problems_with,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.materialize import (
    LinkSources,
    byte_code_path,
    place_files,
    place_links,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import (
    IMAGE_FILE,
    TRASH_PREFIX,
    disk_usage,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.wheel_plan import PlannedFile, plan_wheels


@dataclass(frozen=True)
class Installed:
    """What an installation did. ``bytes_on_disk`` is what the release adds to what was there, blobs not counted."""

    release: Release
    files_linked: int
    files_written: int
    bytes_on_disk: int
    seconds: float


def install_release(
    layout: AgentLayout,
    image: Image,
    python: Interpreter,
    render: Callable[[Path, Path, Path], str],
    *,
    replace: bool = False,
) -> Installed:
    """Install ``image``, whose wheels are all staged, as ``releases/<image>-<digest12>``. Call it under ``staging``.

    render:  folder where the release stands now, folder where it will stand, its interpreter → text of config.py
    replace: put it in the place of one that stands there already

    Files that an installed release has already are shared by hard links, once their content was found right. A
    release that a killed installation left complete but for its config is taken up again. Raises WMAgentError; the
    blobs stay then, and nothing appears under ``releases/``.
    """
    started = time.monotonic()
    description = image.description
    if problems := problems_with(python, image.name, description.python, description.platform, description.glibc):
        raise WMAgentError("; ".join(problems))
    final = layout.releases / release_folder_name(image.name, image.digest)
    incoming = layout.incoming / final.name
    with _plain_errors(layout):
        layout.releases.mkdir(parents=True, exist_ok=True)
        linked = written = 0
        if not _is_complete(incoming):
            linked, written = _fill(layout, description, python, incoming, final)
        _finish(image, render, incoming, final)
        if replace and final.exists():
            trash = layout.incoming / f"{TRASH_PREFIX}{final.name}"
            shutil.rmtree(trash, ignore_errors=True)
            final.rename(trash)
        incoming.rename(final)
        sync_folder(layout.releases)
        return Installed(
            read_release(final), linked, written, disk_usage(final, only_unshared=True), time.monotonic() - started
        )


def _fill(
    layout: AgentLayout, description: ImageDescription, python: Interpreter, incoming: Path, final: Path
) -> tuple[int, int]:
    store = BlobStore(layout.blobs)
    wheels = description.part(RELEASE_PART)
    if missing := store.missing(wheels):
        names = ", ".join(wheel.filename for wheel in missing[:3])
        raise WMAgentError(
            f"{len(missing)} blobs of image {description.name} are not staged ({names} …); stage it again"
        )
    return install_environment(
        [(wheel, store.path(wheel.digest)) for wheel in wheels],
        python,
        incoming=incoming,
        final=final,
        sources=LinkSources(_installed_lists(layout)),
        extra={IMAGE_FILE: description.to_json()},
    )


def install_environment(
    wheels: Sequence[tuple[Wheel, Path]],
    python: Interpreter,
    *,
    incoming: Path,
    final: Path,
    sources: LinkSources,
    extra: dict[str, bytes],
) -> tuple[int, int]:
    """Make the folder ``incoming`` an environment with ``wheels`` that will work as ``final``.

    Returns how many files were linked and how many written. All is on disk when ``files.json`` is there.
    """
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    incoming.chmod(0o755)
    planned = plan_wheels(wheels, final, python.library, python.version)
    planned["pyvenv.cfg"] = _made("pyvenv.cfg", environment_config(python))
    links = environment_links(python)
    _check_reserved(planned, links)
    previous_mask = os.umask(0o022)
    try:
        place_links(links, incoming)
        placed = place_files(list(planned.values()), incoming, sources, python.cache_tag)
        byte_code = placed.byte_code | _compile(planned, placed.byte_code, python, incoming)
        for name, content in extra.items():
            write_file(incoming / name, content)
    finally:
        os.umask(previous_mask)
    listed = FileList({path: file.file for path, file in planned.items()}, links, byte_code)
    sync_file_system(incoming)
    write_file(incoming / FILES_FILE, listed.to_json())
    return placed.linked, placed.written


def _compile(
    planned: dict[str, PlannedFile], there: dict[str, InstalledFile], python: Interpreter, prefix: Path
) -> dict[str, InstalledFile]:
    sources = [
        (path, file.file.size)
        for path, file in planned.items()
        if path.startswith(python.library + "/")
        and path.endswith(".py")
        and byte_code_path(path, python.cache_tag) not in there
    ]
    return compile_files(python.executable, prefix, sources, python.cache_tag)


def _finish(image: Image, render: Callable[[Path, Path, Path], str], incoming: Path, final: Path) -> None:
    config = render(incoming, final, incoming / "bin" / "python")
    write_config(incoming, config)
    body = {
        "image": image.name,
        "digest": image.digest,
        "tag": image.description.tag,
        "python": str(final / "bin" / "python"),
        "prefix": str(final),
        "config": str(final / CONFIG_FILE),
        "adopted": False,
        "files": content_digest((incoming / FILES_FILE).read_bytes()),
    }
    write_file(incoming / RELEASE_FILE, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode())


def _is_complete(incoming: Path) -> bool:
    """True where an earlier, killed installation got as far as ``files.json``, and all is as that says."""
    if not (incoming / FILES_FILE).is_file():
        return False
    try:
        return not tree_drift(incoming, read_file_list(incoming))
    except WMAgentError:
        return False


def _installed_lists(layout: AgentLayout) -> Iterator[tuple[Path, FileList]]:
    for folder in sorted(layout.releases.iterdir()):
        with contextlib.suppress(WMAgentError):  # a damaged release only means that it has nothing to share
            if not read_release(folder).adopted:
                yield folder, read_file_list(folder)


def _made(path: str, content: bytes) -> PlannedFile:
    return PlannedFile(path, InstalledFile(content_digest(content)[7:], len(content)), "the release", content=content)


def _check_reserved(planned: dict[str, PlannedFile], links: dict[str, str]) -> None:
    for path in (*OWN_FILES, *links):
        if path in planned:
            raise WMAgentError(
                f"{planned[path].wheel} installs {path}, which a release has itself; build the image again"
            )


@contextlib.contextmanager
def staging(layout: AgentLayout, name: str = "") -> Iterator[None]:
    """Hold the agent's one place for installing and pruning, and clear what a killed run left there.

    name: release that is to be installed; what there is of it already stays, to be taken up again

    Raises WMAgentError where another run holds it. The kernel lets go of it when its holder dies.
    """
    with _plain_errors(layout):
        layout.deploy.mkdir(mode=0o700, exist_ok=True)
        layout.incoming.mkdir(exist_ok=True)
        handle = os.open(layout.deploy / "staging", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WMAgentError(f"another run is staging on {layout.root}; wait for it and run again") from None
        _clear(layout, name)
        yield
    finally:
        os.close(handle)


def _clear(layout: AgentLayout, name: str) -> None:
    BlobStore(layout.blobs).clean()
    for entry in layout.incoming.iterdir():
        if entry.name != name:
            shutil.rmtree(entry, ignore_errors=True)


@contextlib.contextmanager
def _plain_errors(layout: AgentLayout) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or layout.root
        raise WMAgentError(f"{where}: {error.strerror}; check the disk under {layout.root} and its owner") from None
