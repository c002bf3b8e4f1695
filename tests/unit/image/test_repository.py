# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository in a folder: whatever was truncated or tampered with is found, and is one line."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Image
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import (
    DirectoryRepository,
    open_repository,
)
from support.wheels import make_image, make_repository, make_wheel


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Image 2.4.4 of two wheels, in ``tmp_path/images``."""
    wheels = [make_wheel(tmp_path / "wheels", name, "1", {f"{name}.py": b"x = 1\n"}) for name in ("one", "two")]
    return make_repository(tmp_path / "images", "2.4.4", wheels)


def blob(tmp_path: Path, digest: str) -> Path:
    """The file of a blob."""
    return tmp_path / "images" / "blobs" / "sha256" / digest.removeprefix("sha256:")


def test_it_holds_what_was_put(tmp_path: Path, image: Image) -> None:
    repository = open_repository(str(tmp_path / "images"))
    assert repository.names() == ["2.4.4"]
    found = repository.image("2.4.4")
    assert found == image
    repository.verify(found)
    for wheel in found.description.wheels:
        assert repository.read_blob(wheel.digest, wheel.size) == (tmp_path / "wheels" / wheel.filename).read_bytes()


def test_an_unknown_image_is_told_with_those_there_are(tmp_path: Path, image: Image) -> None:
    with pytest.raises(WMAgentError, match=r"no image 9\.9 .* it has 2\.4\.4; build it"):
        open_repository(str(tmp_path / "images")).image("9.9")


@pytest.mark.parametrize("location", ["", "ftp://host/x"])
def test_an_unusable_location(location: str) -> None:
    with pytest.raises(WMAgentError, match="set wmagent_repository"):
        open_repository(location)


def test_a_folder_that_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(WMAgentError, match="is not an image repository"):
        open_repository(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_every_blob_is_checked(tmp_path: Path, image: Image) -> None:
    """Manifest, config and wheels: cut off at the end, or one byte changed."""
    repository = open_repository(str(tmp_path / "images"))
    digests = [image.digest, image.manifest["config"]["digest"], *(w.digest for w in image.description.wheels)]
    for digest in digests:
        file = blob(tmp_path, digest)
        right = file.read_bytes()
        for wrong in (right[:-1], right[:-1] + bytes([right[-1] ^ 1]), right + b"x", b""):
            file.write_bytes(wrong)
            with pytest.raises(WMAgentError) as caught:
                repository.verify(repository.image("2.4.4"))
            assert "\n" not in str(caught.value)
            assert "again" in str(caught.value)
        file.unlink()
        with pytest.raises(WMAgentError):
            repository.verify(repository.image("2.4.4"))
        file.write_bytes(right)
    repository.verify(repository.image("2.4.4"))


def test_presence_alone_finds_a_truncated_wheel(tmp_path: Path, image: Image) -> None:
    wheel = image.description.wheels[0]
    blob(tmp_path, wheel.digest).write_bytes(b"PK")
    with pytest.raises(WMAgentError, match=f"{wheel.filename} of image 2.4.4 is missing or truncated"):
        open_repository(str(tmp_path / "images")).verify(image, content=False)


@pytest.mark.parametrize("index", ["", "{}", '{"manifests":[{"digest":"x"}]}', '{"manifests":7}'])
def test_a_damaged_index(tmp_path: Path, image: Image, index: str) -> None:
    (tmp_path / "images" / "index.json").write_text(index)
    with pytest.raises(WMAgentError, match=r"index.json cannot be read"):
        open_repository(str(tmp_path / "images")).image("2.4.4")


def test_a_truncated_blob_is_put_again(tmp_path: Path, image: Image) -> None:
    wheel = image.description.wheels[0]
    blob(tmp_path, wheel.digest).write_bytes(b"PK")
    repository = DirectoryRepository(tmp_path / "images")
    repository.put_blob(wheel.digest, tmp_path / "wheels" / wheel.filename)
    repository.verify(image)


def test_a_blob_with_a_wrong_digest_is_not_taken(tmp_path: Path, image: Image) -> None:
    repository = DirectoryRepository(tmp_path / "images")
    digest = "sha256:" + "1" * 64
    with pytest.raises(WMAgentError, match="has another digest"):
        repository.put_blob(digest, b"content")
    assert not repository.has_blob(digest)
    assert not list((tmp_path / "images" / "blobs" / "sha256").glob(".new*"))


def test_an_image_without_its_blobs_gets_no_name(tmp_path: Path, image: Image) -> None:
    wheel = make_wheel(tmp_path / "more", "three", "1", {"three.py": b""})
    _image, manifest, config = make_image("2.4.5", [wheel])
    repository = DirectoryRepository(tmp_path / "images")
    with pytest.raises(WMAgentError, match="neither given nor in"):
        repository.put("2.4.5", manifest, config, {})
    assert repository.names() == ["2.4.4"]


def test_writers_at_once_lose_no_name(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels", "one", "1", {"one.py": b""})
    names = [f"2.4.{n}" for n in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: make_repository(tmp_path / "images", name, [wheel]), names))
    assert open_repository(str(tmp_path / "images")).names() == sorted(names)


def test_a_name_moves_to_a_new_image(tmp_path: Path, image: Image) -> None:
    wheel = make_wheel(tmp_path / "wheels", "three", "1", {"three.py": b""})
    newer = make_repository(tmp_path / "images", "2.4.4", [wheel])
    repository = open_repository(str(tmp_path / "images"))
    assert repository.image("2.4.4").digest == newer.digest
    assert len(json.loads((tmp_path / "images" / "index.json").read_text())["manifests"]) == 1
