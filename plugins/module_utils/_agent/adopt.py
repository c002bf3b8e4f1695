# SPDX-License-Identifier: GPL-3.0-or-later
"""Take over an agent that was deployed by hand: write down what it runs as a release that can be gone back to.

Nothing of the deployment is moved. ``releases/adopted-<tag>-<digest>`` holds ``release.json`` and one link for each
entry of the by-hand folder, so that paths through ``current`` (``current/install``, ``current/config``) stay good.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import (
    RELEASE_FILE,
    AgentLayout,
    Release,
    release_folder_name,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.durable import sync_folder, write_file

_WORK_DIR = re.compile(r"""^config\.General\.workDir\s*=\s*(['"])(.+?)\1\s*$""", re.MULTILINE)
_VERSION_FOLDER = re.compile(r"^v?\d+\.\d+")


@dataclass(frozen=True)
class Deployment:
    """A WMAgent as somebody deployed it by hand.

    folder:   the classic ``v<tag>`` or container-style ``<X.Y.Z>`` folder with ``config`` and ``install``
    work_dir: ``General.workDir`` of its config.py
    """

    folder: Path
    prefix: Path
    python: Path
    config: Path
    tag: str
    work_dir: Path

    def release(self, layout: AgentLayout) -> Release:
        """The release that adoption will write down."""
        digest = self._digest()
        image = f"adopted-{self.tag}"
        return Release(
            image=image,
            digest=digest,
            path=layout.releases / release_folder_name(image, digest),
            python=self.python,
            prefix=self.prefix,
            config=self.config,
            tag=self.tag,
            adopted=True,
        )

    def _digest(self) -> str:
        """Identity of what pip once installed: the RECORDs of all its distributions, and where they stand."""
        total = hashlib.sha256(str(self.prefix).encode())
        for record in sorted(_site_packages(self.prefix).glob("*.dist-info/RECORD")):
            total.update(record.parent.name.encode() + hashlib.sha256(record.read_bytes()).digest())
        return f"sha256:{total.hexdigest()}"


def find_deployment(root: Path, prefix: Path | None = None, config: Path | None = None) -> Deployment:
    """Find the by-hand deployment under ``root``; ``prefix`` and ``config`` where they stand elsewhere.

    Raises WMAgentError where there is none, or more than one that could be meant.
    """
    folder = _deployment_folder(root)
    config_file = config or _first([folder / "config" / "config.py", folder / "config" / "wmagent" / "config.py"])
    if config_file is None or not config_file.is_file():
        raise WMAgentError(f"{folder} has no config/config.py; set wmagent_adopt_config to the agent's config.py")
    software = prefix or _find_prefix(folder)
    if software is None or not (software / "bin" / "python").exists():
        raise WMAgentError(
            f"no Python environment of the agent found at or above {folder}; set wmagent_adopt_prefix to its sys.prefix"
        )
    match = _WORK_DIR.search(config_file.read_text(encoding="utf-8", errors="replace"))
    if not match:
        raise WMAgentError(f"{config_file} sets no config.General.workDir; is it a WMAgent's config.py?")
    return Deployment(
        folder=folder,
        prefix=software,
        python=software / "bin" / "python",
        config=config_file,
        tag=_installed_tag(software),
        work_dir=Path(match.group(2)),
    )


def _deployment_folder(root: Path) -> Path:
    if not root.is_dir():
        raise WMAgentError(f"{root} is not an agent root: it does not exist; check wmagent_root")
    current = root / "current"
    if current.is_symlink():
        target = Path(os.path.realpath(current))
        if not target.is_dir():
            raise WMAgentError(f"{current} points to {target}, which does not exist; point it to the deployed agent")
        return target
    if current.exists():
        raise WMAgentError(f"{current} is a real folder, not a link; move it to v<tag> and make current a link to it")
    found = sorted(entry for entry in root.iterdir() if entry.is_dir() and _VERSION_FOLDER.match(entry.name))
    found = [entry for entry in found if (entry / "config").is_dir()]
    if not found:
        raise WMAgentError(
            f"{root} is not an agent root: neither releases/ nor an agent deployed by hand there; check wmagent_root"
        )
    if len(found) > 1:
        names = ", ".join(entry.name for entry in found)
        raise WMAgentError(
            f"{root} holds several deployments ({names}) and no link current; make current a link to one"
        )
    return found[0]


def _find_prefix(folder: Path) -> Path | None:
    candidates = [folder / "sw", folder / "venv", folder, *folder.parents[:4]]
    return _first([c for c in candidates if any(_site_packages(c).glob("wmagent-*.dist-info"))])


def _site_packages(prefix: Path) -> Path:
    return next(iter(sorted(prefix.glob("lib/python3*/site-packages"))), prefix / "lib" / "site-packages")


def _first(paths: list[Path]) -> Path | None:
    return next((path for path in paths if path.exists()), None)


def _installed_tag(prefix: Path) -> str:
    found = sorted(_site_packages(prefix).glob("wmagent-*.dist-info"))
    if len(found) != 1:
        what = "no wmagent package" if not found else f"{len(found)} wmagent packages"
        raise WMAgentError(f"{prefix} has {what} installed; set wmagent_adopt_prefix to the agent's sys.prefix")
    return found[0].name.removeprefix("wmagent-").removesuffix(".dist-info").split("+")[0]


def adopt(layout: AgentLayout, deployment: Deployment, *, by: str, rollout: str) -> Release:
    """Write the release down and point ``current`` to it. Safe to be cut off and run again at any step."""
    from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import switch_current

    for folder in (layout.deploy, layout.releases, layout.shared, layout.shared / "logs", layout.shared / "config"):
        folder.mkdir(parents=True, exist_ok=True)
    layout.deploy.chmod(0o700)
    _link(layout.work_dir, deployment.work_dir)
    release = deployment.release(layout)
    incoming = layout.releases / f".{release.name}.incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir()
    for entry in _entries(deployment.folder):
        (incoming / entry.name).symlink_to(entry)
    body = {
        "image": release.image,
        "digest": release.digest,
        "tag": release.tag,
        "python": str(release.python),
        "prefix": str(release.prefix),
        "config": str(release.config),
        "adopted": True,
        "adopted_from": str(deployment.folder),
    }
    write_file(incoming / RELEASE_FILE, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode())
    if release.path.exists():
        shutil.rmtree(release.path)
    incoming.rename(release.path)
    sync_folder(layout.releases)
    # The ledger first: a current release that the ledger does not know would have no way back.
    ledger.append(
        layout.ledger, "adopt", by=by, rollout=rollout, to=release.name, tag=release.tag, digest=release.digest
    )
    switch_current(layout, release.name)
    return release


def _entries(folder: Path) -> Iterator[Path]:
    reserved = {RELEASE_FILE}
    return (entry for entry in sorted(folder.iterdir()) if entry.name not in reserved)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink():
        if Path(os.path.realpath(link)) == Path(os.path.realpath(target)):
            return
        raise WMAgentError(f"{link} points elsewhere than the agent's work area {target}; put one of the two right")
    if link.exists():
        raise WMAgentError(f"{link} is a real folder, but the agent's work area is {target}; move it out of the way")
    link.symlink_to(target)
