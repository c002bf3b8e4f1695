# SPDX-License-Identifier: GPL-3.0-or-later
"""Building images of the real wmagent package, from a lock cut down to what is quick: one pure wheel, two sdists."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build import build_image, lock_file, plan_build
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_lock import parse_lock, write_lock
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_request import BuildRequest, patches_in
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.build_tools import BuildTools
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import DirectoryRepository
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.wheelfile import unpack_wheel
from support.playbook import run_tasks

pytestmark = pytest.mark.slow

FILES = Path(__file__).resolve().parents[2] / "roles" / "image" / "files"
TAG = "2.4.5.9"
NAME = f"{TAG}-p1"
PYTHON = Path("/usr/bin/python3.11")


def part_of_lock(*names: str) -> str:
    """The lock of the tag, with these packages only."""
    pins = parse_lock((FILES / "locks" / f"{TAG}.txt").read_text(), "the lock")
    return write_lock(pin for pin in pins if pin.name in names)


def request(**changes: Any) -> BuildRequest:
    """A small image with everything that is special: a patch, a compiled package, tools."""
    plain = BuildRequest(
        NAME,
        patches=tuple(patches_in(FILES / "patches" / TAG, NAME)),
        lock=part_of_lock("wmagent", "mysqlclient", "docopt"),
        build_lock=(FILES / "build.txt").read_text(),
        tools_lock=write_lock(
            p for p in parse_lock((FILES / "tools.txt").read_text(), "tools") if p.name == "installer"
        ),
        schema=False,
    )
    return dataclasses.replace(plain, **changes)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[DirectoryRepository, BuildTools]:
    """The small image, built; its repository and the cache that is left."""
    folder = tmp_path_factory.mktemp("first")
    repository = DirectoryRepository(folder / "images", create=True)
    tools = BuildTools(PYTHON, folder / "cache", timeout=300)
    image, built = build_image(request(), repository, tools)
    assert built
    repository.verify(image)
    return repository, tools


def test_twice_in_different_folders_gives_one_digest(
    first: tuple[DirectoryRepository, BuildTools], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deeper = tmp_path / "a" / "much" / "deeper folder"
    deeper.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(deeper))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("CFLAGS", "-O0 -g3")
    repository = DirectoryRepository(deeper / "images", create=True)
    image, built = build_image(request(), repository, BuildTools(PYTHON, deeper / "cache", timeout=300))
    assert built
    assert image == first[0].image(NAME)


def test_what_the_image_says(first: tuple[DirectoryRepository, BuildTools]) -> None:
    description = first[0].image(NAME).description
    names = {wheel.name: (wheel.version, wheel.part) for wheel in description.wheels}
    assert names["wmagent"] == (f"{TAG}+p1", "release")
    assert names["installer"][1] == "tools"
    assert set(names) == {"wmagent", "mysqlclient", "docopt", "installer"}
    assert (description.tag, description.version, description.patch_level) == (TAG, f"{TAG}+p1", 1)
    assert [patch.name for patch in description.patches] == [p.name for p in request().patches]
    assert (description.python, description.platform) == ("3.11", "linux-x86_64")
    assert description.glibc.startswith("2.")
    assert description.created.startswith("2026-10-22T")
    assert description.installed_size > 5_000_000
    assert description.schema == {"mariadb": None, "oracle": None}
    assert len(description.lock) == 4


def test_the_same_inputs_are_built_once(first: tuple[DirectoryRepository, BuildTools]) -> None:
    repository, tools = first
    before = sorted(p.name for p in repository.folder.rglob("*"))
    assert build_image(request(), repository, tools) == (repository.image(NAME), False)
    assert plan_build(request(), repository, tools).needed is False
    assert sorted(p.name for p in repository.folder.rglob("*")) == before


def test_the_lock_that_is_left_takes_the_same_files(first: tuple[DirectoryRepository, BuildTools]) -> None:
    tools = first[1]
    left = {pin.name: pin.hashes for pin in parse_lock(lock_file(NAME, tools).read_text(), "left")}
    assert left == {pin.name: pin.hashes for pin in parse_lock(request().lock, "given")}


def test_an_image_never_changes_unless_told(first: tuple[DirectoryRepository, BuildTools], tmp_path: Path) -> None:
    repository, tools = first
    copy = DirectoryRepository(shutil.copytree(repository.folder, tmp_path / "images"))
    other = request(lock=part_of_lock("wmagent", "docopt"))
    for attempt in (plan_build, build_image):
        with pytest.raises(WMAgentError, match="built from other inputs, and an image never changes"):
            attempt(other, copy, tools)
    assert copy.image(NAME) == repository.image(NAME)
    image, built = build_image(other, copy, tools, replace=True)
    assert built
    assert image.digest != repository.image(NAME).digest


def test_a_damaged_download_is_fetched_again(first: tuple[DirectoryRepository, BuildTools], tmp_path: Path) -> None:
    tools = BuildTools(PYTHON, shutil.copytree(first[1].cache, tmp_path / "cache", symlinks=True), timeout=300)
    damaged = next((tools.cache / "files").rglob("wmagent-*.whl"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    repository = DirectoryRepository(tmp_path / "images", create=True)
    assert build_image(request(), repository, tools)[0] == first[0].image(NAME)


def test_a_wrong_hash_is_refused(first: tuple[DirectoryRepository, BuildTools], tmp_path: Path) -> None:
    pins = parse_lock(request().lock, "it")
    wrong = [dataclasses.replace(pin, hashes=("sha256:" + "0" * 64,)) if pin.name == "docopt" else pin for pin in pins]
    repository = DirectoryRepository(tmp_path / "images", create=True)
    with pytest.raises(WMAgentError, match=r"downloading packages failed: .*(?:HASH|hash)") as caught:
        build_image(request(lock=write_lock(wrong)), repository, first[1])
    assert "\n" not in str(caught.value)
    assert repository.names() == []


def test_an_unknown_tag_is_one_line(first: tuple[DirectoryRepository, BuildTools]) -> None:
    with pytest.raises(WMAgentError, match=r"resolving the requirements failed: .*wmagent==0\.0\.1") as caught:
        plan_build(BuildRequest("0.0.1"), None, first[1])
    assert "\n" not in str(caught.value)


@pytest.fixture
def patched(first: tuple[DirectoryRepository, BuildTools], tmp_path: Path) -> Path:
    """The patched WMAgent, unpacked."""
    wheel = next(w for w in first[0].image(NAME).description.wheels if w.name == "wmagent")
    (tmp_path / wheel.filename).write_bytes(first[0].read_blob(wheel.digest))
    unpack_wheel(tmp_path / wheel.filename, tmp_path / "unpacked")
    return tmp_path / "unpacked"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Stand-ins for the modules that the patched file imports; what was called of them."""
    seen: list[str] = []
    oracledb = types.ModuleType("oracledb")
    oracledb.init_oracle_client = lambda: seen.append("init_oracle_client")  # type: ignore[attr-defined]
    sqlalchemy = types.ModuleType("sqlalchemy")
    sqlalchemy.__version__ = "1"  # type: ignore[attr-defined]
    sqlalchemy.create_engine = lambda url, **_k: seen.append(url) or types.SimpleNamespace(dialect=None)  # type: ignore[attr-defined, func-returns-value]
    dialects = types.ModuleType("WMCore.Database.Dialects")
    dialects.MySQLDialect = object  # type: ignore[attr-defined]
    names = {"WMCore": types.ModuleType("WMCore"), "WMCore.Database": types.ModuleType("WMCore.Database")}
    modules = {**names, "oracledb": oracledb, "sqlalchemy": sqlalchemy, "WMCore.Database.Dialects": dialects}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "cx_Oracle", oracledb)
    yield seen


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://u:p@h:3306/d", ["mysql://u:p@h:3306/d"]),
        ("mariadb://u:p@h:3306/d", ["mariadb://u:p@h:3306/d"]),
        ("oracle://u:p@tns", ["init_oracle_client", "oracle://u:p@tns"]),
        ("oracle+cx_oracle://u:p@tns", ["init_oracle_client", "oracle+cx_oracle://u:p@tns"]),
    ],
)
def test_the_first_patch_loads_the_oracle_client_for_oracle_alone(
    patched: Path, calls: list[str], url: str, expected: list[str]
) -> None:
    spec = importlib.util.spec_from_file_location("patched_factory", patched / "WMCore" / "Database" / "DBFactory.py")
    assert spec is not None
    assert spec.loader is not None
    factory = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(factory)
    assert calls == []
    factory.DBFactory(None, url)
    assert calls == expected


def test_modules_build_sign_and_read(first: tuple[DirectoryRepository, BuildTools], tmp_path: Path) -> None:
    """As a playbook does it: check mode, for real, again, and a signature that is asked for."""
    (tmp_path / "lock").write_text(request().lock)
    (tmp_path / "tools").write_text(request().tools_lock)
    key = tmp_path / "key"
    common = {"repository": str(tmp_path / "images"), "image": NAME}
    build = common | {
        "patch_folder": str(FILES / "patches" / TAG),
        "lock": str(tmp_path / "lock"),
        "build_lock": str(FILES / "build.txt"),
        "tools_lock": str(tmp_path / "tools"),
        "describe_schema": False,
        "cache": str(first[1].cache),
        "progress": str(tmp_path / "progress"),
    }
    unsigned = {"dmwm.wmagent.image_info": common | {"allowed_signers": str(tmp_path / "allowed")}}
    tasks: list[dict[str, Any]] = [
        {"name": "plan", "dmwm.wmagent.image_build": build, "check_mode": True, "diff": True},
        {"name": "folder", "ansible.builtin.stat": {"path": str(tmp_path / "images")}},
        {"name": "build", "dmwm.wmagent.image_build": build},
        {"name": "again", "dmwm.wmagent.image_build": build},
        {"name": "plan again", "dmwm.wmagent.image_build": build, "check_mode": True},
        {"name": "key", "ansible.builtin.command": f"ssh-keygen -q -t ed25519 -N '' -f {key}"},
        {"name": "allow", "ansible.builtin.shell": f"echo me@here $(cat {key}.pub) > {tmp_path}/allowed"},
        {"name": "unsigned", **unsigned, "ignore_errors": True},
        {"name": "sign plan", "dmwm.wmagent.image_sign": common | {"key": str(key)}, "check_mode": True},
        {"name": "sign", "dmwm.wmagent.image_sign": common | {"key": str(key)}},
        {"name": "sign again", "dmwm.wmagent.image_sign": common | {"key": str(key)}},
        {"name": "info", **unsigned},
        {"name": "names", "dmwm.wmagent.image_info": {"repository": common["repository"]}},
    ]
    host = {"controller": {"ansible_python_interpreter": sys.executable}}
    outcome = run_tasks(tmp_path / "play", tasks, host)
    assert outcome.code == 0, outcome.output
    results = outcome.results["controller"]
    assert results["plan"]["changed"]
    assert results["plan"]["patched"] == ["src/python/WMCore/Database/DBFactory.py"]
    assert f"wmagent=={TAG}\n" in results["plan"]["diff"]["after"]
    assert not results["folder"]["stat"]["exists"]
    assert results["build"]["changed"]
    assert results["build"]["digest"] == first[0].image(NAME).digest
    assert any("patching" in line for line in (tmp_path / "progress").read_text().splitlines())
    assert [results[name]["changed"] for name in ("again", "plan again")] == [False, False]
    assert results["unsigned"]["msg"].endswith("is not signed; sign it with playbooks/image.yml or name another")
    assert [results[name]["changed"] for name in ("sign plan", "sign", "sign again")] == [True, True, False]
    assert results["info"]["signature"] == {"signed": True, "signer": "me@here"}
    assert results["info"]["digest"] == results["build"]["digest"]
    assert results["names"]["names"] == [NAME]
