# SPDX-License-Identifier: GPL-3.0-or-later
"""Small wheels and images made on the spot, and a WMAgent wheel just real enough to have its config rendered."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import REQUIRED
from ansible_collections.dmwm.wmagent.plugins.module_utils._release import manifest as documents
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import (
    RELEASE_PART,
    TOOLS_PART,
    Image,
    ImageDescription,
    Wheel,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import probe
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import DirectoryRepository

PYTHON = Path(sys.executable).resolve()


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, bytes],
    *,
    executable: Sequence[str] = (),
    console_scripts: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    purelib: bool = True,
    wrong_record: Sequence[str] = (),
) -> tuple[Wheel, Path]:
    """Write a wheel. Paths in ``files`` that begin with ``{data}`` go into its ``.data`` folder."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    members = {path.replace("{data}", f"{stem}.data"): content for path, content in files.items()}
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    members[f"{info}/METADATA"] = (metadata + "".join(f"Requires-Dist: {r}\n" for r in requires)).encode()
    members[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: {str(purelib).lower()}\n".encode()
    if console_scripts:
        lines = "".join(f"{script} = {target}\n" for script, target in console_scripts.items())
        members[f"{info}/entry_points.txt"] = f"[console_scripts]\n{lines}".encode()
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for path, content in members.items():
        known = b"something else" if path in wrong_record else content
        digest = base64.urlsafe_b64encode(hashlib.sha256(known).digest()).decode().rstrip("=")
        rows.writerow([path, f"sha256={digest}", len(content)])
    rows.writerow([f"{info}/RECORD", "", ""])
    members[f"{info}/RECORD"] = record.getvalue().encode()
    target = folder / f"{stem}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    marked = {path.replace("{data}", f"{stem}.data") for path in executable}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in members.items():
            entry = zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100755 if path in marked else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return describe_wheel(target), target


def describe_wheel(path: Path, part: str = RELEASE_PART) -> Wheel:
    """The wheel in a file."""
    name, version = path.name.split("-")[:2]
    digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel(path.name, digest, path.stat().st_size, re.sub(r"[-_.]+", "-", name).lower(), version, part)


def make_image(
    name: str, wheels: Sequence[tuple[Wheel, Path]], tools: Sequence[tuple[Wheel, Path]] = (), **changes: object
) -> tuple[Image, bytes, bytes]:
    """An image of these wheels for this host, with its manifest and config."""
    here = probe(PYTHON)
    fields: dict[str, object] = {
        "name": name,
        "tag": name.partition("-")[0],
        "version": name.replace("-p", "+p"),
        "python": here.version,
        "platform": here.platform,
        "glibc": "2.17",
        "created": "2024-01-01T00:00:00Z",
        "wheels": (
            *(wheel for wheel, _path in wheels),
            *(Wheel(**{**wheel.as_dict(), "part": TOOLS_PART}) for wheel, _path in tools),
        ),
    }
    description = ImageDescription(**{**fields, **changes})  # type: ignore[arg-type]
    config = documents.make_config(description)
    manifest = documents.make_manifest(description, config, "")
    digest = documents.digest_of(manifest)
    return documents.read_image(name, digest, documents.read_manifest(manifest, name), config, name), manifest, config


def make_repository(
    folder: Path, name: str, wheels: Sequence[tuple[Wheel, Path]], tools: Sequence[tuple[Wheel, Path]] = ()
) -> Image:
    """Put an image of these wheels into the repository ``folder``, which is made if need be."""
    image, manifest, config = make_image(name, wheels, tools)
    blobs = {wheel.digest: path for wheel, path in (*wheels, *tools)}
    DirectoryRepository(folder, create=True).put(name, manifest, config, blobs)
    return image


def stage_blobs(store: BlobStore, wheels: Sequence[tuple[Wheel, Path]]) -> None:
    """Put the wheels into a blob store."""
    for wheel, path in wheels:
        with path.open("rb") as stream:
            store.add(wheel.digest, stream, wheel.size)


def installer_wheel(folder: Path) -> tuple[Wheel, Path]:
    """The library ``installer`` of this environment, as a wheel again."""
    import installer

    package = Path(installer.__file__).parent
    files = {f"installer/{p.relative_to(package)}": p.read_bytes() for p in sorted(package.rglob("*.py"))}
    return make_wheel(folder, "installer", installer.__version__, files)


_CONFIGURATION = b"""
import json
from types import SimpleNamespace


def loadConfigurationFile(path):
    with open(path) as stream:
        return json.loads(stream.read().partition("=")[2], object_hook=lambda d: SimpleNamespace(**d))


def saveConfigurationFile(config, path):
    with open(path, "w") as stream:
        stream.write("config = " + json.dumps(config, default=vars, sort_keys=True, indent=1) + "\\n")
"""

_MOD_CONFIG = b"""#!/usr/bin/env python
import sys
from WMCore.Configuration import loadConfigurationFile, saveConfigurationFile

options = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
config = loadConfigurationFile(options["input"])
config.General.workDir = options["working_dir"]
config.CoreDatabase.connectUrl = options["coredb_url"]
saveConfigurationFile(config, options["output"])
"""

_TEMPLATE = (
    b'config = {"Agent": {"teamName": "REPLACE_TEAM_NAME", "agentNumber": 0}, "General": {}, '
    b'"CoreDatabase": {}, "JobSubmitter": {"maxJobs": 1}}\n'
)


def wmagent_files(extra: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Files of a wheel that can stand in for WMAgent's."""
    return {
        "WMCore/__init__.py": b"__version__ = '1'\n",
        "WMCore/Configuration.py": _CONFIGURATION,
        "WMCore/Big.py": b"def where():\n    return where.__code__.co_filename\n" + b"# filler\n" * 5000,
        "{data}/data/bin/wmagent-mod-config": _MOD_CONFIG,
        "{data}/data/etc/WMAgentConfig.py": _TEMPLATE,
        **(extra or {}),
    }


SECRETS = {
    **dict.fromkeys(REQUIRED, "http://127.0.0.1:1/none"),
    "MDB_USER": "agent",
    "MDB_PASS": "s3cret-mariadb",
    "MDB_HOST": "127.0.0.1",
    "COUCH_USER": "couch",
    "COUCH_PASS": "s3cret-couch",
    "COUCH_HOST": "127.0.0.1",
    "COUCH_PORT": "5984",
    "TEAMNAME": "testbed",
    "AGENT_NUMBER": "0",
}


def write_secrets(path: Path, **changes: str) -> Path:
    """A complete WMAgent.secrets."""
    path.write_text("".join(f"{key}={value}\n" for key, value in {**SECRETS, **changes}.items()))
    return path
