# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks, wheel files and credentials: what is read of them, and what is refused."""

from __future__ import annotations

import base64
import json
import shutil
import zipfile
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release import wheelfile
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_lock import (
    build_pins,
    parse_lock,
    release_pins,
    write_lock,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_request import BuildRequest
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_tools import BuildTools
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.credentials import find_credentials
from support.wheels import PYTHON, make_wheel

HASH = "sha256:" + "a" * 64
LOCK = (
    f"wmagent==2.4.4 --hash={HASH}\n"
    f"Other_Thing==1 ; python_version > '3' \\\n    --hash={HASH} \\\n    --hash=sha256:{'b' * 64}\n"
)


@pytest.fixture
def tools(tmp_path: Path) -> BuildTools:
    """Tools with an empty cache."""
    return BuildTools(PYTHON, tmp_path / "cache")


def test_a_lock_reads_back() -> None:
    pins = parse_lock(LOCK, "it")
    assert [(pin.name, pin.version, len(pin.hashes)) for pin in pins] == [
        ("other-thing", "1", 2),
        ("wmagent", "2.4.4", 1),
    ]
    assert parse_lock(write_lock(reversed(pins)), "it") == pins


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# nothing",
        "wmagent",
        "wmagent>=2",
        "wmagent==2",
        f"-e . --hash={HASH}",
        "wmagent==2 --hash=md5:00",
        f"{LOCK}wmagent==2 --hash={HASH}",
    ],
)
def test_what_is_no_lock_is_refused(line: str) -> None:
    with pytest.raises(WMAgentError, match=r"^it .*make the lock again|^it: .*make the lock again"):
        parse_lock(line, "it")


def test_a_lock_must_be_for_the_tag_and_hold_everything(tools: BuildTools) -> None:
    assert release_pins(BuildRequest("2.4.4", lock=LOCK), tools) == parse_lock(LOCK, "it")
    with pytest.raises(WMAgentError, match=r"is for wmagent 2\.4\.4; give the lock of 2\.4\.5"):
        release_pins(BuildRequest("2.4.5", lock=LOCK), tools)
    with pytest.raises(WMAgentError, match="lacks some-client"):
        release_pins(BuildRequest("2.4.4", requirements=("Some.Client[x]>=1",), lock=LOCK), tools)
    with pytest.raises(WMAgentError, match="build requirements lacks pip, setuptools, wheel"):
        build_pins(BuildRequest("2.4.4", build_lock=LOCK), tools)


@pytest.mark.parametrize("line", ["--index-url=http://somewhere", "a\n-r b", "-e ."])
def test_options_are_no_requirements(line: str) -> None:
    with pytest.raises(WMAgentError, match="is an option"):
        BuildRequest("2.4.4", requirements=(line,))


def test_a_python_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(WMAgentError, match="is no working Python"):
        BuildTools(tmp_path / "none", tmp_path).python_version()


@pytest.mark.parametrize(
    ("tags", "glibc"),
    [
        (["any"], ""),
        (["manylinux_2_28_x86_64"], "2.28"),
        (["manylinux_2_17_x86_64.manylinux2014_x86_64.manylinux_2_28_x86_64"], "2.17"),
        (["manylinux1_x86_64"], "2.5"),
        (["any", "manylinux2010_x86_64", "manylinux_2_9_x86_64", "manylinux_2_34_x86_64"], "2.34"),
    ],
)
def test_the_oldest_glibc_by_tags(tmp_path: Path, tags: list[str], glibc: str) -> None:
    files = [tmp_path / f"x{n}-1-cp311-cp311-{tag}.whl" for n, tag in enumerate(tags)]
    assert wheelfile.glibc_of(files) == glibc


def test_the_oldest_glibc_by_symbols(tmp_path: Path) -> None:
    path = tmp_path / "x-1-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.cpython-311.so", b"\0GLIBC_2.2.5\0GLIBC_2.14\0GLIBC_2.9\0")
        archive.writestr("x.txt", b"GLIBC_2.99")
    assert wheelfile.glibc_of([path]) == "2.14"


def test_a_wheel_is_written_alike_whatever_its_folder_looks_like(tmp_path: Path) -> None:
    files = {f"{n}.py": b"" for n in "hgfedcb"} | {"run": b"#!", "a,b.py": b"a"}
    _wheel, path = make_wheel(tmp_path, "one", "1", files, executable=["run"])
    written = []
    for name in ("first", "second"):
        wheelfile.unpack_wheel(path, tmp_path / name)
        if name == "second":
            for file in (tmp_path / name).rglob("*.py"):
                shutil.copy(file, file.with_suffix(".new"))
                file.unlink()
                file.with_suffix(".new").rename(file)
        (tmp_path / f"{name}.out").mkdir()
        wheelfile.write_wheel(tmp_path / name, tmp_path / f"{name}.out" / path.name)
        written.append((tmp_path / f"{name}.out" / path.name).read_bytes())
    assert written[0] == written[1]
    with zipfile.ZipFile(tmp_path / "first.out" / path.name) as archive:
        names = archive.namelist()
    info = [name for name in names if ".dist-info/" in name]
    assert names == ["a,b.py", *(f"{n}.py" for n in "bcdefgh"), "run", *sorted(info[:-1]), "one-1.dist-info/RECORD"]
    wheelfile.unpack_wheel(tmp_path / "first.out" / path.name, tmp_path / "again")
    assert (tmp_path / "again" / "run").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x"])
def test_a_wheel_that_reaches_outside_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(WMAgentError, match="outside of it"):
        wheelfile.unpack_wheel(path, tmp_path / "out")


def test_a_damaged_wheel_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x-1-py3-none-any.whl"
    path.write_bytes(b"no zip")
    with pytest.raises(WMAgentError, match="is damaged"):
        wheelfile.unpack_wheel(path, tmp_path / "out")


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty docker configuration, and no credentials in the environment."""
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"WMAGENT_REGISTRY_{name}", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def test_no_credentials(docker: Path) -> None:
    assert find_credentials("host:5000", secure=False).basic() is None


def test_credentials_of_the_environment(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WMAGENT_REGISTRY_USER", "me")
    monkeypatch.setenv("WMAGENT_REGISTRY_PASSWORD", "s3cret")
    found = find_credentials("host:5000", secure=True)
    assert found.basic() == "Basic " + base64.b64encode(b"me:s3cret").decode()
    assert "s3cret" not in repr(found)
    monkeypatch.setenv("WMAGENT_REGISTRY_TOKEN", "t0ken")
    assert find_credentials("host:5000", secure=True).basic() == "Bearer t0ken"
    with pytest.raises(WMAgentError, match="in the clear") as caught:
        find_credentials("host:5000", secure=False)
    assert "t0ken" not in str(caught.value)


def test_credentials_of_docker(docker: Path) -> None:
    docker.write_text(json.dumps({"auths": {"host:5000": {"auth": base64.b64encode(b"me:pass").decode()}}}))
    assert find_credentials("host:5000", secure=True).basic() == "Basic " + base64.b64encode(b"me:pass").decode()
    assert find_credentials("other:5000", secure=True).basic() is None
    for damaged in ("{", '{"auths": {"host:5000": {"auth": "%%%"}}}', "[]"):
        docker.write_text(damaged)
        with pytest.raises(WMAgentError, match=r"cannot be read|cannot be decoded"):
            find_credentials("host:5000", secure=True)
