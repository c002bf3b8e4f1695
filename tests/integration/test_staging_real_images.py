# SPDX-License-Identifier: GPL-3.0-or-later
"""The real WMAgent: installed as other installers would, and a patch release next to it for next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.adopted_drift import environment_drift
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Image
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.drift import release_drift
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.install import (
    Installed,
    install_release,
    staging,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import probe
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import disk_usage
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import DirectoryRepository, Repository
from ansible_collections.dmwm.wmagent.plugins.plugin_utils.sending import bundle_size
from support.wheels import PYTHON

REPOSITORY = Path(__file__).parents[2] / "build" / "images"
BASE, PATCH = "2.4.5.9", "2.4.5.9-p1"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (REPOSITORY / "oci-layout").is_file(), reason="no images built; run make images"),
]


class Host:
    """An agent that real images are staged on."""

    def __init__(self, root: Path) -> None:
        self.layout = AgentLayout(root)
        self.layout.root.mkdir()
        self.repository: Repository = DirectoryRepository(REPOSITORY)
        self.bytes_sent = 0

    def image(self, name: str) -> Image:
        if name not in self.repository.names():
            pytest.skip(f"image {name} is not built; run make images")
        return self.repository.image(name)

    def stage(self, name: str) -> Installed:
        image = self.image(name)
        store = BlobStore(self.layout.blobs)
        missing = store.missing(image.description.part("release"))
        self.bytes_sent = bundle_size(missing)
        with staging(self.layout):
            for wheel in missing:
                with self.repository.open_blob(wheel.digest, wheel.size) as stream:
                    store.add(wheel.digest, stream, wheel.size)
            return install_release(self.layout, image, probe(PYTHON), lambda *_: "config = None\n")

    def disk(self) -> int:
        return disk_usage(self.layout.releases, self.layout.blobs)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(tmp_path_factory.mktemp("agents") / "agent")


@pytest.fixture(scope="module")
def base(host: Host) -> Installed:
    return host.stage(BASE)


def contents(prefix: Path) -> dict[str, bytes]:
    """Files by path, without what each installer writes in its own words."""
    own = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "pyvenv.cfg", "_virtualenv.py"}
    own |= {"_virtualenv.pth", "CACHEDIR.TAG", ".gitignore", "files.json", "image.json", "release.json", "config.py"}
    own |= {"config.sha256", ".lock"}
    found = {}
    for path in prefix.rglob("*"):
        name = str(path.relative_to(prefix))
        if path.is_file() and not path.is_symlink() and path.name not in own and "__pycache__" not in name:
            found[name] = path.read_bytes()
    return found


def test_it_is_what_uv_installs(host: Host, base: Installed, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for wheel in host.image(BASE).description.part("release"):
        (wheels / wheel.filename).symlink_to(BlobStore(host.layout.blobs).path(wheel.digest))
    venv = tmp_path / "venv"
    environment = {**os.environ, "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_LINK_MODE": "copy"}
    uv = [sys.executable, "-m", "uv", "--quiet", "--no-config"]
    files = [str(path) for path in sorted(wheels.iterdir())]
    for command in (
        ["venv", "--python", str(PYTHON), str(venv)],
        ["pip", "install", "--offline", "--no-index", "--no-deps", "--python", str(venv / "bin/python"), *files],
    ):
        subprocess.run([*uv, *command], env=environment, check=True, timeout=300)
    theirs, ours = contents(venv), contents(base.release.path)
    prefix = {str(venv): str(base.release.path)}
    activation = {name for name in theirs if name.startswith("bin/") and "activate" in name}
    activation |= {"bin/deactivate.bat", "bin/pydoc.bat"}
    assert theirs.keys() - ours.keys() <= activation
    assert ours.keys() - theirs.keys() == set()
    differing = []
    for name in ours.keys() & theirs.keys():
        expected = theirs[name]
        if name.startswith("bin/"):
            for there, here in prefix.items():
                expected = expected.replace(there.encode(), here.encode())
        if ours[name] != expected and not _is_console_script(ours[name], base.release.python):
            differing.append(name)
    assert differing == []


def _is_console_script(content: bytes, python: Path) -> bool:
    """Each installer has its own words around the call of an entry point."""
    return content.startswith(f"#!{python}\n".encode()) and b"sys.exit(" in content


def test_a_patch_release_costs_next_to_nothing(host: Host, base: Installed) -> None:
    first = host.disk()
    done = host.stage(PATCH)
    second = host.disk() - first
    changed = {w.digest: w.size for w in host.image(PATCH).description.part("release")}
    for wheel in host.image(BASE).description.part("release"):
        changed.pop(wheel.digest, None)
    assert second / first <= 0.15, f"{second / first:.3f}"
    assert host.bytes_sent <= 1.1 * sum(changed.values())
    assert done.files_linked > 50 * done.files_written
    assert release_drift(done.release) == []


def test_it_runs_from_where_it_stands(base: Installed) -> None:
    python, prefix = base.release.python, str(base.release.path)
    code = "import WMCore.WMBase as m, sys; print(sys.prefix); print(m.getWMBASE.__code__.co_filename)"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    where, code_file = answer.stdout.split()
    assert where == prefix
    assert code_file.startswith(prefix + "/lib/")
    help_text = subprocess.run(
        [base.release.path / "bin" / "cheroot", "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "cheroot" in help_text.stdout


def test_drift_is_found(base: Installed) -> None:
    assert release_drift(base.release) == []
    target = next(base.release.path.glob("lib/python3*/site-packages/WMCore/Database/DBFactory.py"))
    target.write_text(target.read_text() + "\n# by hand\n")
    try:
        assert [(d.path, d.kind) for d in release_drift(base.release)] == [
            (str(target.relative_to(base.release.path)), "modified")
        ]
    finally:
        target.write_text(target.read_text().removesuffix("\n# by hand\n"))


def test_our_own_records_are_right(base: Installed) -> None:
    """Looked at as if it had been deployed by hand, only what is not from a wheel stands out."""
    assert environment_drift(base.release.path) == []
