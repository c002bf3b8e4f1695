# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium, Debian's own, that looks at pages without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

SECONDS = 60


def find_chromium() -> str:
    """Path of the binary. Raises FileNotFoundError, with what to do, where there is none."""
    found = shutil.which("chromium")
    if not found:
        raise FileNotFoundError("chromium not found; `make setup` installs it (Debian's package chromium)")
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """One browser; each page of it is a private one. Ended with the block."""
    binary = find_chromium()
    with sync_playwright() as playwright:
        # Without a sandbox, since that does not start as root in most containers; it only ever sees our own pages.
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        started = playwright.chromium.launch(executable_path=binary, args=options, timeout=SECONDS * 1000)
        try:
            yield started
        finally:
            started.close()
