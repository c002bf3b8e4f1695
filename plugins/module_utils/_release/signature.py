# SPDX-License-Identifier: GPL-3.0-or-later
"""Detached SSH signatures over an image's manifest digest: made and checked by OpenSSH's ssh-keygen."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Image
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import Repository

NAMESPACE = "wmagent-image"
"""Keeps a signature made for something else from counting for an image."""

_TIMEOUT = 30


def message(image: Image) -> bytes:
    """What is signed: the manifest's digest, and through it everything else, the name included."""
    return (image.digest + "\n").encode("ascii")


def make_signature(image: Image, key: Path) -> bytes:
    """A signature of ``image`` by the private key in ``key`` (a public one: through the SSH agent), armoured.

    Raises WMAgentError where the key is missing or locked.
    """
    if not key.is_file():
        raise WMAgentError(f"signing key {key} does not exist; make one with ssh-keygen -t ed25519 -f {key}")
    done = _ssh_keygen(["-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key)], message(image))
    if done.returncode != 0 or b"SSH SIGNATURE" not in done.stdout:
        raise WMAgentError(
            f"image {image.name} cannot be signed with {key}: {_words(done)}; a key with a passphrase needs ssh-add"
        )
    return done.stdout


def signer_of(repository: Repository, image: Image, allowed_signers: Path) -> str:
    """The principal in ``allowed_signers`` whose signature of ``image`` holds, '' where there is none."""
    if not allowed_signers.is_file():
        raise WMAgentError(
            f"allowed signers file {allowed_signers} does not exist; set wmagent_allowed_signers to one, or to ''"
        )
    for signature in repository.signature(image):
        if signer := _signer(signature, image, allowed_signers):
            return signer
    return ""


def verify_signature(repository: Repository, image: Image, allowed_signers: Path) -> str:
    """Like ``signer_of``, but WMAgentError where the image is unsigned or no signature by them holds."""
    if signer := signer_of(repository, image, allowed_signers):
        return signer
    where = f"image {image.name} in {repository.location}"
    if not repository.signature(image):
        raise WMAgentError(f"{where} is not signed; sign it with playbooks/image.yml or name another")
    raise WMAgentError(
        f"{where} has no good signature by anyone in {allowed_signers}; do not install it, "
        "or have an allowed signer sign it"
    )


def _signer(signature: bytes, image: Image, allowed_signers: Path) -> str:
    """Who made this signature, '' where it is wrong or by a stranger."""
    with tempfile.NamedTemporaryFile(prefix="wmagent-signature-") as file:
        file.write(signature)
        file.flush()
        common = ["-f", str(allowed_signers), "-s", file.name]
        found = _ssh_keygen(["-Y", "find-principals", *common], message(image))
        for principal in found.stdout.decode("utf-8", "replace").splitlines() if found.returncode == 0 else ():
            checked = _ssh_keygen(["-Y", "verify", "-n", NAMESPACE, "-I", principal, *common], message(image))
            if checked.returncode == 0:
                return principal
    return ""


def _ssh_keygen(arguments: Sequence[str], content: bytes) -> subprocess.CompletedProcess[bytes]:
    # Without a terminal and without a program to ask with, a locked key fails instead of waiting for a passphrase.
    environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
    environment.pop("SSH_ASKPASS", None)
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments],
            input=content,
            env=environment,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise WMAgentError("ssh-keygen is not installed; apt install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise WMAgentError(
            f"ssh-keygen did not finish within {_TIMEOUT} s; look at the key and the SSH agent"
        ) from None


def _words(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode("utf-8", "replace").split("\n")
    return " ".join(" ".join(lines).split())[:200] or "no reason given"
