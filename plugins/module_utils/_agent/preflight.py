# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that could keep an agent from being changed, found without changing it, and all of it at once."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.adopt import find_deployment
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import Journal, read_journal
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import (
    RELEASE_FILE,
    AgentLayout,
    Release,
    release_folder_name,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.lock import read_lock, refusal
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.switch import find_release
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import RELEASE_PART, ImageDescription
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import probe, problems_with


@dataclass(frozen=True)
class Request:
    """What is wanted of the agent.

    target:       description of the image to go to; None where an installed ``release`` is wanted
    digest:       manifest digest of that image
    disk_reserve: bytes that must stay free on the disk of ``wmagent_root``
    settings:     those of later steps that can be wrong: healthy_for, healthy_within, keep_releases, known_tracebacks
    """

    layout: AgentLayout
    target: ImageDescription | None
    digest: str
    release: str
    secrets: Path
    database_name: str
    python: Path
    components: tuple[str, ...]
    disk_reserve: int
    require_healthy: bool
    on_drift: str
    rollout: str
    break_lock: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    adopt_prefix: Path | None = None
    adopt_config: Path | None = None


@dataclass
class Findings:
    """What was found; ``problems`` is what must be put right first."""

    problems: list[dict[str, str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)

    def problem(self, check: str, message: str) -> None:
        """Add a problem."""
        self.problems.append({"check": check, "message": message})

    def attempt(self, check: str, look: Callable[[], None]) -> None:
        """Run one check; what it can't find out is a problem of its own, and the other checks go on."""
        try:
            look()
        except WMAgentError as error:
            self.problem(check, str(error))


@dataclass
class Seen:
    """What earlier checks found and later ones build on."""

    layout: AgentLayout
    current: Release | None = None
    journal: Journal | None = None
    secrets: Mapping[str, str] | None = None
    target_name: str = ""


def look(request: Request, probes: Probes) -> Findings:
    """All checks of one agent."""
    found = Findings()
    seen = Seen(request.layout)
    found.attempt("root", lambda: _root(request, seen, found))
    found.attempt("target", lambda: _target(request, seen, found))
    found.attempt("python", lambda: _python(request, found))
    found.attempt("disk", lambda: _disk(request, seen, found))
    found.attempt("lock", lambda: _lock(request, found))
    found.attempt("settings", lambda: _settings(request, found))
    found.attempt("secrets", lambda: _secrets(request, seen))
    if seen.secrets is not None:
        found.secrets = seen.secrets
        secrets = seen.secrets
        found.attempt("database", lambda: _schema(request, seen, found, probes, secrets))
        found.attempt("couchdb", lambda: found.facts.update(couch_databases=probes.couch_databases(secrets)))
        if seen.current is not None:
            found.attempt("verdict", lambda: _verdict(request, seen, found, probes, secrets))
    if seen.current is not None:
        found.attempt("drift", lambda: _drift(request, seen, found, probes))
    found.facts["done"] = _done(seen, found)
    return found


@dataclass(frozen=True)
class Probes:
    """Looks into databases and processes; replaced by fakes in tests of the rules.

    structure:       secrets, database name → the live schema
    guard:           target image, running image or None, live schema → why code alone is not enough
    couch_databases: secrets → number of databases
    verdict:         layout, current release, secrets, database name, components → (verdict, reasons)
    drift:           current release → files that are not as installed
    """

    structure: Callable[[Mapping[str, str], str], tuple[str, Mapping[str, Any]]]
    guard: Callable[[ImageDescription, ImageDescription | None, str, Mapping[str, Any]], list[str]]
    couch_databases: Callable[[Mapping[str, str]], int]
    verdict: Callable[[AgentLayout, Release, Mapping[str, str], str, tuple[str, ...]], tuple[str, list[str]]]
    drift: Callable[[Release], list[str]]
    image_of: Callable[[Release], ImageDescription | None]


def _root(request: Request, seen: Seen, found: Findings) -> None:
    layout = request.layout
    if layout.is_adopted():
        seen.current = layout.current_release()
        work_dir = Path(os.path.realpath(layout.work_dir))
    else:
        deployment = find_deployment(layout.root, request.adopt_prefix, request.adopt_config)
        work_dir = deployment.work_dir
        seen.layout = AgentLayout(layout.root, by_hand_work=work_dir)
        seen.current = deployment.release(layout)
    seen.journal = read_journal(layout)
    found.facts.update(
        release=seen.current.as_dict(),
        config=str(seen.current.config),
        adopt=not layout.is_adopted(),
        work_dir=str(work_dir),
        root_id=_identity(layout.root),
        interrupted=seen.journal.step if seen.journal else None,
    )


def _identity(root: Path) -> str:
    status = root.stat()
    machine = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{machine}:{status.st_dev}:{status.st_ino}"


def _target(request: Request, seen: Seen, found: Findings) -> None:
    if request.target is not None:
        seen.target_name = release_folder_name(request.target.name, request.digest)
        found.facts["staged"] = (request.layout.releases / seen.target_name / RELEASE_FILE).is_file()
    else:
        name = request.release
        if name == "previous":
            name = _previous(request, seen)
        seen.target_name = find_release(request.layout, name).name
        found.facts["staged"] = True
    found.facts["target_release"] = seen.target_name


def _previous(request: Request, seen: Seen) -> str:
    if seen.journal is not None and seen.journal.back:
        return seen.journal.target
    if seen.journal is not None and seen.current is not None and seen.journal.target == seen.current.name:
        return seen.journal.origin
    current = seen.current.name if seen.current else ""
    entries = ledger.read(request.layout.ledger)
    if ledger.went_back(entries, request.rollout, current):
        return current
    name = ledger.previous_release(entries, current)
    if name is None:
        raise WMAgentError("the ledger knows no release before this one; name one with -e wmagent_release=<name>")
    return name


def _python(request: Request, found: Findings) -> None:
    if request.target is None:
        return
    image = request.target
    for message in problems_with(probe(request.python), image.name, image.python, image.platform, image.glibc):
        found.problem("python", message)


def _disk(request: Request, seen: Seen, found: Findings) -> None:
    """Missing blobs, the unpacked release as if nothing could be shared, and the reserve."""
    if request.target is None or not request.layout.root.is_dir():
        return
    missing = BlobStore(request.layout.blobs).missing(request.target.part(RELEASE_PART))
    found.facts["missing_bytes"] = 0 if found.facts.get("staged") else sum(wheel.size for wheel in missing)
    if found.facts.get("staged"):
        return
    # Wheels stand there twice for a while, as they arrive and as they are kept; byte code adds about 35 %.
    need = 2 * found.facts["missing_bytes"] + int(request.target.installed_size * 1.4)
    status = os.statvfs(request.layout.root)
    free = status.f_bavail * status.f_frsize
    found.facts.update(disk_need=need, disk_free=free)
    if free < need + request.disk_reserve:
        found.problem(
            "disk",
            f"{free / 1e9:.2f} GB free under {request.layout.root}, {need / 1e9:.2f} GB needed and "
            f"{request.disk_reserve / 1e9:.2f} GB kept in reserve; free some or lower wmagent_disk_reserve",
        )


def _lock(request: Request, found: Findings) -> None:
    held = read_lock(request.layout.lock)
    if reason := refusal(held, request.rollout, request.break_lock, time.time()):
        found.problem("lock", reason)


def _secrets(request: Request, seen: Seen) -> None:
    seen.secrets = read_secrets(request.secrets)


def _schema(request: Request, seen: Seen, found: Findings, probes: Probes, secrets: Mapping[str, str]) -> None:
    dialect, live = probes.structure(secrets, request.database_name)
    running = probes.image_of(seen.current) if seen.current else None
    target = request.target
    if target is None:
        release = find_release(request.layout, seen.target_name) if seen.target_name else None
        target = probes.image_of(release) if release else None
    found.facts.update(dialect=dialect, tables=len(live))
    if target is None:
        return  # an adopted release has no description; it ran on this very schema
    differences = probes.guard(target, running, dialect, live)
    found.facts["schema_differences"] = differences
    if differences:
        found.problem(
            "schema",
            f"{len(differences)} differences to {target.name}; code alone is not enough, redeploy this agent: "
            + "; ".join(differences),
        )


def _verdict(request: Request, seen: Seen, found: Findings, probes: Probes, secrets: Mapping[str, str]) -> None:
    assert seen.current is not None
    verdict, reasons = probes.verdict(seen.layout, seen.current, secrets, request.database_name, request.components)
    found.facts.update(verdict=verdict, reasons=reasons)
    half_done = seen.journal is not None
    if verdict != "healthy" and request.require_healthy and not half_done:
        found.problem(
            "verdict",
            f"{verdict}: {'; '.join(reasons[:3])}; "
            "put it right, or set wmagent_require_healthy=false to go on all the same",
        )


def _drift(request: Request, seen: Seen, found: Findings, probes: Probes) -> None:
    assert seen.current is not None  # the caller asked
    drifted = probes.drift(seen.current)
    found.facts["drift"] = drifted
    here = seen.current.name
    if drifted and request.target is not None and here == seen.target_name:
        found.problem(
            "drift",
            f"{_some(drifted)} of {here} were changed by hand, and it is the release to go to; "
            "go to another image first, or put the files right",
        )
    elif drifted and request.target is not None and request.on_drift == "fail":
        found.problem(
            "drift",
            f"{_some(drifted)} of {here} were changed by hand; "
            "put them into an image, or set wmagent_on_drift=replace to lose them",
        )
    if found.facts.get("staged") and seen.target_name and here != seen.target_name:
        _target_drift(request, seen, found, probes)


def _target_drift(request: Request, seen: Seen, found: Findings, probes: Probes) -> None:
    """A release that is not as its image says is not gone to; an adopted one never was, and ran all the same."""
    target = find_release(request.layout, seen.target_name)
    if target.adopted or (request.target is not None and request.on_drift == "replace"):
        return
    if drifted := probes.drift(target):
        found.problem(
            "drift",
            f"{_some(drifted)} of {target.name}, the release to go to, are not as installed; "
            "stage its image again with wmagent_on_drift=replace",
        )


def _some(files: list[str]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return f"{len(files)} files ({', '.join(files[:3])}{more})"


def _settings(request: Request, found: Findings) -> None:
    """What would be found wrong only after the downtime."""
    given = request.settings
    if given.get("healthy_for", 0) > given.get("healthy_within", 0):
        found.problem("settings", "wmagent_healthy_for is longer than wmagent_healthy_within; correct one of them")
    if given.get("keep_releases", 1) < 1:
        found.problem("settings", "wmagent_keep_releases is below 1; keep at least the current release")
    for pattern in given.get("known_tracebacks", ()):
        try:
            re.compile(pattern)
        except re.error as error:
            found.problem("settings", f"wmagent_known_tracebacks has {pattern!r}, no regular expression: {error}")


def _done(seen: Seen, found: Findings) -> bool:
    """True where the agent runs the target, was judged healthy after it came to it, and still is."""
    if seen.current is None or seen.current.name != seen.target_name or seen.journal is not None:
        return False
    return found.facts.get("verdict") == "healthy"
