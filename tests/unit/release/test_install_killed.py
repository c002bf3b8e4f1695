# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at any moment of a staging: there is a whole release or none, and the next run makes the same tree."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.drift import release_drift
from support import killable_install
from support.wheels import make_wheel, wmagent_files

PLACES = 24


def start(root: Path, wheels: Path, name: str, fatal: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, killable_install.__file__, str(root), str(wheels), name, str(fatal)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def tree(root: Path) -> dict[str, str]:
    """Everything there: kind, mode and content. Of byte code only that it is there, it may differ from run to run."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"link {path.readlink()}"
        elif path.is_dir():
            found[name] = f"folder {path.stat().st_mode:o}"
        else:
            content = path.read_bytes().replace(str(root).encode(), b"ROOT")
            exact = not name.endswith((".pyc", "files.json", "release.json", ".sha256", "RECORD"))
            found[name] = f"{path.stat().st_mode:o} {hashlib.sha256(content).hexdigest() if exact else ''}"
    return found


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, "helper", "1", {f"helper/m{n}.py": b"x = 1\n" * n for n in range(12)})
    make_wheel(folder, "wmagent", "1.0", wmagent_files(), console_scripts={"run": "WMCore:run"})
    return folder


@pytest.mark.parametrize(
    "with_base",
    [pytest.param(False, marks=pytest.mark.long, id="first"), pytest.param(True, id="second")],
)
def test_the_next_run_makes_the_same_tree(tmp_path: Path, wheels: Path, with_base: bool) -> None:
    """Of the second release the base is installed already, so its files are links."""

    def agent(name: str) -> Path:
        root = tmp_path / name
        root.mkdir()
        if with_base:
            assert start(root, wheels, "0.9", 0).returncode == 0
        return root

    expected_root = agent("never-killed")
    whole = start(expected_root, wheels, "1.0", 0)
    assert whole.returncode == 0, whole.stderr
    expected, touches = tree(expected_root), int(whole.stdout)
    assert touches > PLACES
    killed = 0
    for place in range(PLACES):
        fatal = 1 + place * (touches - 1) // (PLACES - 1)
        root = agent(f"killed-at-{fatal}")
        first = start(root, wheels, "1.0", fatal)
        killed += first.returncode == -signal.SIGKILL
        for release in AgentLayout(root).all_releases():
            assert release_drift(release) == [], f"half a release after kill at {fatal}"
        again = start(root, wheels, "1.0", 0)
        if again.returncode != 0:  # it was complete: the caller would not have installed it again
            assert tree(root) == expected, fatal
            continue
        assert tree(root) == expected, fatal
        for release in AgentLayout(root).all_releases():
            assert release_drift(release) == []
    assert killed >= PLACES - 2
