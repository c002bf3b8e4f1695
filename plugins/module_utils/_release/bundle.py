# SPDX-License-Identifier: GPL-3.0-or-later
"""One file that takes the blobs an agent lacks to it: a tar whose members are called by their digest."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Wheel


def write_bundle(
    target: Path, wheels: Iterable[Wheel], open_blob: Callable[[str, int | None], AbstractContextManager[Any]]
) -> int:
    """Write the blobs of ``wheels`` to ``target``; returns its size in bytes.

    open_blob: digest and size → a stream that proves its content at its end (``Repository.open_blob``).
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tarfile.open(aside, "w", format=tarfile.USTAR_FORMAT) as bundle:
            for wheel in wheels:
                entry = tarfile.TarInfo(wheel.digest.removeprefix("sha256:"))
                entry.size = wheel.size
                with open_blob(wheel.digest, wheel.size) as stream:
                    bundle.addfile(entry, stream)
                    stream.read(1)  # a verifying stream checks once it sees the end
        aside.rename(target)
    except OSError as error:
        raise WMAgentError(f"bundle {target} cannot be written ({error.strerror}); check the disk") from None
    finally:
        aside.unlink(missing_ok=True)
    return target.stat().st_size


def unpack_bundle(bundle: Path, store: BlobStore, wanted: Iterable[Wheel]) -> list[str]:
    """Store every blob of ``bundle``; returns their digests.

    A blob stays once it is proven, whatever happens to those after it, so a second try has less to send. Raises
    WMAgentError where the bundle is cut short, holds a blob nobody asked for or one with a wrong digest.
    """
    sizes = {wheel.digest: wheel.size for wheel in wanted}
    stored: list[str] = []
    try:
        with tarfile.open(bundle, "r|") as members:
            for entry in members:
                digest = f"sha256:{entry.name}"
                content = members.extractfile(entry)
                if digest not in sizes or content is None:
                    raise WMAgentError(f"bundle {bundle} holds {entry.name!r}, which was not asked for; run again")
                store.add(digest, content, sizes[digest])
                stored.append(digest)
    except (tarfile.TarError, EOFError):
        raise WMAgentError(
            f"bundle {bundle} is cut short or damaged; {len(stored)} of {len(sizes)} blobs are kept, run again"
        ) from None
    except OSError as error:
        raise WMAgentError(f"bundle {bundle} cannot be read ({error.strerror}); run again") from None
    return stored
