# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator gets wrong: one clear line each, all of a fleet at once, and nothing changes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.agent import lab
from support.fleet import IMAGES, Fleet

NEW = "2.4.5.9-p1"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with lab(tmp_path_factory, components=["RetryManager"]) as up:
        yield up


def deploy_by_hand(root: Path) -> Path:
    """Just enough of an agent to be taken for one."""
    folder = root / "v2.4.4"
    (folder / "config").mkdir(parents=True)
    (folder / "install").mkdir()
    (folder / "config" / "config.py").write_text(f"config.General.workDir = '{folder}/install'\n")
    info = folder / "sw" / "lib" / "python3.11" / "site-packages" / "wmagent-2.4.4.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text("")
    (folder / "sw" / "bin").mkdir()
    (folder / "sw" / "bin" / "python").symlink_to("/usr/bin/python3.11")
    return root


def everything(root: Path) -> dict[str, tuple[int, int]]:
    """Every path below a root but what running components write."""
    found = (path for path in root.rglob("*") if "install" not in path.parts and "__pycache__" not in path.parts)
    return {str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in found}


def test_every_agents_problems_are_told_in_one_table(running, tmp_path):
    good = running.agents[0]
    secrets = good.secrets.read_text()

    def written(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    def root(name: str) -> Path:
        return deploy_by_hand(tmp_path / "roots" / name)

    (tmp_path / "roots" / "folder" / "current").mkdir(parents=True)
    (tmp_path / "roots" / "dangling").mkdir()
    (tmp_path / "roots" / "dangling" / "current").symlink_to("v0")
    (tmp_path / "roots" / "none").mkdir()
    locked = root("locked")
    (locked / ".deploy").mkdir()
    held = {"owner": "somebody@elsewhere", "rollout": "the-other", "taken": 0, "expires": 4e9}
    (locked / ".deploy" / "lock").write_text(json.dumps(held))
    port = next(line for line in secrets.splitlines() if line.startswith("MDB_PORT="))
    password = next(line for line in secrets.splitlines() if line.startswith("MDB_PASS="))
    cases = {
        "nowhere": ({"wmagent_root": str(tmp_path / "nowhere")}, "root: ", "does not exist; check wmagent_root"),
        "folder": ({"wmagent_root": str(tmp_path / "roots" / "folder")}, "root: ", "is a real folder, not a link"),
        "dangling": ({"wmagent_root": str(tmp_path / "roots" / "dangling")}, "root: ", "which does not exist"),
        "none": ({"wmagent_root": str(tmp_path / "roots" / "none")}, "root: ", "is not an agent root"),
        "twin": ({"wmagent_root": str(good.root)}, "root: ", "the same folder as agent01"),
        "nosecrets": ({"wmagent_secrets": str(tmp_path / "no")}, "secrets: ", "does not exist; copy it there"),
        "blank": ({"wmagent_secrets": written("blank", "# nothing\n")}, "secrets: ", "is blank"),
        "template": (
            {"wmagent_secrets": written("template", secrets.replace("TEAMNAME=", "TEAMNAME=update-me"))},
            "secrets: ",
            "still as in the template: TEAMNAME",
        ),
        "password": (
            {"wmagent_secrets": written("wrong", secrets.replace(password, "MDB_PASS=not-the-one"))},
            "database: ",
            "password",
        ),
        "down": ({"wmagent_secrets": written("down", secrets.replace(port, "MDB_PORT=1"))}, "database: ", "refused"),
        "full": ({"wmagent_disk_reserve": "900T"}, "disk: ", "kept in reserve"),
        "python": ({"wmagent_python": "/no/such/python"}, "/no/such/python", "install it or set wmagent_python"),
        "locked": ({"wmagent_root": str(locked)}, "lock: ", "wmagent_break_lock=the-other"),
    }
    agents = {good.name: good.variables()}
    for name, (changes, _, _) in cases.items():
        own = {} if "wmagent_root" in changes else {"wmagent_root": str(root(name))}
        agents[name] = {**good.variables(), **own, **changes}
    before = everything(tmp_path / "roots"), everything(good.root), good.running()
    # One line for each cell: what is looked for must not be wrapped.
    run = Fleet(running.folder / "controller", agents).upgrade(NEW)
    assert run.code != 0
    assert "nothing was changed" in run.output
    assert (everything(tmp_path / "roots"), everything(good.root), good.running()) == before
    assert not (good.root / ".deploy").exists()
    told = {name: " ".join(cell(run.output, name)) for name in agents}
    for name, (_, check, words) in cases.items():
        assert check in told[name] and words in told[name], f"{name}: {told[name]}\n{run.output}"
    assert "the same folder as twin" in told["agent01"]
    assert "not-the-one" not in run.output
    assert "Traceback" not in run.output


def cell(output: str, agent: str) -> list[str]:
    """The words of the last column of an agent's rows in the preflight's table."""
    lines = output.splitlines()
    header = next(line for line in lines if line.startswith("agent ") and "problems" in line)
    column = header.index("problems")
    start = next(index for index, line in enumerate(lines) if line.startswith(f"{agent} ") and len(line) > column)
    words = lines[start][column:].split()
    for line in lines[start + 1 :]:
        if line[:column].strip() or not line.strip():
            break
        words += line[column:].split()
    return words


@pytest.fixture(scope="module")
def fleet(running):
    return Fleet.of(running.folder / "controller", running.agents)


# Which sizes mean nothing, tests/unit/rollout/test_batches.py shows; here, that one is a line and no traceback.
@pytest.mark.parametrize(
    "batches", [["some"], *(pytest.param([one], marks=pytest.mark.long) for one in (0, "0%", "120%", -1))]
)
def test_batches_that_mean_nothing(fleet, batches):
    refused(fleet.upgrade(NEW, wmagent_batches=batches), "wmagent_batches")


def test_an_unknown_image_names_those_there_are(fleet):
    refused(fleet.upgrade("2.4.5.99"), "2.4.5.99", NEW)


def test_a_repository_that_is_none(fleet, tmp_path):
    refused(fleet.upgrade(NEW, wmagent_repository=str(tmp_path / "none")), str(tmp_path / "none"))


def test_an_unsigned_image_where_a_signature_is_asked_for(fleet, tmp_path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    signers = tmp_path / "allowed"
    signers.write_text(f"builder {key.with_suffix('.pub').read_text()}")
    refused(fleet.upgrade(NEW, wmagent_allowed_signers=str(signers)), "not signed")


@pytest.mark.parametrize(
    "damage",
    [pytest.param("truncated", marks=pytest.mark.long), "tampered", pytest.param("missing", marks=pytest.mark.long)],
)
def test_a_damaged_image(fleet, tmp_path, damage):
    repository = tmp_path / "images"
    shutil.copytree(IMAGES, repository, copy_function=lambda source, target: Path(target).symlink_to(source))
    (repository / "index.json").unlink()
    shutil.copy(IMAGES / "index.json", repository / "index.json")
    blob = damaged_wheel(repository)
    content = blob.read_bytes()
    blob.unlink()
    if damage == "truncated":
        blob.write_bytes(content[:-1000])
    elif damage == "tampered":
        blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    words = blob.name[:12] if damage == "tampered" else "is missing or truncated"
    refused(fleet.upgrade(NEW, wmagent_repository=str(repository)), words)


def damaged_wheel(repository: Path) -> Path:
    """The blob of the image's WMAgent wheel."""
    index = json.loads((repository / "index.json").read_text())
    entry = next(e for e in index["manifests"] if e["annotations"]["org.opencontainers.image.ref.name"] == NEW)
    blobs = repository / "blobs" / "sha256"
    manifest = json.loads((blobs / entry["digest"].removeprefix("sha256:")).read_text())
    layers = manifest["layers"]
    wheel = next(e for e in layers if e["annotations"]["org.opencontainers.image.title"].startswith("wmagent-"))
    return blobs / wheel["digest"].removeprefix("sha256:")


def refused(run, *words):
    assert run.code != 0
    for word in words:
        assert word in run.output, run.output
    assert "Traceback" not in run.output
    assert "== Roll" not in run.output
    assert "changed=0" in run.output, run.output
