# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools environment: made once, whoever asks, from a Python that has nothing."""

from __future__ import annotations

import multiprocessing
import subprocess
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.bundle import write_bundle
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Wheel
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import VerifyingReader
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.tools import (
    KEEP,
    install_tools,
    missing_tools,
    tools_folder,
    tools_ready,
)
from support.wheels import PYTHON, installer_wheel, make_wheel

Tools = tuple[list[Wheel], Path]


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    """Wheels and the bundle with all of them."""
    pairs = [installer_wheel(tmp_path / "w"), make_wheel(tmp_path / "w", "pymysql", "1.1", {"pymysql.py": b"ok = 1\n"})]
    return [wheel for wheel, _ in pairs], bundle(tmp_path / "bundle.tar", pairs)


def bundle(target: Path, pairs: list[tuple[Wheel, Path]]) -> Path:
    paths = {wheel.digest: path for wheel, path in pairs}
    write_bundle(
        target,
        [wheel for wheel, _ in pairs],
        lambda digest, size: VerifyingReader(paths[digest].open("rb"), digest, "here", size),
    )
    return target


def test_its_python_has_the_tools(tools: Tools, tmp_path: Path) -> None:
    wheels, sent = tools
    folder = tmp_path / "home" / "tools"
    assert missing_tools(folder, wheels) == wheels
    assert not folder.exists()
    assert install_tools(folder, wheels, PYTHON, sent) is True
    environment = tools_folder(folder, wheels, PYTHON)
    assert tools_ready(environment)
    code = "import pymysql, installer, sys; print(pymysql.ok, sys.prefix)"
    answer = subprocess.run([environment / "bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["1", str(environment)]
    assert install_tools(folder, wheels, PYTHON, None) is False
    assert sorted(entry.name for entry in folder.iterdir()) == ["lock", environment.name]


def test_it_needs_no_library_to_start_with(tools: Tools, tmp_path: Path) -> None:
    """The library that installs comes out of the bundle."""
    wheels, sent = tools
    collections = Path(__file__).parents[3] / "collections"
    tests = Path(__file__).parents[2]
    code = f"""
import sys
sys.path = [p for p in sys.path if "site-packages" not in p] + [{str(collections)!r}, {str(tests)!r}]
from pathlib import Path
from ansible_collections.dmwm.wmagent.plugins.module_utils._release import tools
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Wheel
wheels = [Wheel(**w) for w in {[wheel.as_dict() for wheel in wheels]!r}]
assert "installer" not in sys.modules
print(tools.install_tools(Path({str(tmp_path / "t")!r}), wheels, Path({str(PYTHON)!r}), Path({str(sent)!r})))
"""
    answer = subprocess.run([PYTHON, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert answer.stdout.strip() == "True", answer.stderr


def test_wheels_that_came_before_stay(tools: Tools, tmp_path: Path) -> None:
    wheels, sent = tools
    folder = tmp_path / "t"
    short = tmp_path / "short.tar"
    short.write_bytes(sent.read_bytes()[: 512 + -(-wheels[0].size // 512) * 512 + 600])
    with pytest.raises(WMAgentError, match="cut short"):
        install_tools(folder, wheels, PYTHON, short)
    assert missing_tools(folder, wheels) == wheels[1:]
    with pytest.raises(WMAgentError, match="1 tools wheels are missing"):
        install_tools(folder, wheels, PYTHON, None)
    assert not tools_ready(tools_folder(folder, wheels, PYTHON))
    assert install_tools(folder, wheels, PYTHON, sent) is True


def _install(folder: Path, wheels: list[Wheel], sent: Path, answers: multiprocessing.SimpleQueue) -> None:  # type: ignore[type-arg]
    answers.put(install_tools(folder, wheels, PYTHON, sent))


def test_many_at_once_make_one(tools: Tools, tmp_path: Path) -> None:
    wheels, sent = tools
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    started = [context.Process(target=_install, args=(tmp_path / "t", wheels, sent, answers)) for _ in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(answers.get() for _ in started) == [False, False, False, True]


def test_old_environments_go(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    for version in range(KEEP + 2):
        pairs = [installer_wheel(tmp_path / "w"), make_wheel(tmp_path / "w", "pymysql", str(version), {"p.py": b""})]
        wheels = [wheel for wheel, _ in pairs]
        install_tools(folder, wheels, PYTHON, bundle(tmp_path / "b.tar", pairs))
    assert len(list(folder.glob("tools-*"))) == KEEP
    assert tools_ready(tools_folder(folder, wheels, PYTHON))


def test_an_image_without_tools_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WMAgentError, match="no tools wheels"):
        tools_folder(tmp_path, [], PYTHON)
