# SPDX-License-Identifier: GPL-3.0-or-later
"""Adoption of agents as people deployed them, and roots that are none."""

from __future__ import annotations

import os

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.adopt import adopt, find_deployment
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def deploy_by_hand(root, tag="2.4.4", name=None, software="sw"):
    folder = root / (name or f"v{tag}")
    (folder / "config").mkdir(parents=True)
    (folder / "install").mkdir()
    (folder / "config" / "config.py").write_text(f"config.General.workDir = '{folder}/install'\n")
    prefix = folder / software if software else folder
    info = prefix / "lib" / "python3.11" / "site-packages" / f"wmagent-{tag}.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text("x,,\n")
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python").touch()
    return folder


def test_the_classic_layout_is_found_through_current(tmp_path):
    folder = deploy_by_hand(tmp_path)
    deploy_by_hand(tmp_path, "2.3.0")
    (tmp_path / "current").symlink_to("v2.4.4")
    found = find_deployment(tmp_path)
    assert (found.folder, found.tag, found.work_dir) == (folder, "2.4.4", folder / "install")


def test_adoption_moves_nothing_and_can_be_run_again(tmp_path):
    folder = deploy_by_hand(tmp_path)
    (tmp_path / "current").symlink_to("v2.4.4")
    layout = AgentLayout(tmp_path)
    before = sorted(str(path) for path in folder.rglob("*"))
    release = adopt(layout, find_deployment(tmp_path), by="me", rollout="r")
    assert sorted(str(path) for path in folder.rglob("*")) == before
    assert layout.current_release() == release
    assert release.adopted and release.config == folder / "config" / "config.py"
    assert os.path.realpath(tmp_path / "current" / "install") == str(folder / "install")
    assert os.path.realpath(layout.work_dir) == str(folder / "install")
    assert ledger.release_order(ledger.read(layout.ledger)) == [release.name]
    assert layout.is_adopted()


def test_an_adoption_cut_off_before_the_link_is_finished(tmp_path):
    deploy_by_hand(tmp_path)
    (tmp_path / "current").symlink_to("v2.4.4")
    layout = AgentLayout(tmp_path)
    deployment = find_deployment(tmp_path)
    release = adopt(layout, deployment, by="me", rollout="r")
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("v2.4.4")
    assert adopt(layout, find_deployment(tmp_path), by="me", rollout="r").name == release.name
    assert layout.current_release().name == release.name


@pytest.mark.parametrize("name,software", [("2.4.4", "venv"), ("2.4.4", None)])
def test_other_layouts(tmp_path, name, software):
    deploy_by_hand(tmp_path, name=name, software=software)
    assert find_deployment(tmp_path).tag == "2.4.4"


def test_a_virtual_environment_around_the_root(tmp_path):
    venv = tmp_path / "venv"
    root = venv / "srv" / "wmagent"
    folder = deploy_by_hand(root)
    (folder / "sw").rename(tmp_path / "moved")
    for entry in (tmp_path / "moved").iterdir():
        entry.rename(venv / entry.name)
    assert find_deployment(root).prefix == venv


def broken(kind, root):
    if kind == "missing":
        return root / "nowhere"
    root.mkdir()
    if kind == "dangling":
        (root / "current").symlink_to("v9")
    elif kind == "real folder":
        (root / "current").mkdir()
    elif kind == "two":
        deploy_by_hand(root, "2.4.3")
        deploy_by_hand(root, "2.4.4")
    elif kind == "no config":
        (deploy_by_hand(root) / "config" / "config.py").unlink()
    elif kind == "no work dir":
        (deploy_by_hand(root) / "config" / "config.py").write_text("pass\n")
    elif kind == "no software":
        deploy_by_hand(root).joinpath("sw").rename(root / "gone")
    return root


@pytest.mark.parametrize(
    "kind,words",
    [
        ("missing", "does not exist"),
        ("empty", "is not an agent root"),
        ("dangling", "which does not exist"),
        ("real folder", "is a real folder"),
        ("two", "several deployments"),
        ("no config", "wmagent_adopt_config"),
        ("no work dir", "General.workDir"),
        ("no software", "wmagent_adopt_prefix"),
    ],
)
def test_a_root_that_is_none_is_one_clear_line(tmp_path, kind, words):
    with pytest.raises(WMAgentError, match=words) as caught:
        find_deployment(broken(kind, tmp_path / "root"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "kind,words", [("dangling", "does not exist"), ("real folder", "real folder"), ("empty", "does not exist")]
)
def test_current_that_leads_nowhere_is_one_clear_line(tmp_path, kind, words):
    with pytest.raises(WMAgentError, match=words):
        AgentLayout(broken(kind, tmp_path / "root")).current_release()
