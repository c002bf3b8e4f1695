# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/report.yml: what does not answer is a gap, nothing stops the others, and what was known stays known."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent import ledger
from ansible_collections.dmwm.wmagent.plugins.module_utils._history.store import Event, History, Measure
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.files import FILES_FILE
from support.couch_servers import stand_in
from support.dbsbuffer.fixtures import mariadb_agent
from support.dbsbuffer.modules import fill
from support.fleet import Fleet
from support.secrets import write_secrets

pytestmark = pytest.mark.usefixtures("no_certificates")
DAY = 86400.0


def make_tools(folder: Path) -> None:
    """The tools environment of an image that came before: this very interpreter."""
    environment = folder / "tools-of-tests"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (environment / "bin" / "python").chmod(0o755)
    (environment / FILES_FILE).write_text("{}")


def make_root(folder: Path) -> Path:
    """An agent that was adopted and has no release any more."""
    (folder / ".deploy").mkdir(parents=True)
    ledger.append(folder / ".deploy" / "ledger.jsonl", "adopt", by="operator@controller", to="2.4.4")
    return folder


def known_before(file: Path, agent: str) -> None:
    """What an agent told ten days long until yesterday: a disk that grows by 1 GB a day."""
    now = time.time()
    days = [now - day * DAY for day in range(1, 11)]
    measures = [Measure(at, agent, "disk", "/data", "bytes", 70e9 - (now - at) / DAY * 1e9) for at in days]
    measures += [Measure(at, agent, "disk", "/data", "total", 100e9) for at in days]
    events = [Event(days[0], agent, "release", {"name": "2.4.4-0123456789ab", "digest": "sha256:0123"})]
    History(file).record(measures, events, 400 * DAY, now)


def reported(state: Path, fleet: Fleet, *options: str) -> tuple[dict[str, Any], Any]:
    """The report that a run comes to, by what its history holds then, and the run."""
    run = fleet.play("report.yml", *options, wmagent_report_drain=False, wmagent_report_timeout=60)
    return json.loads((state / "report.json").read_text()), run


def test_one_agent_s_trouble_is_a_gap_and_stops_nobody(mariadb_server, tmp_path: Path) -> None:
    make_tools(tmp_path / "tools")
    state = tmp_path / "state"
    known_before(state / "history.sqlite", "away")
    with mariadb_agent(mariadb_server) as database, stand_in() as (couch, _):
        fill(database)
        secrets = write_secrets(tmp_path / "WMAgent.secrets", database, couch.port)
        secrets.write_text(
            secrets.read_text()
            .replace("COUCH_USER=u\n", f"COUCH_USER={couch.user}\n")
            .replace("COUCH_PASS=couch-word\n", f"COUCH_PASS={couch.password}\n")
        )
        local = {
            "ansible_connection": "local",
            "wmagent_secrets": str(secrets),
            "wmagent_database_name": database.name,
            "wmagent_root": str(make_root(tmp_path / "good")),
        }
        agents = {
            # The first one, by which what is done once for all is done.
            "away": {**local, "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1},
            "good": local,
            "broken": {**local, "wmagent_secrets": "/nowhere", "wmagent_root": str(tmp_path / "missing")},
        }
        fleet = Fleet(tmp_path, agents, {"wmagent_python": sys.executable, "wmagent_state_dir": str(state)})
        report, run = reported(state, fleet)
    assert run.code == 0, run.output
    assert "2 of 3 agents reached" in run.output
    for secret in (database.password, couch.password):
        assert secret not in run.output + json.dumps(report)
    away, good, broken = report["agents"]
    assert good["reached"]
    assert {one["kind"] for one in good["sizes"]} >= {"disk", "database", "table"}
    assert [line["action"] for line in good["ledger"]] == ["adopt"]
    assert {gap.partition(":")[0] for gap in good["gaps"]} == {"couchdb", "release", "components"}
    assert {gap.partition(":")[0] for gap in broken["gaps"]} == {
        "database",
        "dbsbuffer",
        "couchdb",
        "release",
        "components",
        "ledger",
    }
    assert broken["disks"]
    assert not away["reached"]
    assert away["gaps"][0].startswith("not reached: ")
    assert away["release"] == "2.4.4-0123456789ab"
    assert away["disks"] == [{"name": "/data", "used": 69e9, "total": 100e9}]
    assert report["redeploy_first"]["agent"] == "away"
    assert not report["fleet"]["uniform"]
