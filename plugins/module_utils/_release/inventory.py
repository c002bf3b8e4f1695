# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent has: its releases, the current one, and what was changed in them by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.adopted_drift import environment_drift
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import RELEASE_PART, Wheel
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.drift import Difference, release_drift
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import read_image_description


def describe_releases(layout: AgentLayout, drift: str, *, compare_versions: bool = False) -> dict[str, Any]:
    """Plain data on all releases of an agent (see ``release_info``).

    drift:            look for it in ``current``, ``all`` or ``none``
    compare_versions: as in ``find_drift``

    Raises WMAgentError where the root does not exist or a release's documents are damaged. An agent without a usable
    ``current`` is no error here; ``problem`` says why.
    """
    if not layout.root.is_dir():
        raise WMAgentError(f"{layout.root} does not exist; check wmagent_root")
    current, problem = _current(layout)
    releases = layout.all_releases()
    described = []
    for release in releases:
        is_current = current is not None and release.path == current.path
        entry = {**release.as_dict(), "current": is_current, "patches": _patches(release)}
        if drift == "all" or (drift == "current" and is_current):
            found = find_drift(release, releases if compare_versions else ())
            entry["drift"] = [difference.as_dict() for difference in found]
        described.append(entry)
    return {
        "current": current.as_dict() if current else None,
        "problem": problem,
        "releases": described,
        "drift": next((entry.get("drift", []) for entry in described if entry["current"]), []),
    }


def find_drift(release: Release, releases: Sequence[Release] = ()) -> list[Difference]:
    """Every file of ``release`` that differs from its image; for an adopted one, from its packages' RECORDs.

    releases: for an adopted one, look among these for one of the same tag, and tell every package whose version is
              another one there.
    """
    if not release.adopted:
        return release_drift(release)
    return environment_drift(release.prefix, _wheels_of_tag(release.tag, releases))


def _current(layout: AgentLayout) -> tuple[Release | None, str]:
    try:
        return layout.current_release(), ""
    except WMAgentError as error:
        return None, str(error)


def _patches(release: Release) -> list[str]:
    description = read_image_description(release)
    return [patch.name for patch in description.patches] if description else []


def _wheels_of_tag(tag: str, releases: Sequence[Release]) -> tuple[Wheel, ...]:
    descriptions = (read_image_description(release) for release in releases if release.tag == tag)
    for description in descriptions:
        if description is not None:
            # A patch level is no difference between packages: it is told by their files.
            return tuple(replace(w, version=w.version.partition("+")[0]) for w in description.part(RELEASE_PART))
    return ()
