# SPDX-License-Identifier: GPL-3.0-or-later
"""Tools, staging, information and prune through ansible-playbook, with small images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import switch_current
from support.playbook import Outcome, run_tasks
from support.wheels import PYTHON, installer_wheel, make_repository, make_wheel, wmagent_files, write_secrets


class Fleet:
    """Two agents on this machine, and a repository with a base image and a patch image."""

    def __init__(self, folder: Path, tools_dir: Path) -> None:
        self.folder = folder
        self.tools_dir = tools_dir
        self.repository = folder / "images"
        bulk = {f"WMCore/m{n}.py": (f"x = '{n}'\n" * 4000).encode() for n in range(4)}
        helper = make_wheel(folder / "w", "helper", "1", {"helper.py": b"h = 1\n"})
        pymysql = make_wheel(folder / "w", "pymysql", "1", {"pymysql.py": b""})
        tools = [installer_wheel(folder / "w"), pymysql, helper]  # helper is in both parts, but travels once
        base = make_wheel(folder / "w", "wmagent", "1.0", wmagent_files(bulk))
        changed = {**bulk, "WMCore/__init__.py": b"__version__ = 'p1'\n"}
        self.patch_wheel = make_wheel(folder / "w", "wmagent", "1.0+p1", wmagent_files(changed))[0]
        self.base = make_repository(self.repository, "1.0", [base, helper], tools)
        patch = make_wheel(folder / "w", "wmagent", "1.0+p1", wmagent_files(changed))
        self.patch = make_repository(self.repository, "1.0-p1", [patch, helper], tools)
        self.layouts = {name: AgentLayout(folder / name) for name in ("one", "two")}
        self.hosts: dict[str, dict[str, Any]] = {}
        for name, layout in self.layouts.items():
            layout.root.mkdir()
            secrets = write_secrets(folder / f"{name}.secrets")
            self.hosts[name] = {"root": str(layout.root), "secrets": str(secrets)}

    def tools(self, **options: Any) -> dict[str, Any]:
        arguments = {
            "image": "1.0",
            "repository": str(self.repository),
            "tools_dir": str(self.tools_dir),
            "python": str(PYTHON),
        }
        task = {"name": "tools", "dmwm.wmagent.tools": {**arguments, **options}}
        return {**task, "register": "tools", "check_mode": False}

    def task(self, module: str, **arguments: Any) -> dict[str, Any]:
        return {
            "name": module,
            f"dmwm.wmagent.{module}": {"wmagent_root": "{{ root }}", **arguments},
            "vars": {"ansible_python_interpreter": "{{ tools.python }}"},
        }

    def stage(self, image: str, **options: Any) -> dict[str, Any]:
        arguments = {"image": image, "repository": str(self.repository), "secrets": "{{ secrets }}"}
        return self.task("release_stage", **{**arguments, "python": str(PYTHON), **options})

    def run(
        self, *tasks: dict[str, Any], hosts: Sequence[str] = ("one", "two"), options: Sequence[str] = ()
    ) -> Outcome:
        chosen = {name: self.hosts[name] for name in hosts}
        return run_tasks(self.folder / "play", tasks, chosen, *options)


@pytest.fixture(scope="module")
def tools_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home") / "tools"


@pytest.fixture
def fleet(tmp_path: Path, tools_dir: Path) -> Fleet:
    return Fleet(tmp_path, tools_dir)


def everything(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def test_two_agents_from_nothing_and_again(fleet: Fleet) -> None:
    fleet.tools_dir = fleet.folder / "tools"
    first = fleet.run(fleet.tools(), fleet.stage("1.0"))
    assert first.code == 0, first.output
    for name, layout in fleet.layouts.items():
        result = first.results[name]["release_stage"]
        assert (result["changed"], result["blobs_sent"], result["files_linked"]) == (True, 2, 0)
        wheels = sum(wheel.size for wheel in fleet.base.description.part("release"))
        assert wheels < result["bytes_sent"] < wheels + 12_000
        assert "missing" not in result
        assert [release.name for release in layout.all_releases()] == [result["name"]]
    assert [first.results[name]["tools"]["changed"] for name in fleet.layouts].count(True) in (1, 2)
    before = {name: everything(layout.root) for name, layout in fleet.layouts.items()}
    again = fleet.run(fleet.tools(), fleet.stage("1.0"))
    assert again.code == 0, again.output
    for name, layout in fleet.layouts.items():
        assert again.results[name]["tools"]["changed"] is False
        assert again.results[name]["tools"]["bytes_sent"] == 0
        result = again.results[name]["release_stage"]
        assert (result["changed"], result["bytes_sent"], result["blobs_sent"]) == (False, 0, 0)
        assert everything(layout.root) == before[name]
    assert not list((fleet.folder / "play" / "remote").glob("ansible-tmp-*")), "bundles were left behind"


def test_check_mode_plans_a_patch_image_and_the_run_does_what_it_said(fleet: Fleet) -> None:
    assert fleet.run(fleet.tools(), fleet.stage("1.0"), hosts=("one",)).code == 0
    before = everything(fleet.layouts["one"].root)
    planned = fleet.run(fleet.tools(), fleet.stage("1.0-p1"), hosts=("one",), options=("--check", "--diff"))
    plan = planned.results["one"]["release_stage"]
    assert everything(fleet.layouts["one"].root) == before
    assert [entry["filename"] for entry in plan["missing"]] == [fleet.patch_wheel.filename]
    done = fleet.run(fleet.tools(), fleet.stage("1.0-p1"), hosts=("one",), options=("--diff",))
    result = done.results["one"]["release_stage"]
    assert (plan["changed"], plan["bytes_sent"], plan["blobs_sent"]) == (True, result["bytes_sent"], 1)
    assert result["blobs_sent"] == 1
    assert result["bytes_sent"] < fleet.patch_wheel.size + 11_000
    assert result["files_linked"] > result["files_written"]
    assert "s3cret" not in done.output
    assert "mysql://agent:********@127.0.0.1" in done.output


def test_the_agent_can_fetch_by_itself(fleet: Fleet) -> None:
    done = fleet.run(fleet.tools(), fleet.stage("1.0", source="agent", digest=fleet.base.digest), hosts=("one",))
    assert done.code == 0, done.output
    result = done.results["one"]["release_stage"]
    assert result["blobs_sent"] == 2
    assert result["bytes_sent"] == sum(wheel.size for wheel in fleet.base.description.part("release"))


def test_a_blob_that_is_damaged_on_the_agent_is_sent_again(fleet: Fleet) -> None:
    assert fleet.run(fleet.tools(), fleet.stage("1.0"), hosts=("one",)).code == 0
    layout = fleet.layouts["one"]
    of_base, of_patch = ({w.digest for w in i.description.part("release")} for i in (fleet.base, fleet.patch))
    (shared,) = of_base & of_patch
    blob = layout.blobs / shared.removeprefix("sha256:")
    blob.write_bytes(b"x" * blob.stat().st_size)
    done = fleet.run(fleet.tools(), fleet.stage("1.0-p1"), hosts=("one",))
    assert done.results["one"]["release_stage"]["blobs_sent"] == 2
    assert done.code == 0, done.output


BAD_INPUT: list[tuple[dict[str, Any], str]] = [
    ({"image": "9.9"}, "no image 9.9 in"),
    ({"digest": "sha256:" + "0" * 64}, "expected sha256:00"),
    ({"repository": "/nowhere"}, "is not an image repository"),
    ({"secrets": "/nowhere/WMAgent.secrets"}, "does not exist; copy it there"),
    ({"python": "/nowhere/python3.11"}, "does not exist; install it or set wmagent_python"),
    ({"wmagent_root": "/nowhere"}, "check wmagent_root"),
    ({"config": {"NoSuch.thing": 1}}, "no section NoSuch"),
]


def test_bad_input_gets_one_line(fleet: Fleet) -> None:
    tasks = [
        {**fleet.stage(**{"image": "1.0", **options}), "name": message, "ignore_errors": True}
        for options, message in BAD_INPUT
    ]
    done = fleet.run(fleet.tools(), *tasks, hosts=("one",))
    for _options, message in BAD_INPUT:
        result = done.results["one"][message]
        assert message in result["msg"]
        assert "\n" not in result["msg"]
    assert "Traceback" not in done.output
    assert AgentLayout(fleet.layouts["one"].root).all_releases() == []


def test_a_python_that_is_not_there_for_the_tools(fleet: Fleet) -> None:
    done = fleet.run(fleet.tools(python="/nowhere/python3.11"), hosts=("one",))
    assert "/nowhere/python3.11 does not exist on one" in done.results["one"]["tools"]["msg"]


def test_an_interpreter_that_is_not_there(fleet: Fleet) -> None:
    task = {**fleet.stage("1.0"), "vars": {"ansible_python_interpreter": "/nowhere/python"}}
    message = fleet.run(task, hosts=("one",)).results["one"]["release_stage"]["msg"]
    assert message.startswith("/nowhere/python does not exist on one; run dmwm.wmagent.tools")


def test_a_tampered_blob_is_refused_before_it_is_sent(fleet: Fleet) -> None:
    wheel = fleet.base.description.part("release")[0]
    blob = fleet.repository / "blobs" / "sha256" / wheel.digest.removeprefix("sha256:")
    blob.write_bytes(b"x" * wheel.size)
    done = fleet.run(fleet.tools(), fleet.stage("1.0"), hosts=("one",))
    assert "not what its digest says" in done.results["one"]["release_stage"]["msg"]
    assert not fleet.layouts["one"].blobs.exists()


def test_information_drift_and_prune(fleet: Fleet) -> None:
    layout = fleet.layouts["one"]
    staged = fleet.run(fleet.tools(), fleet.stage("1.0"), hosts=("one",)).results["one"]["release_stage"]["name"]
    patched = fleet.run(fleet.tools(), fleet.stage("1.0-p1"), hosts=("one",)).results["one"]["release_stage"]["name"]
    for name in (staged, patched):
        switch_current(layout, name)
        ledger.append(layout.ledger, "upgrade", to=name)
    file = next((layout.releases / patched).glob("lib/python3*/site-packages/WMCore/__init__.py"))
    file.write_text("patched by hand")
    info = fleet.run(fleet.tools(), fleet.task("release_info"), hosts=("one",)).results["one"]["release_info"]
    assert (info["changed"], info["problem"]) == (False, "")
    assert info["current"]["name"] == patched
    assert [entry["name"] for entry in info["releases"]] == sorted([staged, patched])
    assert [(Path(entry["path"]).name, entry["kind"]) for entry in info["drift"]] == [("__init__.py", "modified")]

    keeps = fleet.run(fleet.tools(), fleet.task("release_prune", keep=1), hosts=("one",))
    assert keeps.results["one"]["release_prune"]["changed"] is False, "the previous release may not go"
    layout.ledger.unlink()
    unknown = fleet.run(fleet.tools(), fleet.task("release_prune", keep=1), hosts=("one",))
    assert unknown.code != 0 and "nothing was pruned" in unknown.output
    ledger.append(layout.ledger, "upgrade", to=patched)
    planned = fleet.run(fleet.tools(), fleet.task("release_prune", keep=1), hosts=("one",), options=("--check",))
    assert planned.results["one"]["release_prune"]["releases"] == [staged]
    assert len(layout.all_releases()) == 2
    done = fleet.run(fleet.tools(), fleet.task("release_prune", keep=1), hosts=("one",)).results["one"]["release_prune"]
    assert (done["changed"], done["releases"], len(done["blobs"])) == (True, [staged], 1)
    again = fleet.run(fleet.tools(), fleet.task("release_prune", keep=1), hosts=("one",)).results["one"]
    assert again["release_prune"]["changed"] is False
    assert [release.name for release in layout.all_releases()] == [patched]
