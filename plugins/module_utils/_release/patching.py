# SPDX-License-Identifier: GPL-3.0-or-later
"""Patch a WMAgent wheel with unified diffs, against the source tree or the installed packages, by GNU patch."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.wheelfile import (
    dist_info,
    parse_wheel_name,
    unpack_wheel,
    write_wheel,
)

SOURCE = "src/python"
"""Where the packages stand in the source tree."""

_NOT_SHIPPED = ("test/", "doc/", "docs/", ".github/")
_HEADER = re.compile(r"^(?:---|\+\+\+) (?P<path>[^\t\n]+)", re.MULTILINE)
_FAILED = re.compile(r"^Hunk #(\d+) (?:FAILED|ignored) at (\d+)")
_TIMEOUT = 60


@dataclass(frozen=True)
class Section:
    """The part of a patch file that changes one file. ``path`` is relative to the source tree; ``text`` the diff."""

    path: str
    text: str
    strip: int

    @property
    def shipped(self) -> bool:
        """False for what no wheel holds, such as tests."""
        return not self.path.startswith(_NOT_SHIPPED)


def read_sections(text: str, name: str) -> list[Section]:
    """Split a patch file by the files it changes.

    A path may stand with git's ``a/`` and ``b/`` or without, and may name the source tree (``src/python/WMCore/…``,
    ``bin/…``, ``etc/…``) or the installed packages (``WMCore/…``).

    Raises WMAgentError where there is nothing to apply, or a binary change or a path outside the tree.
    """
    sections = [_section(part, name) for part in _split(text)]
    if not sections:
        raise WMAgentError(f"patch {name} holds no unified diff; make it with git diff")
    return sections


def patched_version(version: str, level: int) -> str:
    """``2.4.5.9`` at patch level 1 is ``2.4.5.9+p1``."""
    return f"{version}+p{level}"


def check_patches(wheel: Path, patches: list[Path], scratch: Path) -> list[str]:
    """Apply ``patches`` to a throwaway copy and return the paths they change. Raises as ``patch_wheel``."""
    tree = _as_source_tree(wheel, scratch)
    return _apply_all(tree, patches)


def patch_wheel(wheel: Path, patches: list[Path], level: int, scratch: Path, target_folder: Path) -> Path:
    """Write the patched wheel into ``target_folder`` and return its path.

    wheel:   the WMAgent wheel as published
    patches: patch files, applied in this order
    level:   patch level, ≥ 1
    scratch: an empty folder

    Raises WMAgentError that names patch, file and hunk where a patch does not apply wholly.
    """
    tree = _as_source_tree(wheel, scratch)
    _apply_all(tree, patches)
    name = parse_wheel_name(wheel.name)
    content = _as_wheel_content(tree)
    _set_version(content, name.version, patched_version(name.version, level))
    target = target_folder / wheel.name.replace(f"-{name.version}-", f"-{patched_version(name.version, level)}-", 1)
    write_wheel(content, target)
    return target


def _split(text: str) -> list[str]:
    """One piece per changed file, whatever prose stands in front dropped."""
    pieces = re.split(r"^(?=diff --git )", text, flags=re.MULTILINE)
    if len(pieces) > 1:
        return [piece for piece in pieces if piece.startswith("diff --git ")]
    pieces = re.split(r"^(?=--- [^\n]*\n\+\+\+ )", text, flags=re.MULTILINE)
    return [piece for piece in pieces if piece.startswith("--- ")]


def _section(text: str, name: str) -> Section:
    if re.search(r"^(GIT binary patch|Binary files )", text, re.MULTILINE):
        raise WMAgentError(f"patch {name} holds a binary change, which cannot be applied; leave that file out")
    paths = [match["path"].strip().strip('"') for match in _HEADER.finditer(text.split("\n@@", 1)[0] + "\n")]
    named = [path for path in paths if path != "/dev/null"]
    if len(paths) != 2 or not named:
        raise WMAgentError(f"patch {name} has a part without a text change ({text.splitlines()[0]}); leave it out")
    prefixed = all(path.startswith(("a/", "b/")) for path in named)
    path = named[-1].partition("/")[2] if prefixed else named[-1]
    if path.startswith("/") or ".." in path.split("/"):
        raise WMAgentError(f"patch {name} reaches outside the source tree with {path}; make it relative")
    return Section(path, text, 1 if prefixed else 0)


def _as_source_tree(wheel: Path, scratch: Path) -> Path:
    """Unpack a wheel in the shape of the source tree.

    Packages go under ``src/python``, what is installed under ``data/`` (couchapps, templates …) under ``src``, and
    ``bin``, ``etc`` and ``deploy`` beside it.
    """
    packages = scratch / SOURCE
    packages.mkdir(parents=True)
    unpack_wheel(wheel, packages)
    for installed in packages.glob("*.data/data"):
        for entry in sorted(installed.iterdir()):
            if entry.name != "data":
                entry.rename(scratch / entry.name)
                continue
            for kind in sorted(entry.iterdir()):
                kind.rename(scratch / "src" / kind.name)
    return scratch


def _as_wheel_content(tree: Path) -> Path:
    """Undo ``_as_source_tree``; returns the folder of the wheel's content."""
    packages = tree / SOURCE
    installed = packages / dist_info(packages).name.replace(".dist-info", ".data") / "data"
    for entry in sorted((tree / "src").iterdir()):
        if entry != packages:
            _move(entry, installed / "data" / entry.name)
    for entry in sorted(tree.iterdir()):
        if entry.name != "src":
            _move(entry, installed / entry.name)
    return packages


def _move(entry: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(entry, target)


def _apply_all(tree: Path, patches: list[Path]) -> list[str]:
    changed: list[str] = []
    for patch in patches:
        try:
            text = patch.read_bytes().decode("utf-8")
        except (OSError, ValueError) as error:
            raise WMAgentError(f"patch {patch} cannot be read ({error}); give a readable file") from None
        sections = [section for section in read_sections(text, patch.name) if section.shipped]
        if not sections:
            raise WMAgentError(
                f"patch {patch.name} changes nothing that is shipped, only tests or documents; leave it out"
            )
        for section in sections:
            _apply(tree, section, patch.name)
            changed.append(section.path)
    return changed


def _apply(tree: Path, section: Section, name: str) -> None:
    folder = tree if (tree / section.path.split("/")[0]).exists() else tree / SOURCE
    command = [
        "patch",
        f"-p{section.strip}",
        "--batch",
        "--forward",
        "--fuzz=0",
        "--no-backup-if-mismatch",
        "--reject-file=-",
    ]
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            input=section.text,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise WMAgentError("GNU patch is not installed; apt install patch") from None
    except subprocess.TimeoutExpired:
        raise WMAgentError(
            f"patch {name} did not apply to {section.path} within {_TIMEOUT} s; look at the patch"
        ) from None
    if done.returncode != 0:
        raise WMAgentError(
            f"patch {name} does not apply: {section.path}, {_reason(done.stdout + done.stderr)}; rebase it on this tag"
        )


def _reason(output: str) -> str:
    hunks = [f"hunk {match[1]} at line {match[2]}" for line in output.splitlines() if (match := _FAILED.match(line))]
    if "Reversed (or previously applied)" in output:
        return "it is in this tag already" + (f" ({hunks[0]})" if hunks else "")
    if "can't find file to patch" in output:
        return "this tag has no such file"
    if hunks:
        return " and ".join(hunks)
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"


def _set_version(content: Path, old: str, new: str) -> None:
    info = dist_info(content)
    metadata = info / "METADATA"
    text = metadata.read_text(encoding="utf-8")
    head, gap, body = text.partition("\n\n")
    head, count = re.subn(r"^Version: .*$", f"Version: {new}", head, flags=re.MULTILINE)
    if count != 1:
        raise WMAgentError(
            f"{metadata.name} of the WMAgent wheel has {count} versions instead of one; do not use this wheel"
        )
    metadata.write_text(head + gap + body, encoding="utf-8")
    for folder in list(content.glob(f"*-{old}.dist-info")) + list(content.glob(f"*-{old}.data")):
        folder.rename(folder.with_name(folder.name.replace(f"-{old}.", f"-{new}.", 1)))
