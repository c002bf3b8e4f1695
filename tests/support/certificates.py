# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate of 127.0.0.1 that is its own authority."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificate(folder: Path) -> Path:
    """``certificate.pem`` in a folder, with its ``key.pem``."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    return folder / "certificate.pem"
