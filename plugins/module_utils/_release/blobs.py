# SPDX-License-Identifier: GPL-3.0-or-later
"""The blobs staged on an agent: one file ``<64 hex>`` each, whose content is what its name says."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Wheel, check_digest
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.durable import sync_folder

CHUNK = 1024 * 1024
_HEX = re.compile(r"[0-9a-f]{64}")


class Source(Protocol):
    """Anything to read a blob from."""

    def read(self, size: int = -1, /) -> bytes: ...


class BlobStore:
    """Blobs under ``folder``. A blob gets its name only once its content is proven and on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """File of a blob, there or not."""
        return self.folder / check_digest(digest).removeprefix("sha256:")

    def digests(self) -> frozenset[str]:
        """Digests of all blobs there."""
        if not self.folder.is_dir():
            return frozenset()
        return frozenset(f"sha256:{file.name}" for file in self.folder.iterdir() if _HEX.fullmatch(file.name))

    def has(self, wheel: Wheel) -> bool:
        """True where the wheel is there and its content is right; all of it is read (over 1 GB/s)."""
        path = self.path(wheel.digest)
        try:
            if path.stat().st_size != wheel.size:
                return False
            with path.open("rb") as stream:
                return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest() == wheel.digest
        except FileNotFoundError:
            return False
        except OSError as error:
            raise WMAgentError(f"blob {path} cannot be read ({error.strerror}); check its owner and the disk") from None

    def missing(self, wheels: Iterable[Wheel]) -> list[Wheel]:
        """Those of ``wheels`` that are not there, or damaged; each digest once, in the order given."""
        seen: set[str] = set()
        missing = []
        for wheel in wheels:
            if wheel.digest not in seen and not self.has(wheel):
                missing.append(wheel)
            seen.add(wheel.digest)
        return missing

    def add(self, digest: str, source: Source, size: int) -> None:
        """Store one blob.

        Raises WMAgentError, and leaves nothing behind, where ``source`` is not ``size`` bytes of that digest.
        """
        target = self.path(digest)
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".{target.name}.part"
        try:
            seen, length = hashlib.sha256(), 0
            with aside.open("wb") as stream:
                # One byte more than promised is enough to know that it is too long.
                while chunk := source.read(min(CHUNK, size + 1 - length)):
                    seen.update(chunk)
                    length += len(chunk)
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
            if length != size or "sha256:" + seen.hexdigest() != digest:
                told = f"{length} of {size} bytes came" if length < size else "its content has another digest"
                raise WMAgentError(f"blob {digest} was refused and removed: {told}; copy or build the image again")
            aside.rename(target)
            sync_folder(self.folder)
        except OSError as error:
            raise WMAgentError(
                f"blob {target} cannot be written ({error.strerror}); check the disk and the owner"
            ) from None
        finally:
            aside.unlink(missing_ok=True)

    def remove(self, digest: str) -> int:
        """Remove one blob; returns the bytes given back, 0 where it was not there."""
        path = self.path(digest)
        try:
            size = path.stat().st_blocks * 512
            path.unlink()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise WMAgentError(f"blob {path} cannot be removed ({error.strerror}); check its owner and mode") from None
        return size

    def unused(self, needed: Iterable[str]) -> frozenset[str]:
        """Digests of blobs that are not among ``needed``."""
        return self.digests() - frozenset(needed)

    def clean(self) -> None:
        """Remove what a killed staging left half written."""
        for leftover in self.folder.glob(".*.part"):
            leftover.unlink(missing_ok=True)
