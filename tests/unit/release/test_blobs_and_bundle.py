# SPDX-License-Identifier: GPL-3.0-or-later
"""Blobs are what their digest says, or they are not there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.bundle import unpack_bundle, write_bundle
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Wheel
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import VerifyingReader
from ansible_collections.dmwm.wmagent.plugins.plugin_utils.sending import bundle_size
from support.wheels import make_wheel, stage_blobs

Wheels = list[tuple[Wheel, Path]]


@pytest.fixture
def wheels(tmp_path: Path) -> Wheels:
    return [
        make_wheel(tmp_path / "wheels", name, "1.0", {f"{name}.py": b"x = 1\n" * size})
        for name, size in (("alpha", 10), ("beta", 40000), ("gamma", 3))
    ]


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def bundle_of(wheels: Wheels, target: Path) -> Path:
    paths = {wheel.digest: path for wheel, path in wheels}
    write_bundle(
        target,
        [wheel for wheel, _ in wheels],
        lambda digest, size: VerifyingReader(paths[digest].open("rb"), digest, "here", size),
    )
    return target


def test_only_missing_blobs_are_missing_and_each_once(wheels: Wheels, store: BlobStore) -> None:
    names = [wheel for wheel, _ in wheels]
    assert store.missing([*names, names[0]]) == names
    stage_blobs(store, wheels[:2])
    assert store.missing(names) == names[2:]
    assert store.digests() == {wheel.digest for wheel in names[:2]}
    assert store.unused([names[0].digest]) == {names[1].digest}


def test_a_damaged_blob_is_missing(wheels: Wheels, store: BlobStore) -> None:
    stage_blobs(store, wheels)
    blob = store.path(wheels[1][0].digest)
    content = bytearray(blob.read_bytes())
    content[100] ^= 1
    blob.write_bytes(content)
    assert store.missing([wheel for wheel, _ in wheels]) == [wheels[1][0]]


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"x", lambda c: b"x" + c[1:], lambda c: b""])
def test_a_wrong_blob_is_refused_and_removed(wheels: Wheels, store: BlobStore, change) -> None:  # type: ignore[no-untyped-def]
    wheel, path = wheels[0]
    with pytest.raises(WMAgentError, match="refused and removed"):
        store.add(wheel.digest, io.BytesIO(change(path.read_bytes())), wheel.size)
    assert list(store.folder.iterdir()) == []


def test_a_bundle_brings_every_blob_and_has_the_size_foretold(wheels: Wheels, store: BlobStore, tmp_path: Path) -> None:
    names = [wheel for wheel, _ in wheels]
    bundle = bundle_of(wheels, tmp_path / "bundle.tar")
    assert bundle.stat().st_size == bundle_size(names)
    assert unpack_bundle(bundle, store, names) == [wheel.digest for wheel in names]
    assert store.missing(names) == []


def test_what_came_before_the_cut_stays(wheels: Wheels, store: BlobStore, tmp_path: Path) -> None:
    names = [wheel for wheel, _ in wheels]
    bundle = bundle_of(wheels, tmp_path / "bundle.tar")
    cut = 512 + -(-names[0].size // 512) * 512 + 512 + names[1].size // 2
    bundle.write_bytes(bundle.read_bytes()[:cut])
    with pytest.raises(WMAgentError, match="1 of 3 blobs are kept"):
        unpack_bundle(bundle, store, names)
    assert store.missing(names) == names[1:]
    unpack_bundle(bundle_of(wheels[1:], tmp_path / "rest.tar"), store, names)
    assert store.missing(names) == []


def test_a_wrong_blob_in_a_bundle_does_not_take_the_others_along(
    wheels: Wheels, store: BlobStore, tmp_path: Path
) -> None:
    names = [wheel for wheel, _ in wheels]
    bundle = bundle_of(wheels, tmp_path / "bundle.tar")
    content = bytearray(bundle.read_bytes())
    content[512 + -(-names[0].size // 512) * 512 + 512 + 60] ^= 1
    bundle.write_bytes(content)
    with pytest.raises(WMAgentError, match="refused and removed"):
        unpack_bundle(bundle, store, names)
    assert store.missing(names) == names[1:]
    assert all(not entry.name.endswith(".part") for entry in store.folder.iterdir())


def test_a_blob_nobody_asked_for_is_refused(wheels: Wheels, store: BlobStore, tmp_path: Path) -> None:
    bundle = bundle_of(wheels, tmp_path / "bundle.tar")
    with pytest.raises(WMAgentError, match="not asked for"):
        unpack_bundle(bundle, store, [wheels[0][0]])
    assert store.digests() == {wheels[0][0].digest}


def test_a_tampered_repository_makes_no_bundle(wheels: Wheels, tmp_path: Path) -> None:
    wheels[1][1].write_bytes(b"x" * wheels[1][0].size)
    with pytest.raises(WMAgentError, match="not what its digest says"):
        bundle_of(wheels, tmp_path / "bundle.tar")
    assert [entry.name for entry in tmp_path.iterdir()] == ["wheels"]
