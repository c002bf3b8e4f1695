# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases an agent has, which one is current, and which may go."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import RELEASE_FILE, AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import RELEASE_PART, ImageDescription
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.durable import sync_folder

IMAGE_FILE = "image.json"
"""The image description inside a release."""


@dataclass(frozen=True)
class Plan:
    """What a prune removes: folder names under ``releases/``, and digests of blobs. Both sorted."""

    releases: tuple[str, ...]
    blobs: tuple[str, ...]


def plan_prune(
    releases: Mapping[str, frozenset[str]],
    current: str,
    previous: str | None,
    keep: int,
    order: Sequence[str],
    staged_blobs: frozenset[str] | None = None,
) -> Plan:
    """Choose what to remove. Pure.

    releases:     folder name → digests of the blobs it needs, for every release there is
    current:      name of the current release; never removed, nor is ``previous``
    keep:         number of releases to have afterwards (at least 1); more stay only where the two above need it
    order:        names in the order in which they became current, oldest first (the ledger's); one that is not
                  named there never ran, and goes first
    staged_blobs: digests in the blob store, None for all that any release needs; those that no kept release needs go

    Raises WMAgentError for ``keep`` below 1, or a ``current`` that is not among ``releases``.
    """
    if keep < 1:
        raise WMAgentError(f"wmagent_keep_releases is {keep}; keep at least 1 release")
    if current not in releases:
        raise WMAgentError(f"current release {current!r} is not among the agent's releases; nothing may be pruned")
    last_use = {name: index for index, name in enumerate(order)}
    protected = {current} | ({previous} & releases.keys() if previous else set())
    candidates = sorted(releases.keys() - protected, key=lambda name: (last_use.get(name, -1), name))
    removable = max(0, len(releases) - max(keep, len(protected)))
    removed = set(candidates[:removable])
    needed = frozenset().union(*(blobs for name, blobs in releases.items() if name not in removed))
    there = frozenset().union(*releases.values()) if staged_blobs is None else staged_blobs
    return Plan(tuple(sorted(removed)), tuple(sorted(there - needed)))


def needed_blobs(release: Release) -> frozenset[str]:
    """Digests of the wheels a release was installed from; none for an adopted one.

    Raises WMAgentError where its ``image.json`` does not parse: what it needs is unknown then, not nothing.
    """
    file = release.path / IMAGE_FILE
    if release.adopted and not file.exists():
        return frozenset()
    try:
        description = ImageDescription.from_json(file.read_bytes())
    except OSError as error:
        raise WMAgentError(f"{file} cannot be read ({error.strerror}); stage this release again") from None
    return frozenset(wheel.digest for wheel in description.part(RELEASE_PART))


def plan_agent_prune(layout: AgentLayout, keep: int, order: Sequence[str], previous: str | None) -> Plan:
    """``plan_prune`` for an agent as it is now."""
    releases = {release.name: needed_blobs(release) for release in layout.all_releases()}
    staged = BlobStore(layout.blobs).digests()
    return plan_prune(releases, layout.current_release().name, previous, keep, order, staged)


def plan_by_ledger(layout: AgentLayout, keep: int) -> Plan:
    """``plan_prune`` for an agent as it is now, by its own ledger. Raises WMAgentError where that tells too little."""
    entries, current = ledger.read(layout.ledger), layout.current_release().name
    order = ledger.release_order(entries)
    if current not in order:
        raise WMAgentError(
            f"the ledger of {layout.root} does not know {current}, so the previous release cannot be told; "
            "nothing was pruned"
        )
    return plan_agent_prune(layout, keep, order, ledger.previous_release(entries, current))


def prune(layout: AgentLayout, plan: Plan) -> int:
    """Carry ``plan`` out; returns the bytes given back (allocated blocks). Safe to be cut off and run again.

    A release is renamed out of ``releases/`` before its files go, so there is never half a release there. Files of an
    adopted release outside its folder stay. Raises WMAgentError where the plan names the current release.
    """
    current = layout.current_release().name
    freed = 0
    for name in plan.releases:
        if name == current:
            raise WMAgentError(f"release {name} has become current; nothing more was pruned, run again")
        freed += remove_release(layout, name)
    for digest in plan.blobs:
        freed += BlobStore(layout.blobs).remove(digest)
    return freed


def remove_release(layout: AgentLayout, name: str) -> int:
    """Remove one release folder; returns the bytes given back. The caller has made sure that it may go."""
    folder = layout.releases / name
    trash = layout.incoming / f"{TRASH_PREFIX}{name}"
    layout.incoming.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(trash, ignore_errors=True)
    try:
        folder.rename(trash)
        freed = disk_usage(trash, only_unshared=True)
        shutil.rmtree(trash)
    except OSError as error:
        raise WMAgentError(f"release {folder} cannot be removed ({error.strerror}); check its owner and mode") from None
    return freed


TRASH_PREFIX = ".trash-"
"""Folders under ``incoming/`` that were releases once; removed by the next staging where a prune was cut off."""


def switch_current(layout: AgentLayout, name: str) -> None:
    """Make ``current`` the relative link ``releases/<name>``, by rename(2): there is a current release at any moment.

    Raises WMAgentError where ``name`` is no complete release, or ``current`` is a real folder.
    """
    if not (layout.releases / name / RELEASE_FILE).is_file():
        raise WMAgentError(f"{layout.releases / name} is not a complete release; stage its image first")
    if layout.current.exists() and not layout.current.is_symlink():
        raise WMAgentError(f"{layout.current} is a real folder, not a link; move it away first")
    aside = layout.root / f".current-{os.getpid()}"
    try:
        aside.unlink(missing_ok=True)
        aside.symlink_to(Path(layout.releases.name) / name)
        aside.rename(layout.current)
        sync_folder(layout.root)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise WMAgentError(
            f"{layout.current} cannot be set ({error.strerror}); check the owner of {layout.root}"
        ) from None


def disk_usage(*folders: Path, only_unshared: bool = False) -> int:
    """Bytes in allocated blocks under ``folders``; an inode with several names counts once.

    only_unshared: leave out files that have further names, so that the sum is what removing the folder gives back.
    """
    seen: set[tuple[int, int]] = set()
    total = 0
    waiting = [os.fspath(folder) for folder in folders if folder.exists()]
    total += sum(os.lstat(folder).st_blocks for folder in waiting)
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif only_unshared and status.st_nlink > 1:
                    continue
                elif status.st_nlink > 1:
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks
    return total * 512


def read_image_description(release: Release) -> ImageDescription | None:
    """The image description a release carries; None for an adopted one without. Raises WMAgentError where damaged."""
    file = release.path / IMAGE_FILE
    if not file.is_file():
        return None
    try:
        return ImageDescription.from_dict(json.loads(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise WMAgentError(f"{file} cannot be read ({error}); stage this release again") from None
