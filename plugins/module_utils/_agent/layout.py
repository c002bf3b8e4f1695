# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things stand under an agent's root folder. Paths only; nothing here changes a file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

RELEASE_FILE = "release.json"
"""Written last into a release: a folder under ``releases/`` without it is not a release."""


@dataclass(frozen=True)
class Release:
    """One installed release, as its ``release.json`` tells it.

    image:   image name, e.g. ``2.4.5.9-p1`` (``adopted-<tag>`` for an adopted one)
    digest:  ``sha256:<64 hex>`` of the image manifest (of the adopted description for an adopted one)
    path:    the release's folder, absolute, links resolved
    python:  the interpreter that runs its components
    prefix:  the ``sys.prefix`` of that interpreter: ``<prefix>/bin``, ``<prefix>/etc``, ``<prefix>/lib``
    config:  its ``config.py``
    tag:     the WMAgent tag, e.g. ``2.4.5.9``
    adopted: deployed by hand and written down later; its files stand outside ``releases/``
    """

    image: str
    digest: str
    path: Path
    python: Path
    prefix: Path
    config: Path
    tag: str
    adopted: bool = False

    @property
    def name(self) -> str:
        """Folder name under ``releases/``."""
        return self.path.name

    def as_dict(self) -> dict[str, Any]:
        """Plain data for module results and the ledger."""
        return {
            "name": self.name,
            "image": self.image,
            "digest": self.digest,
            "tag": self.tag,
            "path": str(self.path),
            "adopted": self.adopted,
        }


def release_folder_name(image: str, digest: str) -> str:
    """``<image>-<first 12 hex digits of the digest>``."""
    return f"{image}-{digest.removeprefix('sha256:')[:12]}"


def read_release(folder: Path) -> Release:
    """Read ``release.json`` of one release folder.

    Raises WMAgentError where it is missing or does not parse.
    """
    file = folder / RELEASE_FILE
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return Release(
            image=data["image"],
            digest=data["digest"],
            path=folder.resolve(),
            python=Path(data["python"]),
            prefix=Path(data["prefix"]),
            config=Path(data["config"]),
            tag=data["tag"],
            adopted=bool(data.get("adopted", False)),
        )
    except FileNotFoundError:
        raise WMAgentError(
            f"{folder} is not a release: it has no {RELEASE_FILE}; remove it or stage its image again"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WMAgentError(f"{file} cannot be read ({error}); stage this release again") from None


@dataclass(frozen=True)
class AgentLayout:
    """Paths of one agent.

    root:         ``wmagent_root``
    by_hand_work: the work area of an agent that was not adopted yet
    """

    root: Path
    by_hand_work: Path | None = None

    @property
    def releases(self) -> Path:
        """Folder of all releases."""
        return self.root / "releases"

    @property
    def current(self) -> Path:
        """The link to the one current release."""
        return self.root / "current"

    @property
    def shared(self) -> Path:
        """Work areas and logs that outlive releases."""
        return self.root / "shared"

    @property
    def work_dir(self) -> Path:
        """``General.workDir``: a folder for each component. A link for an adopted agent.

        WMBS rows hold absolute paths below it (cache_dir, spec), so it never moves for the life of an agent.
        """
        return self.by_hand_work or self.shared / "install"

    @property
    def deploy(self) -> Path:
        """This collection's own folder."""
        return self.root / ".deploy"

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self.deploy / "lock"

    @property
    def ledger(self) -> Path:
        """Append-only record, one JSON object a line."""
        return self.deploy / "ledger.jsonl"

    @property
    def journal(self) -> Path:
        """What a switch in progress has done so far."""
        return self.deploy / "journal.json"

    @property
    def blobs(self) -> Path:
        """Staged blobs, one file ``<64 hex>`` each, as in an OCI layout's ``blobs/sha256``."""
        return self.deploy / "blobs"

    @property
    def incoming(self) -> Path:
        """Half-done things: bundles on their way, releases being installed."""
        return self.deploy / "incoming"

    def is_adopted(self) -> bool:
        """True once the agent was adopted or deployed by this collection: ``current`` leads below ``releases/``."""
        return self.current.is_symlink() and Path(os.path.realpath(self.current)).parent == Path(
            os.path.realpath(self.releases)
        )

    def current_release(self) -> Release:
        """The release that ``current`` points to.

        Raises WMAgentError where ``current`` is missing, a real folder, points nowhere or outside ``releases/``.
        """
        link = self.current
        if not link.is_symlink():
            what = "is a real folder, not a link" if link.exists() else "does not exist"
            raise WMAgentError(f"{link} {what}; adopt the agent (playbooks/upgrade.yml does) or put the link back")
        target = Path(os.path.realpath(link))
        if not target.is_dir():
            raise WMAgentError(
                f"{link} points to {target}, which does not exist; point it to a folder under {self.releases}"
            )
        if target.parent != Path(os.path.realpath(self.releases)):
            raise WMAgentError(
                f"{link} points to {target}, which is not under {self.releases}; point it to a release there"
            )
        return read_release(target)

    def all_releases(self) -> list[Release]:
        """All complete releases, sorted by folder name; half-done ones are left out."""
        if not self.releases.is_dir():
            return []
        found = (entry for entry in sorted(self.releases.iterdir()) if not entry.name.startswith("."))
        return [read_release(entry) for entry in found if (entry / RELEASE_FILE).is_file()]
