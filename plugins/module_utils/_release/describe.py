# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema that an image's own code creates: its wheels are unpacked in a throwaway environment and run there."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.describe import describe_release
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.schema import fingerprint
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_tools import BuildTools


@dataclass(frozen=True)
class SchemaDescription:
    """Per dialect the structure and its fingerprint; None where it is unknown, with the reason in ``unknown``."""

    structures: dict[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, str | None] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)


def describe_schema(wheels: Sequence[Path], tools: BuildTools) -> SchemaDescription:
    """Structures that the code in ``wheels`` creates in MariaDB and in Oracle.

    wheels: all wheels of part ``release``, the WMAgent one as it goes into the image

    Raises WMAgentError where they cannot be had: a program is missing here, or the code fails.
    """
    tools.log("describing the schema")
    with tempfile.TemporaryDirectory(prefix="wmagent-describe-") as name:
        prefix = _install(wheels, Path(name), tools)
        structures: dict[str, Any] = dict(describe_release(prefix / "bin" / "python", prefix))
    prints = {dialect: None if found is None else fingerprint(found) for dialect, found in structures.items()}
    reason = "its code shows no statements for this dialect"
    return SchemaDescription(structures, prints, {d: reason for d, found in structures.items() if found is None})


def no_schema() -> SchemaDescription:
    """For an image whose schema nobody looked at."""
    reason = "the image was built without describing its schema"
    dialects = ("mariadb", "oracle")
    return SchemaDescription(dict.fromkeys(dialects), dict.fromkeys(dialects), dict.fromkeys(dialects, reason))


def _install(wheels: Sequence[Path], folder: Path, tools: BuildTools) -> Path:
    prefix = folder / "environment"
    what = "installing the image to describe it"
    tools.uv(["venv", "--quiet", "--python", str(tools.python), str(prefix)], what)
    listing = folder / "wheels.txt"
    listing.write_text("".join(f"{wheel.absolute()}\n" for wheel in wheels), encoding="utf-8")
    command = ["pip", "install", "--quiet", "--python", str(prefix / "bin" / "python"), "--no-deps", "--no-index"]
    tools.uv([*command, "--offline", "--no-cache", "-r", str(listing)], what)
    return prefix
