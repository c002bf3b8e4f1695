# SPDX-License-Identifier: GPL-3.0-or-later
"""Patches on a small WMAgent wheel: where their paths may start, what version comes out, and how a failure is told."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_request import BuildRequest, patches_in
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.patching import check_patches, patch_wheel
from installer.sources import WheelFile
from support.wheels import make_wheel

LINES = [f"line {n}\n" for n in range(1, 31)]
FILES = {
    "WMCore/Some.py": "".join(LINES).encode(),
    "WMCore/Gone.py": b"gone = True\n",
    "{data}/data/bin/tool": b"#!/bin/sh\necho old\n",
    "{data}/data/etc/Config.py": b"a = 1\n",
    "{data}/data/data/couchapps/App/map.js": b"old\n",
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel shaped like WMAgent's."""
    return make_wheel(tmp_path / "published", "wmagent", "2.4.4", FILES, executable=["{data}/data/bin/tool"])[1]


def diff(old: list[str], new: list[str], path: str, prefix: str = "ab") -> str:
    """A unified diff as git or plain diff would write it."""
    a, b = (f"{prefix[0]}/", f"{prefix[1]}/") if prefix else ("", "")
    return "".join(difflib.unified_diff(old, new, f"{a}{path}", f"{b}{path}"))


def changed(lines: list[str], number: int, text: str) -> list[str]:
    """``lines`` with one of them (from 1) replaced."""
    return [*lines[: number - 1], text + "\n", *lines[number:]]


def apply(tmp_path: Path, wheel: Path, *texts: str) -> Path:
    """Apply patch texts; the path of the patched wheel."""
    patches = []
    for number, text in enumerate(texts, 1):
        patches.append(tmp_path / f"p{number}-test.patch")
        patches[-1].write_text(text)
    scratch = tmp_path / f"scratch{len(list(tmp_path.iterdir()))}"
    scratch.mkdir()
    (tmp_path / "out").mkdir(exist_ok=True)
    return patch_wheel(wheel, patches, 1, scratch, tmp_path / "out")


def content(path: Path) -> dict[str, bytes]:
    """Everything in a wheel, its RECORD checked on the way."""
    with WheelFile.open(path) as source:
        source.validate_record()
        return {element[0]: stream.read() for element, stream, _executable in source.get_contents()}


SOME = diff(LINES, changed(LINES, 10, "TEN"), "src/python/WMCore/Some.py")


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("src/python/WMCore/Some.py", "ab"),
        ("src/python/WMCore/Some.py", ""),
        ("WMCore/Some.py", "ab"),
        ("WMCore/Some.py", ""),
    ],
)
def test_paths_of_the_source_tree_and_of_packages(tmp_path: Path, wheel: Path, path: str, prefix: str) -> None:
    patched = apply(tmp_path, wheel, diff(LINES, changed(LINES, 10, "TEN"), path, prefix))
    assert b"line 9\nTEN\nline 11\n" in content(patched)["WMCore/Some.py"]


def test_files_outside_the_packages(tmp_path: Path, wheel: Path) -> None:
    patched = apply(
        tmp_path,
        wheel,
        diff(["#!/bin/sh\n", "echo old\n"], ["#!/bin/sh\n", "echo new\n"], "bin/tool")
        + diff(["a = 1\n"], ["a = 2\n"], "etc/Config.py")
        + diff(["old\n"], ["new\n"], "src/couchapps/App/map.js"),
    )
    found = content(patched)
    assert found["wmagent-2.4.4+p1.data/data/bin/tool"] == b"#!/bin/sh\necho new\n"
    assert found["wmagent-2.4.4+p1.data/data/etc/Config.py"] == b"a = 2\n"
    assert found["wmagent-2.4.4+p1.data/data/data/couchapps/App/map.js"] == b"new\n"
    with WheelFile.open(patched) as source:
        assert [element[0] for element, _s, executable in source.get_contents() if executable] == [
            "wmagent-2.4.4+p1.data/data/bin/tool"
        ]


def test_files_that_come_and_go(tmp_path: Path, wheel: Path) -> None:
    text = (
        "diff --git a/src/python/WMCore/New/It.py b/src/python/WMCore/New/It.py\nnew file mode 100644\n"
        "--- /dev/null\n+++ b/src/python/WMCore/New/It.py\n@@ -0,0 +1 @@\n+new = 1\n"
        "diff --git a/src/python/WMCore/Gone.py b/src/python/WMCore/Gone.py\ndeleted file mode 100644\n"
        "--- a/src/python/WMCore/Gone.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone = True\n"
    )
    found = content(apply(tmp_path, wheel, text))
    assert found["WMCore/New/It.py"] == b"new = 1\n"
    assert "WMCore/Gone.py" not in found


def test_version_and_names(tmp_path: Path, wheel: Path) -> None:
    patched = apply(tmp_path, wheel, SOME)
    assert patched.name == "wmagent-2.4.4+p1-py3-none-any.whl"
    found = content(patched)
    assert b"\nVersion: 2.4.4+p1\n" in found["wmagent-2.4.4+p1.dist-info/METADATA"]
    assert not [name for name in found if name.startswith("wmagent-2.4.4.")]


def test_the_patched_wheel_installs(tmp_path: Path, wheel: Path) -> None:
    patched = apply(tmp_path, wheel, SOME)
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "installer", "--prefix", "/", "--destdir", str(target), str(patched)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert "TEN" in next(target.rglob("WMCore/Some.py")).read_text()


def test_the_same_patch_gives_the_same_bytes(tmp_path: Path, wheel: Path) -> None:
    first = apply(tmp_path, wheel, SOME).read_bytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert apply(elsewhere, wheel, SOME).read_bytes() == first


def test_later_patches_build_on_earlier_ones(tmp_path: Path, wheel: Path) -> None:
    ten = changed(LINES, 10, "TEN")
    second = diff(ten, changed(ten, 10, "TWICE"), "src/python/WMCore/Some.py")
    assert b"TWICE" in content(apply(tmp_path, wheel, SOME, second))["WMCore/Some.py"]
    with pytest.raises(WMAgentError, match=r"p1-test\.patch does not apply"):
        apply(tmp_path, wheel, second, SOME)


def test_a_failing_hunk_is_named(tmp_path: Path, wheel: Path) -> None:
    other = changed(LINES, 24, "not what is there")
    text = diff(other, changed(changed(other, 3, "THREE"), 25, "NEW"), "src/python/WMCore/Some.py")
    with pytest.raises(WMAgentError) as caught:
        apply(tmp_path, wheel, text)
    assert str(caught.value) == (
        "patch p1-test.patch does not apply: src/python/WMCore/Some.py, hunk 2 at line 22; rebase it on this tag"
    )
    assert not list((tmp_path / "out").iterdir())


def test_surroundings_must_match_exactly(tmp_path: Path, wheel: Path) -> None:
    """GNU patch would apply this with fuzz, and perhaps in the wrong place."""
    other = changed(LINES, 7, "another surrounding")
    with pytest.raises(WMAgentError, match="hunk 1 at line 7"):
        apply(tmp_path, wheel, diff(other, changed(other, 10, "TEN"), "src/python/WMCore/Some.py"))


def test_a_patch_that_is_in_already(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(WMAgentError, match=r"p2-test.patch does not apply: .*Some.py, it is in this tag already"):
        apply(tmp_path, wheel, SOME, SOME)


def test_a_file_that_is_not_there(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(WMAgentError, match=r"WMCore/None.py, this tag has no such file"):
        apply(tmp_path, wheel, diff(["a\n"], ["b\n"], "src/python/WMCore/None.py"))


def test_tests_and_documents_are_left_out(tmp_path: Path, wheel: Path) -> None:
    tests = diff(["a\n"], ["b\n"], "test/python/WMCore_t/Some_t.py")
    assert b"TEN" in content(apply(tmp_path, wheel, tests + SOME))["WMCore/Some.py"]
    with pytest.raises(WMAgentError, match="nothing that is shipped"):
        apply(tmp_path, wheel, tests)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no unified diff"),
        ("just words\n", "holds no unified diff"),
        ("--- a/../../etc/passwd\n+++ b/../../etc/passwd\n@@ -1 +1 @@\n-a\n+b\n", "outside the source tree"),
        ("--- /etc/passwd\n+++ /etc/passwd\n@@ -1 +1 @@\n-a\n+b\n", "outside the source tree"),
        ("diff --git a/x b/x\nGIT binary patch\nliteral 0\n", "binary change"),
        ("diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n", "without a text change"),
    ],
)
def test_what_is_no_usable_patch(tmp_path: Path, wheel: Path, text: str, told: str) -> None:
    with pytest.raises(WMAgentError, match=told):
        apply(tmp_path, wheel, text)
    assert not list((tmp_path / "out").iterdir())


def test_prose_before_the_diff_is_ignored(tmp_path: Path, wheel: Path) -> None:
    text = "From: someone\n---\n a | 2 +-\n\n" + SOME
    assert b"TEN" in content(apply(tmp_path, wheel, text))["WMCore/Some.py"]


def test_checking_writes_nothing(tmp_path: Path, wheel: Path) -> None:
    patch = tmp_path / "p1-x.patch"
    patch.write_text(SOME)
    (tmp_path / "scratch").mkdir()
    assert check_patches(wheel, [patch], tmp_path / "scratch") == ["src/python/WMCore/Some.py"]


def test_patches_up_to_the_level_in_order(tmp_path: Path) -> None:
    for name in ("p10-a.patch", "p2-b.patch", "p1-z.patch", "p1-a.patch", "notes.txt", "p1.patch"):
        (tmp_path / name).touch()
    assert [file.name for file in patches_in(tmp_path, "2.4.4-p2")] == ["p1-a.patch", "p1-z.patch", "p2-b.patch"]
    assert [file.name for file in patches_in(tmp_path, "2.4.4-p10")][-1] == "p10-a.patch"
    assert patches_in(tmp_path, "2.4.4") == []
    with pytest.raises(WMAgentError, match=r"has no patch p3-"):
        patches_in(tmp_path, "2.4.4-p3")


def test_name_and_patches_must_agree(tmp_path: Path) -> None:
    with pytest.raises(WMAgentError, match="patch level 1 but no patch"):
        BuildRequest("2.4.4-p1")
    (tmp_path / "x.patch").touch()
    with pytest.raises(WMAgentError, match=r"name it 2.4.4-p1"):
        BuildRequest("2.4.4", patches=(tmp_path / "x.patch",))
    with pytest.raises(WMAgentError, match="does not exist"):
        BuildRequest("2.4.4-p1", patches=(tmp_path / "none.patch",))
