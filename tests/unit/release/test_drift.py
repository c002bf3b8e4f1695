# SPDX-License-Identifier: GPL-3.0-or-later
"""A hand-patched agent is found, whatever was done to it."""

from __future__ import annotations

import py_compile
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.adopted_drift import (
    distribution_drift,
    environment_drift,
    installed_distributions,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.drift import release_drift
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.install import install_release, staging
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import probe
from support.wheels import PYTHON, make_image, make_wheel, stage_blobs, wmagent_files

LIB = f"lib/python{probe(PYTHON).version}/site-packages"
TAG = probe(PYTHON).cache_tag
BIG = f"{LIB}/WMCore/Big.py"


@pytest.fixture
def release(tmp_path: Path) -> Release:
    layout = AgentLayout(tmp_path / "agent")
    layout.root.mkdir()
    wheels = [make_wheel(tmp_path / "w", "wmagent", "1.0", wmagent_files(), console_scripts={"run": "WMCore:run"})]
    image, _manifest, _config = make_image("1.0", wheels)
    with staging(layout):
        stage_blobs(BlobStore(layout.blobs), wheels)
        return install_release(layout, image, probe(PYTHON), lambda *_: "config = 1\n").release


def flip(path: Path) -> None:
    """Change one byte, and neither size nor time."""
    import os

    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, (status.st_atime, status.st_mtime))


def replace_by_link(path: Path) -> None:
    elsewhere = path.parent.parent.parent / f"elsewhere-{path.name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


CHANGES: dict[str, tuple[Callable[[Path], object], list[tuple[str, str]]]] = {
    "one byte": (lambda p: flip(p / BIG), [(BIG, "modified")]),
    "appended": (lambda p: (p / BIG).write_text("patched"), [(BIG, "modified")]),
    "removed": (lambda p: (p / BIG).unlink(), [(BIG, "missing")]),
    "added": (lambda p: (p / LIB / "WMCore/New.py").write_text(""), [(f"{LIB}/WMCore/New.py", "extra")]),
    "left by patch": (lambda p: shutil.copy(p / BIG, p / f"{BIG}.orig"), [(f"{BIG}.orig", "extra")]),
    "mode": (lambda p: (p / "bin/run").chmod(0o644), [("bin/run", "mode")]),
    "script": (lambda p: (p / "bin/run").write_text("#!/bin/sh\n"), [("bin/run", "modified")]),
    "data file": (lambda p: flip(p / "etc/WMAgentConfig.py"), [("etc/WMAgentConfig.py", "modified")]),
    "a link in its place": (
        lambda p: replace_by_link(p / BIG),
        [(f"{LIB.rpartition('/')[0]}/elsewhere-Big.py", "extra"), (BIG, "modified")],
    ),
    "interpreter": (
        lambda p: ((p / "bin/python").unlink(), (p / "bin/python").symlink_to("/bin/true")),
        [("bin/python", "modified")],
    ),
    "config": (lambda p: (p / "config.py").write_text("config = 2\n"), [("config.py", "modified")]),
    "config readable": (lambda p: (p / "config.py").chmod(0o644), [("config.py", "mode")]),
    "config gone": (lambda p: (p / "config.py").unlink(), [("config.py", "missing")]),
    "record rewritten": (
        lambda p: (p / LIB / "wmagent-1.0.dist-info/RECORD").write_text(""),
        [(f"{LIB}/wmagent-1.0.dist-info/RECORD", "modified")],
    ),
    "own list rewritten": (lambda p: (p / "files.json").write_text('{"files":{}}'), [("files.json", "modified")]),
    "byte code without source": (
        lambda p: py_compile.compile(str(p / BIG), cfile=str(p / LIB / "sneaky.pyc")),
        [(f"{LIB}/sneaky.pyc", "extra")],
    ),
    "cached byte code without source": (
        lambda p: py_compile.compile(str(p / BIG), cfile=str(p / LIB / f"__pycache__/gone.{TAG}.pyc")),
        [(f"{LIB}/__pycache__/gone.{TAG}.pyc", "extra")],
    ),
    "byte code removed": (lambda p: shutil.rmtree(p / LIB / "WMCore/__pycache__"), []),
    "byte code made anew": (lambda p: (p / LIB / f"WMCore/__pycache__/Big.{TAG}.pyc").write_bytes(b"x"), []),
    "nothing": (lambda p: None, []),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_by_hand_is_told(release: Release, what: str) -> None:
    change, expected = CHANGES[what]
    change(release.path)
    assert [(d.path, d.kind) for d in release_drift(release)] == expected


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    """An environment as pip leaves it: RECORDs in site-packages and no list of ours."""
    layout = AgentLayout(tmp_path / "made")
    layout.root.mkdir()
    wheels = [
        make_wheel(tmp_path / "w", "wmagent", "1.0", wmagent_files({"shared.py": b"a = 1\n"}), requires=["helper"]),
        make_wheel(tmp_path / "w", "helper", "2.0", {"helper.py": b"", "shared.py": b"b = 22\n"}),
    ]
    image, _manifest, _config = make_image("1.0", wheels)
    with staging(layout):
        stage_blobs(BlobStore(layout.blobs), wheels)
        made = install_release(layout, image, probe(PYTHON), lambda *_: "").release.path
    for name in ("files.json", "image.json", "release.json", "config.py", "config.sha256"):
        (made / name).unlink()
    (made / "bin/activate").write_text("# put there by venv\n")
    (made / LIB / "_virtualenv.pth").write_text("import _virtualenv")
    return made.rename(tmp_path / "by-hand")


ADOPTED_CHANGES: dict[str, tuple[Callable[[Path], object], list[tuple[str, str]]]] = {
    "nothing, and two packages that own one path": (lambda p: None, []),
    "one byte": (lambda p: flip(p / BIG), [(BIG, "modified")]),
    "longer": (lambda p: (p / BIG).write_text("x"), [(BIG, "modified")]),
    "removed": (lambda p: (p / BIG).unlink(), [(BIG, "missing")]),
    "added": (lambda p: (p / LIB / "WMCore/New.py").write_text(""), [(f"{LIB}/WMCore/New.py", "extra")]),
    "data file": (lambda p: flip(p / "etc/WMAgentConfig.py"), [("etc/WMAgentConfig.py", "modified")]),
    "shared path": (lambda p: flip(p / LIB / "shared.py"), [(f"{LIB}/shared.py", "modified")]),
    "elsewhere in the environment": (lambda p: (p / "notes").write_text(""), []),
    "byte code without source": (
        lambda p: py_compile.compile(str(p / BIG), cfile=str(p / LIB / "sneaky.pyc")),
        [(f"{LIB}/sneaky.pyc", "extra")],
    ),
}


@pytest.mark.parametrize("what", ADOPTED_CHANGES)
def test_an_agent_deployed_by_hand_is_compared_with_its_records(deployed: Path, what: str) -> None:
    change, expected = ADOPTED_CHANGES[what]
    change(deployed)
    assert [(d.path, d.kind) for d in environment_drift(deployed)] == expected


def test_packages_are_compared_with_the_image(deployed: Path, tmp_path: Path) -> None:
    installed = installed_distributions(deployed / LIB)
    assert installed == {"wmagent": "1.0", "helper": "2.0"}
    image = [
        make_wheel(tmp_path / "i", "wmagent", "1.0", {})[0],
        make_wheel(tmp_path / "i", "helper", "2.1", {})[0],
        make_wheel(tmp_path / "i", "new-one", "1", {})[0],
    ]
    told = [(d.path, d.kind) for d in distribution_drift({**installed, "stray": "9"}, image)]
    assert told == [("helper", "version"), ("new-one", "missing"), ("stray", "extra")]
    assert ("helper", "version") in [(d.path, d.kind) for d in environment_drift(deployed, image)]


def test_a_folder_without_packages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WMAgentError, match="is it the agent's environment"):
        environment_drift(tmp_path)
