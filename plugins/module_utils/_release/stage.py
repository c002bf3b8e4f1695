# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a release of an image into place on an agent: blobs, installation, config. Nothing that runs is touched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.config import render_config
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import (
    AgentLayout,
    Release,
    read_release,
    release_folder_name,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets, secret_values
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release import manifest as documents
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.config_file import (
    is_as_written,
    masked,
    read_config,
    write_config,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import RELEASE_PART, Image, Wheel
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.drift import Difference, release_drift
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.install import install_release, staging
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import Interpreter, probe, problems_with
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import Repository


@dataclass(frozen=True)
class ConfigInputs:
    """What ``config.py`` is made from, besides the release's own template.

    secrets:     path of WMAgent.secrets on the agent
    database:    name of the MariaDB database
    overrides:   dotted names → values
    environment: environment of the components
    components:  the only ones that config.py lists; all where empty
    running:     config.py that runs now, for the diff; the current release's where None
    """

    secrets: Path
    database: str = "wmagent"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    components: Sequence[str] = ()
    running: Path | None = None


Fetch = Callable[[BlobStore, list[Wheel]], None]
"""Put the wheels that are missing into the store."""


def checked_image(name: str, digest: str, manifest: bytes, config: bytes) -> Image:
    """The image that the documents ``manifest`` and ``config`` describe, proven to be the one of this digest.

    Raises WMAgentError where they are not.
    """
    where = f"image {name}"
    if documents.digest_of(manifest) != digest:
        raise WMAgentError(
            f"{where} has digest {documents.digest_of(manifest)}, expected is {digest}; check its source"
        )
    parsed = documents.read_manifest(manifest, where)
    if documents.digest_of(config) != parsed["config"]["digest"]:
        raise WMAgentError(f"{where} came with a config that is not its own; copy or build the image again")
    return documents.read_image(name, digest, parsed, config, where)


def stage(
    layout: AgentLayout,
    image: Image,
    python: Path,
    config: ConfigInputs,
    *,
    fetch: Fetch | None,
    replace_drifted: bool = False,
    check: bool = False,
) -> dict[str, Any]:
    """Have ``image`` in place as a release, with a config of its own; the same call again changes nothing.

    python:          interpreter the release is made for, e.g. ``/usr/bin/python3.11``
    fetch:           gets missing wheels; None to be told of them in ``missing`` and install nothing
    replace_drifted: install a release again that was changed by hand, unless it is the current one
    check:           only tell

    Returns plain data for a module result (see ``release_stage``). Raises WMAgentError; blobs that came stay.
    """
    if not layout.root.is_dir():
        raise WMAgentError(f"{layout.root} does not exist; check wmagent_root")
    secrets = read_secrets(config.secrets)
    interpreter = probe(python)
    _check_fits(image, interpreter)
    render = _renderer(layout, config, secrets)
    final = layout.releases / release_folder_name(image.name, image.digest)
    existing = _existing(final, image)
    drift = release_drift(existing) if existing else []
    if existing and not (drift and _must_replace(layout, existing, drift, replace_drifted)):
        return _refresh_config(layout, existing, drift, render, secret_values(secrets), check, config.running)
    store = BlobStore(layout.blobs)
    wheels = list(image.description.part(RELEASE_PART))
    missing = store.missing(wheels)
    if check or (missing and fetch is None):
        return _result(changed=True, staged=False, name=final.name, missing=missing, drift=drift)
    with staging(layout, final.name):
        if missing and fetch is not None:
            fetch(store, missing)
        done = install_release(layout, image, interpreter, render, replace=existing is not None)
    return _result(
        changed=True,
        staged=True,
        name=final.name,
        drift=drift,
        release=done.release.as_dict(),
        files_linked=done.files_linked,
        files_written=done.files_written,
        bytes_on_disk=done.bytes_on_disk,
        diff=_config_diff(
            layout, done.release, read_config(done.release.config), secret_values(secrets), config.running
        ),
    )


def _existing(final: Path, image: Image) -> Release | None:
    if not os.path.lexists(final):
        return None
    release = read_release(final)
    if release.digest != image.digest:
        raise WMAgentError(f"{final} holds an image of digest {release.digest}; remove it or choose another image")
    return release


def _check_fits(image: Image, python: Interpreter) -> None:
    description = image.description
    problems = problems_with(python, image.name, description.python, description.platform, description.glibc)
    if problems:
        raise WMAgentError("; ".join(problems))


def _must_replace(layout: AgentLayout, release: Release, drift: list[Difference], replace: bool) -> bool:
    """A changed release must not be switched to. The current one is only told of: it runs."""
    if _is_current(layout, release) or all(difference.path == "config.py" for difference in drift):
        return False
    if not replace:
        names = ", ".join(difference.path for difference in drift[:3]) + (" …" if len(drift) > 3 else "")
        raise WMAgentError(
            f"release {release.name} differs from its image in {len(drift)} files ({names}); "
            "set wmagent_on_drift=replace to install it again"
        )
    return True


def _is_current(layout: AgentLayout, release: Release) -> bool:
    return layout.current.is_symlink() and os.path.realpath(layout.current) == os.path.realpath(release.path)


Render = Callable[[Path, Path, Path], str]


def _renderer(layout: AgentLayout, config: ConfigInputs, secrets: Mapping[str, str]) -> Render:
    def render(here: Path, final: Path, python: Path) -> str:
        text = render_config(
            prefix=here,
            final_prefix=final,
            python=python,
            secrets=secrets,
            database=config.database,
            work_dir=Path(os.path.realpath(layout.work_dir)),
            overrides=config.overrides,
            environment=config.environment,
            components=config.components,
        )
        return text.replace(str(here), str(final))

    return render


def _refresh_config(
    layout: AgentLayout,
    release: Release,
    drift: list[Difference],
    render: Render,
    secrets: list[str],
    check: bool,
    running: Path | None,
) -> dict[str, Any]:
    """Bring the config of a release that stands up to date, unless components run with it."""
    wanted = render(release.prefix, release.prefix, release.python)
    differs = wanted != read_config(release.config) or not is_as_written(release.path)
    current = _is_current(layout, release)
    change = differs and not current
    diff = _config_diff(layout, release, wanted, secrets, running) if differs else []
    if change and not check:
        with staging(layout):
            write_config(release.path, wanted)
        drift = [difference for difference in drift if difference.path != "config.py"]
    return _result(
        changed=change,
        staged=True,
        name=release.name,
        drift=drift,
        release=release.as_dict(),
        config_changed=change,
        config_differs=differs and current,
        diff=diff,
    )


def _config_diff(
    layout: AgentLayout, release: Release, wanted: str, secrets: list[str], running: Path | None
) -> list[dict[str, str]]:
    """From the config that runs now to the one of ``release``, secrets masked."""
    before = ""
    with contextlib.suppress(WMAgentError):
        running = running or layout.current_release().config
        before = read_config(running)
    return [
        {
            "before_header": str(running or "no config.py"),
            "after_header": f"{release.name}/config.py",
            "before": masked(before, secrets),
            "after": masked(wanted, secrets),
        }
    ]


def _result(*, changed: bool, staged: bool, name: str, drift: list[Difference], **rest: Any) -> dict[str, Any]:
    missing: list[Wheel] = rest.pop("missing", [])
    return {
        "changed": changed,
        "staged": staged,
        "name": name,
        "release": None,
        "missing": [{"digest": w.digest, "size": w.size, "filename": w.filename} for w in missing],
        "drift": [difference.as_dict() for difference in drift],
        "config_changed": False,
        "config_differs": False,
        "files_linked": 0,
        "files_written": 0,
        "bytes_on_disk": 0,
        "diff": [],
        **rest,
    }


def image_of(repository: Repository, name: str, digest: str) -> tuple[Image, dict[str, str]]:
    """Image ``name`` and its documents (``digest``, ``manifest``, ``config`` as text), all checked.

    digest: what the manifest's digest must be, '' for any. Raises WMAgentError where it is another one.
    """
    image = repository.image(name)
    found = repository.read_manifest(name)
    if found is None or found[0] != image.digest:
        raise WMAgentError(f"image {name} in {repository.location} changed while it was read; run again")
    if digest and digest != image.digest:
        raise WMAgentError(
            f"image {name} in {repository.location} has digest {image.digest}, expected {digest}; check the repository"
        )
    config = repository.read_blob(image.manifest["config"]["digest"], image.manifest["config"]["size"])
    return image, {"digest": image.digest, "manifest": found[1].decode(), "config": config.decode()}
