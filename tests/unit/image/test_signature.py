# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH signatures of images: unsigned, by a stranger, moved from another image, damaged."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Image
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import DirectoryRepository
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.signature import (
    NAMESPACE,
    make_signature,
    verify_signature,
)
from support.wheels import make_repository, make_wheel


def make_key(file: Path, passphrase: str = "") -> Path:
    """A new SSH key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(file)], check=True, timeout=30)
    return file


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The key of an allowed signer."""
    return make_key(tmp_path / "key")


@pytest.fixture
def allowed(tmp_path: Path, key: Path) -> Path:
    """The allowed signers file with that one."""
    file = tmp_path / "allowed"
    file.write_text(f'release@example.org namespaces="{NAMESPACE}" {key.with_suffix(".pub").read_text()}')
    return file


@pytest.fixture
def repository(tmp_path: Path) -> DirectoryRepository:
    """A repository with the images 2.4.4 and 2.4.5."""
    for name in ("2.4.4", "2.4.5"):
        make_repository(tmp_path / "images", name, [make_wheel(tmp_path / "wheels", "one", name, {"one.py": b""})])
    return DirectoryRepository(tmp_path / "images")


@pytest.fixture
def image(repository: DirectoryRepository) -> Image:
    """One of them."""
    return repository.image("2.4.4")


def test_a_signed_image(repository: DirectoryRepository, image: Image, key: Path, allowed: Path) -> None:
    repository.put_signature(image, make_signature(image, key))
    assert verify_signature(repository, image, allowed) == "release@example.org"
    assert repository.names() == ["2.4.4", "2.4.5"]


def test_an_unsigned_image(repository: DirectoryRepository, image: Image, allowed: Path) -> None:
    with pytest.raises(WMAgentError, match=r"^image 2\.4\.4 in .* is not signed; sign it"):
        verify_signature(repository, image, allowed)


def test_a_strangers_signature_does_not_count(
    repository: DirectoryRepository, image: Image, tmp_path: Path, key: Path, allowed: Path
) -> None:
    repository.put_signature(image, make_signature(image, make_key(tmp_path / "stranger")))
    with pytest.raises(WMAgentError, match="no good signature by anyone in"):
        verify_signature(repository, image, allowed)
    repository.put_signature(image, make_signature(image, key))
    assert len(repository.signature(image)) == 2
    assert verify_signature(repository, image, allowed) == "release@example.org"


def test_the_signature_of_another_image_does_not_count(
    repository: DirectoryRepository, image: Image, key: Path, allowed: Path
) -> None:
    repository.put_signature(image, make_signature(repository.image("2.4.5"), key))
    with pytest.raises(WMAgentError, match="no good signature"):
        verify_signature(repository, image, allowed)


def test_a_signature_for_another_purpose_does_not_count(
    repository: DirectoryRepository, image: Image, key: Path, allowed: Path
) -> None:
    command = ["ssh-keygen", "-Y", "sign", "-q", "-n", "git", "-f", str(key)]
    done = subprocess.run(command, input=f"{image.digest}\n".encode(), capture_output=True, check=True, timeout=30)
    repository.put_signature(image, done.stdout)
    allowed.write_text(allowed.read_text().replace(f'namespaces="{NAMESPACE}" ', ""))
    with pytest.raises(WMAgentError, match="no good signature"):
        verify_signature(repository, image, allowed)


def test_a_tampered_signature(
    repository: DirectoryRepository, image: Image, tmp_path: Path, key: Path, allowed: Path
) -> None:
    signature = make_signature(image, key)
    repository.put_signature(image, signature)
    for file in (tmp_path / "images" / "blobs" / "sha256").iterdir():
        if file.read_bytes() == signature:
            file.write_bytes(signature + b"\n")
    with pytest.raises(WMAgentError, match="copy the image again"):
        verify_signature(repository, image, allowed)


def test_garbage_in_place_of_a_signature(repository: DirectoryRepository, image: Image, allowed: Path) -> None:
    repository.put_signature(image, b"garbage")
    with pytest.raises(WMAgentError, match="no good signature"):
        verify_signature(repository, image, allowed)


def test_a_locked_key_asks_nobody(image: Image, tmp_path: Path) -> None:
    with pytest.raises(WMAgentError, match="ssh-add"):
        make_signature(image, make_key(tmp_path / "locked", "passphrase"))


def test_missing_files(repository: DirectoryRepository, image: Image, tmp_path: Path) -> None:
    with pytest.raises(WMAgentError, match=r"signing key .* does not exist"):
        make_signature(image, tmp_path / "none")
    with pytest.raises(WMAgentError, match=r"allowed signers file .* does not exist"):
        verify_signature(repository, image, tmp_path / "none")
