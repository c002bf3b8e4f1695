# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight's rules, with fakes for databases, processes and files: every problem is told, none hides another."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger, lock
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import Journal, write_journal
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout, release_folder_name
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.preflight import Probes, Request, look
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import REQUIRED
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.description import ImageDescription
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.interpreter import probe

DIGEST = "sha256:" + "ab" * 32
PYTHON = Path(sys.executable)


@pytest.fixture
def request_(tmp_path):
    root = tmp_path / "root"
    release = root / "releases" / "old-1"
    release.mkdir(parents=True)
    body = {"image": "old", "digest": "sha256:1", "tag": "2.4.4", "python": "/p", "prefix": "/", "config": "/c"}
    (release / "release.json").write_text(json.dumps(body))
    (root / "current").symlink_to("releases/old-1")
    (root / ".deploy").mkdir()
    secrets = tmp_path / "secrets"
    secrets.write_text("".join(f"{key}=x\n" for key in (*REQUIRED, "MDB_USER", "MDB_PASS")))
    here = probe(PYTHON)
    image = ImageDescription(
        name="new", tag="2.4.5.9", version="2.4.5.9", python=here.version, platform=here.platform, glibc="2.17",
        created="2026-01-01T00:00:00Z", wheels=(), schema={"mariadb": {"t": {}}}, schema_fingerprint={},
        installed_size=1000,
    )  # fmt: skip
    return Request(
        layout=AgentLayout(root), target=image, digest=DIGEST, release="", secrets=secrets, database_name="wmagent",
        python=PYTHON, components=(), disk_reserve=0, require_healthy=True, on_drift="fail", rollout="r1",
        break_lock="",
    )  # fmt: skip


def refuse(message):
    def probe_(*_):
        raise WMAgentError(message)

    return probe_


FIT = Probes(
    structure=lambda *_: ("mariadb", {"t": {}}),
    guard=lambda *_: [],
    couch_databases=lambda _: 6,
    verdict=lambda *_: ("healthy", []),
    drift=lambda _: [],
    image_of=lambda _: None,
)


def checks(found):
    return [problem["check"] for problem in found.problems]


def test_a_fit_agent_has_no_problem(request_):
    found = look(request_, FIT)
    assert found.problems == []
    assert found.facts["target_release"] == release_folder_name("new", DIGEST)
    assert (found.facts["done"], found.facts["staged"], found.facts["verdict"]) == (False, False, "healthy")


def test_nothing_is_written(request_):
    before = {path: path.lstat().st_mtime_ns for path in request_.layout.root.rglob("*")}
    look(request_, FIT)
    assert {path: path.lstat().st_mtime_ns for path in request_.layout.root.rglob("*")} == before


def test_every_problem_is_told_at_once(request_):
    lock.take_lock(request_.layout.lock, owner="o", rollout="another", ttl=60)
    broken = Probes(
        structure=refuse("wrong password"),
        guard=lambda *_: [],
        couch_databases=refuse("refused"),
        verdict=refuse("unreadable"),
        drift=lambda _: ["a.py"],
        image_of=lambda _: None,
    )
    request = replace(request_, disk_reserve=2**60, target=replace(request_.target, python="2.7", glibc="99.0"))
    assert checks(look(request, broken)) == [
        "python", "python", "disk", "lock", "database", "couchdb", "verdict", "drift",
    ]  # fmt: skip


@pytest.mark.parametrize("verdict", ["unhealthy", "inconclusive"])
def test_an_agent_that_is_not_well_is_refused_unless_asked_for_or_half_done(request_, verdict):
    ill = replace(FIT, verdict=lambda *_: (verdict, ["X: gone"]))
    assert checks(look(request_, ill)) == ["verdict"]
    assert checks(look(replace(request_, require_healthy=False), ill)) == []
    write_journal(request_.layout, Journal("r1", "old-1", "new-x", "stopped"))
    found = look(request_, ill)
    assert (checks(found), found.facts["interrupted"]) == ([], "stopped")


def test_a_schema_that_differs_says_redeploy(request_):
    found = look(request_, replace(FIT, guard=lambda *_: [f"difference {n}" for n in range(5)]))
    assert checks(found) == ["schema"]
    message = found.problems[0]["message"]
    assert "5 differences" in message and "difference 4" in message and "redeploy" in message
    assert len(found.facts["schema_differences"]) == 5


def test_drift_can_be_left_behind(request_):
    drifted = replace(FIT, drift=lambda _: ["a.py"])
    assert checks(look(request_, drifted)) == ["drift"]
    assert checks(look(replace(request_, on_drift="replace"), drifted)) == []


def test_its_own_lock_is_no_problem_another_one_is_until_it_expires(request_):
    lock.take_lock(request_.layout.lock, owner="o", rollout="r1", ttl=60)
    assert checks(look(request_, FIT)) == []
    lock.release_lock(request_.layout.lock, "r1")
    lock.take_lock(request_.layout.lock, owner="o", rollout="r2", ttl=60)
    assert checks(look(request_, FIT)) == ["lock"]
    assert checks(look(replace(request_, break_lock="r2"), FIT)) == []
    lock.take_lock(request_.layout.lock, owner="o", rollout="r2", ttl=60, clock=lambda: time.time() - 120)
    assert checks(look(request_, FIT)) == []


def test_secrets_that_cannot_be_read_leave_databases_unasked(request_):
    request_.secrets.unlink()
    found = look(request_, replace(FIT, structure=refuse("must not be asked")))
    assert checks(found) == ["secrets"]


def test_done_means_on_the_target_healthy_and_nothing_half_done(request_):
    at_target = replace(request_, target=None, release="old-1")
    assert look(at_target, FIT).facts["done"]
    assert not look(at_target, replace(FIT, verdict=lambda *_: ("unhealthy", []))).facts["done"]
    write_journal(request_.layout, Journal("r1", "x", "old-1", "started"))
    assert not look(at_target, FIT).facts["done"]


def test_back_to_a_previous_release_that_nobody_knows(request_):
    found = look(replace(request_, target=None, release="previous"), FIT)
    assert checks(found) == ["target"]
    assert "wmagent_release" in found.problems[0]["message"]


def test_a_root_that_is_none_is_told_with_all_else(request_, tmp_path):
    found = look(replace(request_, layout=AgentLayout(tmp_path / "nowhere")), FIT)
    assert checks(found)[0] == "root"
    assert not found.facts["done"]


def test_every_problem_is_one_line(request_, tmp_path):
    request = replace(request_, layout=AgentLayout(tmp_path / "nowhere"), python=Path("/no/python"))
    for problem in look(request, replace(FIT, structure=refuse("x"))).problems:
        assert "\n" not in problem["message"]


def test_drift_in_the_release_to_go_to_is_told_before_anything_is_staged(request_):
    current = request_.layout.current_release()
    digest = "sha256:1"
    named = request_.layout.releases / release_folder_name("old", digest)
    current.path.rename(named)
    request_.layout.current.unlink()
    request_.layout.current.symlink_to(f"releases/{named.name}")
    at_target = replace(request_, target=replace(request_.target, name="old"), digest=digest, on_drift="replace")
    assert look(at_target, FIT).facts["done"]
    found = look(at_target, replace(FIT, drift=lambda _: ["a.py"]))
    assert checks(found) == ["drift"] and "another image first" in found.problems[0]["message"]


def staged(request, adopted=False):
    folder = request.layout.releases / "new-1"
    folder.mkdir(exist_ok=True)
    body = {"image": "new", "digest": DIGEST, "tag": "2", "python": "/p", "prefix": "/", "config": "/c"}
    (folder / "release.json").write_text(json.dumps({**body, "adopted": adopted}))
    return folder.name


def test_a_damaged_release_is_not_gone_back_to_but_an_adopted_one_is(request_):
    back = replace(request_, target=None, release=staged(request_))
    drift_of_new = replace(FIT, drift=lambda release: ["a.py"] if release.name == "new-1" else [])
    assert checks(look(back, drift_of_new)) == ["drift"]
    drift_of_current = replace(FIT, drift=lambda release: ["b.py"] if release.name == "old-1" else [])
    assert checks(look(back, drift_of_current)) == []
    staged(request_, adopted=True)
    assert checks(look(back, drift_of_new)) == []


@pytest.mark.parametrize(
    "settings",
    [{"healthy_for": 9, "healthy_within": 5}, {"keep_releases": 0}, {"known_tracebacks": ["("]}],
)
def test_settings_that_would_fail_after_the_downtime_fail_here(request_, settings):
    assert checks(look(replace(request_, settings=settings), FIT)) == ["settings"]


def test_going_back_twice_in_one_rollout_goes_nowhere(request_):
    name = staged(request_)
    ledger.append(request_.layout.ledger, "upgrade", to="old-1")
    ledger.append(request_.layout.ledger, "upgrade", to=name)
    ledger.append(request_.layout.ledger, "rollback", to="old-1", rollout="r1")
    back = replace(request_, target=None, release="previous")
    assert look(back, FIT).facts["target_release"] == "old-1"
    assert look(replace(back, rollout="r2"), FIT).facts["target_release"] == name


def test_a_way_back_that_was_cut_off_is_finished_and_not_turned_round(request_):
    name = staged(request_)
    back = replace(request_, target=None, release="previous")
    write_journal(request_.layout, Journal("r1", name, "old-1", "started", back=True))
    assert look(back, FIT).facts["target_release"] == "old-1"
