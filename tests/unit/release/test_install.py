# SPDX-License-Identifier: GPL-3.0-or-later
"""A release is installed wholly, as pip would, and shares with others only what is right."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, Release
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release import materialize
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Wheel
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.drift import release_drift
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.install import (
    Installed,
    install_release,
    staging,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import probe
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import disk_usage
from support.wheels import PYTHON, make_image, make_wheel, stage_blobs, wmagent_files

Wheels = list[tuple[Wheel, Path]]
LIB = f"lib/python{probe(PYTHON).version}/site-packages"


@pytest.fixture
def layout(tmp_path: Path) -> AgentLayout:
    layout = AgentLayout(tmp_path / "agent")
    layout.root.mkdir()
    return layout


Install = Callable[..., Installed]


@pytest.fixture
def install(layout: AgentLayout) -> Install:
    def run(name: str, wheels: Wheels, text: str = "x = 1\n", **changes: object) -> Installed:
        image, _manifest, _config = make_image(name, wheels, **changes)
        with staging(layout, f"{name}-{image.digest[7:19]}"):
            stage_blobs(BlobStore(layout.blobs), wheels)
            return install_release(layout, image, probe(PYTHON), lambda _here, _final, _python: text)

    return run


@pytest.fixture
def base(tmp_path: Path) -> Wheels:
    """A WMAgent and a dependency with something in every scheme."""
    folder = tmp_path / "wheels"
    helper = make_wheel(
        folder,
        "some-helper",
        "2.0",
        {
            "helper/__init__.py": b"VALUE = 7\n\n\ndef main():\n    print('helped', __file__)\n",
            "helper/data.bin": bytes(range(256)) * 400,
            "helper/broken.py": b"print 'Python 2'\n",
            "{data}/purelib/pure.py": b"",
            "{data}/platlib/plat.py": b"p = 1\n",
            "{data}/scripts/helper-script": b"#!python\nimport helper\nprint(helper.VALUE)\n",
            "{data}/scripts/helper.sh": b"#!/bin/sh\necho shell\n",
            "{data}/headers/helper.h": b"/* h */\n",
            "{data}/data/share/helper/notes.txt": b"notes\n",
            "helper/__pycache__/evil.cpython-311.pyc": b"not wanted",
        },
        executable=["{data}/scripts/helper-script", "{data}/scripts/helper.sh"],
        console_scripts={"help-me": "helper:main"},
        purelib=False,
    )
    agent = make_wheel(folder, "wmagent", "1.0", wmagent_files(), requires=["Some_Helper>=2"])
    return [agent, helper]


def run(*command: str | Path) -> str:
    answer = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=30, check=True)
    return answer.stdout.strip()


def test_every_scheme_goes_where_pip_puts_it(install: Install, base: Wheels) -> None:
    release = install("1.0", base).release
    prefix = release.path
    for path in (
        f"{LIB}/helper/data.bin",
        f"{LIB}/pure.py",
        f"{LIB}/plat.py",
        "bin/helper-script",
        f"include/site/python{probe(PYTHON).version}/some-helper/helper.h",
        "share/helper/notes.txt",
        "bin/wmagent-mod-config",
        "etc/WMAgentConfig.py",
        f"{LIB}/wmagent-1.0.dist-info/INSTALLER",
    ):
        assert (prefix / path).is_file(), path
    assert not (prefix / LIB / "helper/__pycache__/evil.cpython-311.pyc").exists()
    assert run(prefix / "bin/help-me") == f"helped {prefix}/{LIB}/helper/__init__.py"
    assert run(prefix / "bin/helper-script") == "7"
    assert run(prefix / "bin/helper.sh") == "shell"
    assert run(release.python, "-c", "import sys; print(sys.prefix)") == str(prefix)
    assert release_drift(release) == []


def test_nothing_remembers_where_it_was_installed(install: Install, base: Wheels, layout: AgentLayout) -> None:
    """Scripts, RECORDs and byte code know the place where the release stands."""
    release = install("1.0", base).release
    for file in release.path.rglob("*"):
        if file.is_file() and not file.is_symlink():
            assert str(layout.incoming).encode() not in file.read_bytes(), file
    code = "import WMCore.Big as b; print(b.where()); print(b.__cached__)"
    where, cached = run(release.python, "-c", code).splitlines()
    assert where == f"{release.path}/{LIB}/WMCore/Big.py"
    assert Path(cached).is_file()
    records = (release.path / LIB / "some_helper-2.0.dist-info/RECORD").read_text()
    assert "../../../bin/help-me,sha256=" in records
    assert "../../../share/helper/notes.txt,sha256=" in records


def test_importing_writes_nothing(install: Install, base: Wheels) -> None:
    """Byte code is there and fresh, so a running agent never writes into its release."""
    release = install("1.0", base).release
    before = {path: path.lstat().st_mtime_ns for path in release.path.rglob("*")}
    run(release.python, "-c", "import helper, pure, plat, WMCore.Configuration, WMCore.Big")
    assert {path: path.lstat().st_mtime_ns for path in release.path.rglob("*")} == before


def test_modes(install: Install, base: Wheels) -> None:
    old = os.umask(0o077)
    try:
        release = install("1.0", base).release
    finally:
        os.umask(old)
    modes = {
        str(path.relative_to(release.path)): stat.S_IMODE(path.lstat().st_mode)
        for path in release.path.rglob("*")
        if not path.is_symlink()
    }
    assert modes["config.py"] == modes["config.sha256"] == 0o600
    assert modes["bin/help-me"] == modes["bin/helper-script"] == 0o755
    others = {path: mode for path, mode in modes.items() if path not in ("config.py", "config.sha256")}
    assert {mode for path, mode in others.items() if (release.path / path).is_dir()} == {0o755}
    assert {mode for path, mode in others.items() if (release.path / path).is_file()} == {0o644, 0o755}


def test_the_package_that_needs_the_other_wins_a_shared_path(install: Install, tmp_path: Path) -> None:
    """pip installs what is needed first, so the one that needs it overwrites."""
    shared = "shared/module.py"
    for first, second in (("aaa", "zzz"), ("zzz", "aaa")):
        wheels = [
            make_wheel(tmp_path / f"{first}", first, "1", {shared: b"who = 'needed'\n"}),
            make_wheel(tmp_path / f"{first}", second, "1", {shared: b"who = 'needs'\n"}, requires=[f"{first}>=1 ; x"]),
        ]
        release = install(f"1.0-{first}", wheels).release
        assert (release.path / LIB / shared).read_text() == "who = 'needs'\n"
        assert release_drift(release) == []


def test_packages_that_need_each_other_do_not_hang(install: Install, tmp_path: Path) -> None:
    wheels = [
        make_wheel(tmp_path / "w", name, "1", {f"{name}.py": b""}, requires=[other])
        for name, other in (("aaa", "bbb"), ("bbb", "ccc"), ("ccc", "aaa"))
    ]
    assert install("1.0", wheels).files_written > 3


@pytest.fixture
def patched(tmp_path: Path, base: Wheels) -> Wheels:
    """The same with one file of WMAgent changed."""
    files = wmagent_files({"WMCore/__init__.py": b"__version__ = 'patched'\n"})
    return [make_wheel(tmp_path / "wheels", "wmagent", "1.0+p1", files, requires=["some-helper"]), base[1]]


def inode(release: Release, path: str) -> int:
    return (release.path / path).stat().st_ino


def test_a_patch_release_shares_all_that_is_equal(
    install: Install, base: Wheels, patched: Wheels, layout: AgentLayout
) -> None:
    first = install("1.0", base)
    second = install("1.0-p1", patched)
    assert second.files_linked > 2 * second.files_written
    tag = probe(PYTHON).cache_tag
    for path in (f"{LIB}/WMCore/Big.py", f"{LIB}/WMCore/__pycache__/Big.{tag}.pyc", f"{LIB}/helper/data.bin"):
        assert inode(first.release, path) == inode(second.release, path), path
    assert inode(first.release, f"{LIB}/WMCore/__init__.py") != inode(second.release, f"{LIB}/WMCore/__init__.py")
    assert inode(first.release, "bin/help-me") != inode(second.release, "bin/help-me")
    assert release_drift(first.release) == release_drift(second.release) == []
    assert run(second.release.python, "-c", "import WMCore.Big as b; print(b.where())").startswith(
        str(second.release.path)
    )
    assert run(second.release.python, "-c", "import WMCore; print(WMCore.__version__)") == "patched"
    assert second.bytes_on_disk < disk_usage(layout.releases) - second.bytes_on_disk


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text(path.read_text().replace("where", "fooled")),
        lambda path: path.chmod(0o755),
        lambda path: os.utime(path),
    ],
    ids=["content", "mode", "time"],
)
def test_what_was_changed_by_hand_is_never_shared(
    install: Install, base: Wheels, patched: Wheels, spoil: Callable[[Path], None]
) -> None:
    first = install("1.0", base).release
    target = f"{LIB}/WMCore/Big.py"
    spoil(first.path / target)
    second = install("1.0-p1", patched).release
    assert inode(first, target) != inode(second, target)
    assert release_drift(second) == []
    assert run(second.python, "-c", "import WMCore.Big as b; print(b.where())") == f"{second.path}/{target}"


def test_spoilt_byte_code_is_never_shared(install: Install, base: Wheels, patched: Wheels) -> None:
    first = install("1.0", base).release
    compiled = f"{LIB}/WMCore/__pycache__/Big.{probe(PYTHON).cache_tag}.pyc"
    content = bytearray((first.path / compiled).read_bytes())
    content[-5] ^= 1
    (first.path / compiled).write_bytes(content)
    second = install("1.0-p1", patched).release
    assert inode(first, compiled) != inode(second, compiled)
    assert (second.path / compiled).read_bytes() != bytes(content)


def test_over_file_systems_it_copies(
    install: Install, base: Wheels, patched: Wheels, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("1.0", base)

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(materialize.os, "link", refuse)
    second = install("1.0-p1", patched)
    assert second.files_linked == 0
    assert release_drift(second.release) == []


def test_a_config_that_cannot_be_made_leaves_no_release(layout: AgentLayout, base: Wheels, install: Install) -> None:
    image, _manifest, _config = make_image("1.0", base)

    def fail(_here: Path, _final: Path, _python: Path) -> str:
        raise WMAgentError("no secrets")

    with staging(layout, f"1.0-{image.digest[7:19]}"):
        stage_blobs(BlobStore(layout.blobs), base)
        with pytest.raises(WMAgentError, match="no secrets"):
            install_release(layout, image, probe(PYTHON), fail)
    assert list(layout.releases.iterdir()) == []
    done = install("1.0", base)
    assert (done.files_linked, done.files_written) == (0, 0), "the finished part was not taken up again"
    assert release_drift(done.release) == []


def test_a_leftover_that_is_not_right_is_thrown_away(layout: AgentLayout, base: Wheels, install: Install) -> None:
    image, _manifest, _config = make_image("1.0", base)
    leftover = layout.incoming / f"1.0-{image.digest[7:19]}"
    leftover.mkdir(parents=True)
    (leftover / "files.json").write_text('{"files": {"gone.py": ["00", 1, 420]}, "links": {}, "byte_code": {}}')
    (leftover / "stranger.py").write_text("x")
    other = layout.incoming / "another-image"
    other.mkdir()
    done = install("1.0", base)
    assert release_drift(done.release) == []
    assert list(layout.incoming.iterdir()) == []


def test_a_damaged_release_next_to_it_does_not_matter(
    layout: AgentLayout, base: Wheels, patched: Wheels, install: Install
) -> None:
    first = install("1.0", base).release
    (first.path / "release.json").write_text("{")
    (layout.releases / "stray").mkdir()
    assert install("1.0-p1", patched).files_linked == 0


def test_two_stagings_at_once_are_refused(layout: AgentLayout) -> None:
    with staging(layout), pytest.raises(WMAgentError, match="another run is staging"), staging(layout):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"python": "3.9"}, "is for Python 3.9"),
        ({"platform": "linux-aarch64"}, "is for linux-aarch64"),
        ({"glibc": "9.9"}, "needs glibc 9.9"),
    ],
)
def test_an_image_for_another_host_is_refused(
    install: Install, base: Wheels, layout: AgentLayout, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(WMAgentError, match=message):
        install("1.0", base, **changes)
    assert not layout.releases.exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"../outside.py": b""}, "leads out of its folder"),
        ({"{data}/data/../../x": b""}, "leads out of its folder|not contained|cannot be installed"),
        ({"{data}/data/config.py": b""}, "which a release has itself"),
        ({"{data}/data/bin/python": b""}, "which a release has itself"),
        ({"{data}/nowhere/x": b""}, "cannot be installed"),
        ({"a": b"", "a/b.py": b""}, "as a file"),
    ],
)
def test_a_wheel_that_reaches_too_far_is_refused(
    install: Install, layout: AgentLayout, tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(WMAgentError, match=message):
        install("1.0", [make_wheel(tmp_path / "w", "wmagent", "1.0", files)])
    assert list(layout.releases.iterdir()) == []


def test_a_wheel_that_contradicts_its_record_is_refused(install: Install, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "wmagent", "1.0", {"a.py": b"x = 1\n"}, wrong_record=["a.py"])
    with pytest.raises(WMAgentError, match="not what the wheel's RECORD says"):
        install("1.0", [wheel])


def test_a_file_that_is_no_wheel_is_refused(install: Install, tmp_path: Path) -> None:
    path = tmp_path / "wmagent-1.0-py3-none-any.whl"
    path.write_bytes(b"PK not really")
    from support.wheels import describe_wheel

    with pytest.raises(WMAgentError, match="is no wheel"):
        install("1.0", [(describe_wheel(path), path)])
