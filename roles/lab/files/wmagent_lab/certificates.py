# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate authority of the lab's own, the host certificate it signed, and the folder of trusted authorities."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

from .settings import Lab

# Central services are asked for under their real names, and the lab's stand-in answers: see central.py.
NAMES = ("localhost", "*.cern.ch", "*.fnal.gov", "IP:127.0.0.1")
DAYS = "3650"


def up(lab: Lab) -> bool:
    """Make them where they are not there yet; True where anything was done. Needs the ``openssl`` program."""
    certificate, key = lab.certs / "servicecert.pem", lab.certs / "servicekey.pem"
    if certificate.exists() and key.exists():
        return False
    trusted = lab.certs / "certificates"
    trusted.mkdir(parents=True, exist_ok=True)
    authority, authority_key = lab.certs / "authority.pem", lab.certs / "authority.key"
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", DAYS, "-subj", "/DC=example/CN=wmagent lab",
             "-keyout", str(authority_key), "-out", str(authority))  # fmt: skip
    names = ",".join(name if ":" in name else f"DNS:{name}" for name in NAMES)
    request, extensions = lab.certs / "request.pem", lab.certs / "extensions.cnf"
    extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n", encoding="ascii")
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/DC=example/OU=computers/CN=localhost",
             "-keyout", str(key), "-out", str(request))  # fmt: skip
    _openssl("x509", "-req", "-in", str(request), "-CA", str(authority), "-CAkey", str(authority_key),
             "-CAcreateserial", "-days", DAYS, "-extfile", str(extensions), "-out", str(certificate))  # fmt: skip
    key.chmod(0o400)
    authority_key.unlink()
    proxy = lab.certs / "myproxy.pem"
    proxy.touch(mode=0o600)
    proxy.write_bytes(certificate.read_bytes() + key.read_bytes())
    digest = _openssl("x509", "-noout", "-hash", "-in", str(authority)).strip()
    _copy(authority, trusted / f"{digest}.0")
    return True


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def _openssl(*arguments: str) -> str:
    try:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise WMAgentError("openssl is not on this machine; install the package openssl") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise WMAgentError(f"openssl {arguments[0]} failed: {lines[-1] if lines else 'no reason given'}")
    return done.stdout
