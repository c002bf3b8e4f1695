# SPDX-License-Identifier: GPL-3.0-or-later
"""Where images are kept: a folder in OCI layout, or an OCI registry over HTTP(S).

Whatever is read is checked against its digest.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release import manifest as documents
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import (
    Image,
    canonical_json,
    check_digest,
    check_image_name,
)

CHUNK = 1024 * 1024


class Readable(Protocol):
    """What a blob is read from."""

    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


class VerifyingReader:
    """A stream that raises WMAgentError at its end where its content is not what ``digest`` and ``size`` say.

    Use it as a context manager and read to the end: what was read before the end is not yet proven.
    """

    def __init__(self, source: Readable, digest: str, where: str, size: int | None = None) -> None:
        self._source = source
        self._digest = digest
        self._where = where
        self._size = size
        self._hash = hashlib.sha256()
        self._seen = 0

    def read(self, size: int = -1, /) -> bytes:
        """Like a file's; b'' at the proven end."""
        data = self._source.read(size)
        self._hash.update(data)
        self._seen += len(data)
        if size < 0 or (not data and size != 0):
            self._check()
        return data

    def _check(self) -> None:
        if self._size is not None and self._seen != self._size:
            raise WMAgentError(
                f"blob {self._digest} of {self._where} is {self._seen} bytes long instead of {self._size}; copy the "
                f"image again"
            )
        if "sha256:" + self._hash.hexdigest() != self._digest:
            raise WMAgentError(
                f"blob {self._digest} of {self._where} is not what its digest says; copy the image again"
            )

    def close(self) -> None:
        """Close the stream beneath."""
        self._source.close()

    def __enter__(self) -> VerifyingReader:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Repository(ABC):
    """A set of named images. ``location`` is what it was opened with, without a password."""

    location: str

    @abstractmethod
    def all_names(self) -> list[str]:
        """Every name, those of signatures too, sorted."""

    @abstractmethod
    def read_manifest(self, name: str) -> tuple[str, bytes] | None:
        """Digest and checked content of the manifest called ``name``; None where there is none."""

    @abstractmethod
    def open_blob(self, digest: str, size: int | None = None) -> VerifyingReader:
        """A verifying stream of one blob; WMAgentError where it is not there."""

    @abstractmethod
    def has_blob(self, digest: str, size: int | None = None) -> bool:
        """True where the blob is there (with this size, if given). The content is not read."""

    @abstractmethod
    def put_blob(self, digest: str, source: Path | bytes) -> None:
        """Store one blob; nothing happens where it is there. WMAgentError where ``source`` is not ``digest``."""

    @abstractmethod
    def put_manifest(self, name: str, content: bytes) -> str:
        """Store a manifest under ``name``, whose blobs are there already; returns its digest."""

    def names(self) -> list[str]:
        """Names of all images, sorted."""
        return [name for name in self.all_names() if not documents.is_signature_name(name)]

    def read_blob(self, digest: str, size: int | None = None) -> bytes:
        """One whole blob, checked."""
        with self.open_blob(digest, size) as stream:
            return stream.read()

    def find(self, name: str) -> Image | None:
        """The image called ``name``, its manifest and config checked; None where there is none of that name."""
        check_image_name(name)
        found = self.read_manifest(name)
        if found is None:
            return None
        digest, content = found
        where = f"image {name} in {self.location}"
        manifest = documents.read_manifest(content, where)
        config = self.read_blob(manifest["config"]["digest"], manifest["config"]["size"])
        return documents.read_image(name, digest, manifest, config, where)

    def image(self, name: str) -> Image:
        """Like ``find``, but an unknown name is a WMAgentError that lists those there are."""
        image = self.find(name)
        if image is None:
            known = self.names()
            there = f"it has {', '.join(known[:12])}{' …' if len(known) > 12 else ''}" if known else "it is empty"
            raise WMAgentError(
                f"no image {name} in {self.location}; {there}; build it with playbooks/image.yml or name another"
            )
        return image

    def verify(self, image: Image, *, content: bool = True) -> None:
        """Check that every wheel of ``image`` is there, with its size and, unless ``content`` is False, its digest.

        Raises WMAgentError for the first that is not.
        """
        for wheel in image.description.wheels:
            if not self.has_blob(wheel.digest, wheel.size):
                raise WMAgentError(
                    f"{wheel.filename} of image {image.name} is missing or truncated in {self.location}; build or "
                    f"copy the image again"
                )
            if content:
                with self.open_blob(wheel.digest, wheel.size) as stream:
                    while stream.read(CHUNK):
                        pass

    def put(self, name: str, manifest: bytes, config: bytes, blobs: Mapping[str, Path]) -> str:
        """Store an image: ``blobs`` maps the digest of each layer to its file. Returns the manifest digest.

        The name appears last, so that an image is there wholly or not at all.
        """
        check_image_name(name)
        for entry in documents.read_manifest(manifest, f"image {name}")["layers"]:
            digest = entry["digest"]
            if digest in blobs:
                self.put_blob(digest, blobs[digest])
            elif not self.has_blob(digest, entry["size"]):
                raise WMAgentError(
                    f"image {name} needs blob {digest}, which is neither given nor in {self.location}; build the "
                    f"image again"
                )
        self.put_blob(documents.digest_of(config), config)
        return self.put_manifest(name, manifest)

    def signature(self, image: Image) -> list[bytes]:
        """The SSH signatures kept for ``image`` (armoured text); empty where it is unsigned."""
        found = self.read_manifest(documents.signature_name(image.digest))
        if found is None:
            return []
        manifest = documents.read_manifest(found[1], f"the signature of image {image.name} in {self.location}")
        return [self.read_blob(layer["digest"], layer["size"]) for layer in manifest["layers"]]

    def put_signature(self, image: Image, signature: bytes) -> None:
        """Keep one more signature for ``image``."""
        signatures = self.signature(image)
        if signature in signatures:
            return
        signatures.append(signature)
        config = canonical_json({"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": []}})
        manifest = documents.make_signature_manifest(image.digest, config, signatures)
        for blob in (*signatures, config):
            self.put_blob(documents.digest_of(blob), blob)
        self.put_manifest(documents.signature_name(image.digest), manifest)


class DirectoryRepository(Repository):
    """A folder in OCI layout. ``create`` makes it where it is missing; otherwise a missing one is a WMAgentError."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.folder = folder
        self.location = str(folder)
        self._blobs = folder / "blobs" / "sha256"
        if not (folder / "oci-layout").is_file():
            if not create:
                raise WMAgentError(
                    f"{folder} is not an image repository (no oci-layout in it); build an image into it or give "
                    f"another folder"
                )
            self._create()

    def _create(self) -> None:
        with _plain_errors(self.folder):
            self._blobs.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "index.json").exists():
                _write_aside(self.folder / "index.json", canonical_json(_index([])))
            _write_aside(self.folder / "oci-layout", canonical_json({"imageLayoutVersion": "1.0.0"}))

    def _entries(self) -> list[dict[str, Any]]:
        file = self.folder / "index.json"
        try:
            entries = json.loads(file.read_bytes())["manifests"]
            for entry in entries:
                check_digest(entry["digest"])
            return list(entries)
        except (OSError, ValueError, KeyError, TypeError, WMAgentError) as error:
            raise WMAgentError(f"{file} cannot be read ({error}); copy the repository again") from None

    def all_names(self) -> list[str]:
        """Every name in ``index.json``."""
        return sorted(name for entry in self._entries() if (name := _ref_name(entry)))

    def read_manifest(self, name: str) -> tuple[str, bytes] | None:
        """Digest and content of a manifest, or None."""
        for entry in self._entries():
            if _ref_name(entry) == name:
                return entry["digest"], self.read_blob(entry["digest"], entry.get("size"))
        return None

    def _blob_path(self, digest: str) -> Path:
        return self._blobs / check_digest(digest).removeprefix("sha256:")

    def open_blob(self, digest: str, size: int | None = None) -> VerifyingReader:
        """A verifying stream of the blob's file."""
        try:
            stream: BinaryIO = self._blob_path(digest).open("rb")
        except OSError as error:
            raise WMAgentError(
                f"blob {digest} of {self.location} cannot be read ({error.strerror}); copy the image again"
            ) from None
        return VerifyingReader(stream, digest, self.location, size)

    def has_blob(self, digest: str, size: int | None = None) -> bool:
        """True where the file is there, with this size if given."""
        try:
            status = self._blob_path(digest).stat()
        except OSError:
            return False
        return size is None or status.st_size == size

    def put_blob(self, digest: str, source: Path | bytes) -> None:
        """Copy one blob in; written aside, checked, then renamed into place. One of a wrong length is replaced."""
        length = len(source) if isinstance(source, bytes) else source.stat().st_size
        target = self._blob_path(digest)
        if self.has_blob(digest, length):
            return
        with _plain_errors(self.folder):
            _write_aside(target, source, digest)

    def put_manifest(self, name: str, content: bytes) -> str:
        """Store the manifest and (re)name it in ``index.json``, one writer at a time."""
        digest = documents.digest_of(content)
        self.put_blob(digest, content)
        entry = {
            "mediaType": documents.MANIFEST_TYPE,
            "digest": digest,
            "size": len(content),
            "annotations": {documents.REF_ANNOTATION: name},
        }
        with _plain_errors(self.folder), _only_writer(self.folder):
            others = [other for other in self._entries() if _ref_name(other) != name]
            entries = sorted([*others, entry], key=lambda e: (_ref_name(e), e["digest"]))
            _write_aside(self.folder / "index.json", canonical_json(_index(entries)))
        return digest


def open_repository(
    location: str, *, timeout: float = 60, create: bool = False, ca_file: str | None = None
) -> Repository:
    """Open the repository at ``location``: a folder, or ``http(s)://host[:port]/path`` of an OCI registry.

    timeout: seconds that one network operation may stay silent
    create:  make a folder that is missing
    ca_file: certificates to trust, for https

    Raises WMAgentError where the location is none of these, or the folder is no repository.
    """
    if location.startswith(("http://", "https://")):
        from ansible_collections.dmwm.wmagent.plugins.module_utils._release.registry import RegistryRepository

        return RegistryRepository(location, timeout=timeout, ca_file=ca_file)
    if not location or "://" in location:
        raise WMAgentError(
            f"image repository {location!r} is neither a folder nor an http(s):// URL; set wmagent_repository"
        )
    return DirectoryRepository(Path(location).expanduser().absolute(), create=create)


def _index(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": documents.INDEX_TYPE, "manifests": entries}


def _ref_name(entry: dict[str, Any]) -> str:
    return str(entry.get("annotations", {}).get(documents.REF_ANNOTATION, ""))


def _write_aside(target: Path, source: Path | bytes, digest: str | None = None) -> None:
    """Write ``source`` next to ``target``, check it, rename it into place."""
    handle, name = tempfile.mkstemp(prefix=".new-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            seen = hashlib.sha256()
            for chunk in _chunks(source):
                seen.update(chunk)
                stream.write(chunk)
        if digest is not None and "sha256:" + seen.hexdigest() != digest:
            raise WMAgentError(f"what was to be stored as {digest} has another digest; build the image again")
        Path(name).chmod(0o644)
        Path(name).rename(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


@contextlib.contextmanager
def _plain_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WMAgentError(
            f"image repository {folder} cannot be written ({error.strerror}); check the folder and its disk"
        ) from None


@contextlib.contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Two builds may write at once; without this one would lose its name in the index. Held for milliseconds."""
    with (folder / "oci-layout").open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
