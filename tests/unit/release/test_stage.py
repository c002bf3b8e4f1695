# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging as a whole: what it does the first time, again, and when secrets, overrides or files change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.config_file import masked
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import Image, Wheel
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import probe
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import switch_current
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.repository import DirectoryRepository
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.stage import (
    ConfigInputs,
    checked_image,
    image_of,
    stage,
)
from support.wheels import PYTHON, make_image, make_repository, make_wheel, wmagent_files, write_secrets

LIB = f"lib/python{probe(PYTHON).version}/site-packages"


class Agent:
    """An agent and an image, and what is sent to it."""

    def __init__(self, folder: Path) -> None:
        self.layout = AgentLayout(folder / "agent")
        self.layout.root.mkdir()
        self.secrets = write_secrets(folder / "WMAgent.secrets")
        helper = make_wheel(folder / "w", "helper", "1", {"helper.py": b"h = 1\n"})
        self.wheels = [make_wheel(folder / "w", "wmagent", "1.0", wmagent_files(), requires=["helper"]), helper]
        changed = wmagent_files({"WMCore/__init__.py": b"__version__ = 'p1'\n"})
        self.patched = [make_wheel(folder / "w", "wmagent", "1.0+p1", changed), helper]
        self.base: Image = make_image("1.0", self.wheels)[0]
        self.patch: Image = make_image("1.0-p1", self.patched)[0]
        self.sent: list[str] = []

    def stage(self, image: Image | None = None, **options: Any) -> dict[str, Any]:
        paths = {wheel.digest: path for wheel, path in (*self.wheels, *self.patched)}
        inputs = ConfigInputs(self.secrets, "wmagent", options.pop("overrides", {}), {})

        def fetch(store: BlobStore, missing: list[Wheel]) -> None:
            for wheel in missing:
                with paths[wheel.digest].open("rb") as stream:
                    store.add(wheel.digest, stream, wheel.size)
                self.sent.append(wheel.filename)

        options.setdefault("fetch", fetch)
        return stage(self.layout, image or self.base, PYTHON, inputs, **options)

    def files(self) -> dict[str, int]:
        return {str(p): p.lstat().st_mtime_ns for p in self.layout.root.rglob("*")}


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


def test_staged_once_then_nothing_changes(agent: Agent) -> None:
    first = agent.stage()
    assert (first["changed"], first["staged"], len(agent.sent)) == (True, True, 2)
    config = Path(first["release"]["path"]) / "config.py"
    assert "mysql://agent:s3cret-mariadb@127.0.0.1/wmagent" in config.read_text()
    assert str(agent.layout.work_dir) in config.read_text()
    before = agent.files()
    again = agent.stage()
    assert (again["changed"], again["config_differs"], again["drift"], again["diff"]) == (False, False, [], [])
    assert agent.files() == before
    assert len(agent.sent) == 2


def test_check_mode_tells_and_touches_nothing(agent: Agent) -> None:
    before = agent.files()
    planned = agent.stage(check=True)
    assert (planned["changed"], planned["staged"]) == (True, False)
    assert {entry["filename"] for entry in planned["missing"]} == {wheel.filename for wheel, _ in agent.wheels}
    assert agent.files() == before
    agent.stage()
    assert [entry["filename"] for entry in agent.stage(agent.patch, check=True)["missing"]] == [
        agent.patched[0][0].filename
    ]
    assert agent.stage(check=True)["changed"] is False


def test_without_a_source_it_only_tells(agent: Agent) -> None:
    told = agent.stage(fetch=None)
    assert (told["staged"], len(told["missing"])) == (False, 2)
    assert not agent.layout.deploy.exists()


def test_a_patch_image_sends_its_changed_wheel_only(agent: Agent) -> None:
    agent.stage()
    agent.sent.clear()
    done = agent.stage(agent.patch)
    assert agent.sent == [agent.patched[0][0].filename]
    assert done["files_linked"] > 0


def test_the_config_of_a_release_that_does_not_run_follows_its_inputs(agent: Agent) -> None:
    folder = Path(agent.stage()["release"]["path"])
    changed = agent.stage(overrides={"JobSubmitter.maxJobs": 77})
    assert (changed["changed"], changed["config_changed"], changed["config_differs"]) == (True, True, False)
    assert '"maxJobs": 77' in (folder / "config.py").read_text()
    assert (folder / "config.py").stat().st_mode & 0o777 == 0o600
    assert agent.stage(overrides={"JobSubmitter.maxJobs": 77})["changed"] is False
    write_secrets(agent.secrets, MDB_PASS="another-one")
    assert agent.stage(overrides={"JobSubmitter.maxJobs": 77}, check=True)["config_changed"] is True
    assert "another-one" not in (folder / "config.py").read_text()
    assert agent.stage(overrides={"JobSubmitter.maxJobs": 77})["config_changed"] is True
    assert "another-one" in (folder / "config.py").read_text()


def test_the_config_of_the_running_release_is_only_told_to_differ(agent: Agent) -> None:
    done = agent.stage()
    switch_current(agent.layout, done["name"])
    before = agent.files()
    told = agent.stage(overrides={"JobSubmitter.maxJobs": 77})
    assert (told["changed"], told["config_changed"], told["config_differs"]) == (False, False, True)
    assert agent.files() == before


def test_the_diff_goes_from_the_current_config_to_the_new_one_and_shows_no_secret(agent: Agent) -> None:
    switch_current(agent.layout, agent.stage()["name"])
    write_secrets(agent.secrets, MDB_PASS="rotated-secret")
    diff = agent.stage(agent.patch, overrides={"JobSubmitter.maxJobs": 5})["diff"][0]
    assert "/releases/1.0-" in diff["before_header"]
    assert diff["after_header"].startswith("1.0-p1-")
    assert '"maxJobs": 1' in diff["before"]
    assert '"maxJobs": 5' in diff["after"]
    shown = diff["before"] + diff["after"]
    assert "mysql://agent:********@127.0.0.1" in shown
    assert "s3cret" not in shown, "the old password is shown"
    assert "rotated-secret" not in shown


def patch_by_hand(release: dict[str, Any]) -> Path:
    file = Path(release["path"]) / LIB / "WMCore/__init__.py"
    file.write_text("__version__ = 'by hand'\n")
    return file


def test_a_patched_release_is_not_taken_for_its_image(agent: Agent) -> None:
    release = agent.stage()["release"]
    file = patch_by_hand(release)
    with pytest.raises(WMAgentError, match=r"differs from its image in 1 files .*wmagent_on_drift=replace"):
        agent.stage()
    planned = agent.stage(replace_drifted=True, check=True)
    assert (planned["changed"], [entry["kind"] for entry in planned["drift"]]) == (True, ["modified"])
    assert "by hand" in file.read_text()
    done = agent.stage(replace_drifted=True)
    assert (done["changed"], done["staged"]) == (True, True)
    assert "by hand" not in file.read_text()
    assert agent.stage()["drift"] == []
    assert list(agent.layout.incoming.glob("1.0*")) == []


def test_the_running_release_is_told_to_be_patched_and_left_alone(agent: Agent) -> None:
    done = agent.stage()
    switch_current(agent.layout, done["name"])
    file = patch_by_hand(done["release"])
    told = agent.stage(replace_drifted=True)
    assert (told["changed"], [entry["kind"] for entry in told["drift"]]) == (False, ["modified"])
    assert "by hand" in file.read_text()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a.secrets.unlink(), "does not exist; copy it there"),
        (lambda a: a.secrets.write_text(""), "is blank"),
        (lambda a: write_secrets(a.secrets, COUCH_PASS="update-me"), "still as in the template: COUCH_PASS"),
        (lambda a: a.layout.root.rmdir(), "does not exist; check wmagent_root"),
        (lambda a: (a.layout.releases / a.stage()["name"] / "release.json").unlink(), "is not a release"),
    ],
)
def test_bad_input_is_told_before_anything_is_sent(
    agent: Agent, spoil: Callable[[Agent], object], message: str
) -> None:
    spoil(agent)
    agent.sent.clear()
    with pytest.raises(WMAgentError, match=message):
        agent.stage()
    assert agent.sent == []


def test_an_override_of_what_is_not_there_stages_nothing_and_keeps_the_blobs(agent: Agent) -> None:
    with pytest.raises(WMAgentError, match="no section NoSuch"):
        agent.stage(overrides={"NoSuch.thing": 1})
    assert agent.layout.all_releases() == []
    agent.sent.clear()
    assert agent.stage()["changed"] is True
    assert agent.sent == []


def test_documents_are_checked_against_the_digest(agent: Agent, tmp_path: Path) -> None:
    image, manifest, config = make_image("1.0", agent.wheels)
    assert checked_image("1.0", image.digest, manifest, config).description == image.description
    with pytest.raises(WMAgentError, match="has digest"):
        checked_image("1.0", image.digest, manifest + b" ", config)
    with pytest.raises(WMAgentError, match="not its own"):
        checked_image("1.0", image.digest, manifest, config.replace(b"1.0", b"6.6"))
    make_repository(tmp_path / "images", "1.0", agent.wheels)
    repository = DirectoryRepository(tmp_path / "images")
    assert image_of(repository, "1.0", image.digest)[1]["manifest"].encode() == manifest
    with pytest.raises(WMAgentError, match="expected sha256:00"):
        image_of(repository, "1.0", "sha256:" + "0" * 64)


def test_what_looks_like_a_secret_is_masked_even_if_nobody_knows_it() -> None:
    text = (
        "url = 'mysql://u:old-pass@h/db'\nconfig.X.passAMQ = 'p4ss'\nconfig.Y.grafana_token = \"t0k\"\n"
        "config.Z.maxPasses = 3\nplain = 'http://host/path'\n"
    )
    shown = masked(text, [])
    assert not any(secret in shown for secret in ("old-pass", "p4ss", "t0k"))
    assert "mysql://u:********@h/db" in shown
    assert "plain = 'http://host/path'" in shown
    assert "maxPasses = 3" in shown


def test_a_known_secret_is_masked_wherever_it_stands() -> None:
    assert masked("note = 'ask for s3cret-x'\n", ["s3cret-x"]) == "note = 'ask for ********'\n"
