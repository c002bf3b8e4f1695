# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing so that a crash leaves the old content or the new, never half of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def sync_folder(folder: Path) -> None:
    """Have the names in ``folder`` on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(target: Path, content: bytes, mode: int = 0o644) -> None:
    """Write ``target`` aside, sync it and rename it into place; ``mode`` holds from the first byte on."""
    aside = target.with_name(f".{target.name}.new")
    aside.unlink(missing_ok=True)
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    aside.rename(target)
    sync_folder(target.parent)


def sync_file_system(folder: Path, timeout: float = 300) -> None:
    """Have everything written so far on the file system of ``folder`` on disk; one call instead of one for each file.

    timeout: seconds. Raises WMAgentError where the disk does not take it in time.
    """
    try:
        subprocess.run(["sync", "-f", str(folder)], check=True, capture_output=True, timeout=timeout)
    except (OSError, subprocess.SubprocessError) as error:
        raise WMAgentError(
            f"the disk under {folder} does not sync ({type(error).__name__}); look at its health"
        ) from None
