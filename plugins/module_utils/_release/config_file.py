# SPDX-License-Identifier: GPL-3.0-or-later
"""A release's ``config.py``, which holds passwords, and the note by which a later change to it is seen."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import mask
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.durable import write_file

CONFIG_FILE = "config.py"
DIGEST_FILE = "config.sha256"
"""As secret as the config itself: short passwords could be guessed from it."""

_PASSWORD_IN_URL = re.compile(r"(\b[a-z][a-z0-9+]*://[^:/@\s'\"]*:)[^@/\s'\"]+@")
_SECRET_SETTING = re.compile(
    r"^(\s*[\w.]*(?:pass|passwd|password|token|credential|secret)\w*\s*=\s*)(['\"]).+\2", re.IGNORECASE | re.MULTILINE
)


def write_config(folder: Path, text: str) -> None:
    """Write ``config.py`` into a release's folder, readable by its owner only."""
    content = text.encode()
    write_file(folder / CONFIG_FILE, content, mode=0o600)
    write_file(folder / DIGEST_FILE, f"{hashlib.sha256(content).hexdigest()}\n".encode(), mode=0o600)


def is_as_written(folder: Path) -> bool | None:
    """False where somebody has changed ``config.py`` since; None where that cannot be told."""
    try:
        noted = (folder / DIGEST_FILE).read_text(encoding="ascii").strip()
        return hashlib.sha256((folder / CONFIG_FILE).read_bytes()).hexdigest() == noted
    except (OSError, ValueError):
        return None


def read_config(file: Path) -> str:
    """Text of a ``config.py``, '' where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def masked(text: str, secrets: Iterable[str]) -> str:
    """``text`` fit to be shown: known secrets are masked, and what looks like one (an older password, say) too."""
    text = mask(text, secrets)
    text = _PASSWORD_IN_URL.sub(r"\1********@", text)
    return _SECRET_SETTING.sub(r"\1\2********\2", text)
