# SPDX-License-Identifier: GPL-3.0-or-later
"""Drain flags are changed in ReqMgr2's document, and nothing that another writes at the same time is lost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.central import CentralClient, Certificates
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.disks import Disk
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.drain_flags import ConfigWriter, History
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.flags import (
    SpeedStage,
    Wanted,
    changed_document,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.couch_servers import NO_DATABASE
from support.drain.central import AGENT, Central, central_services, config, secrets_for
from support.playbook import run_tasks

DRAIN = Wanted(draining=True)
CONFIG = "/reqmgr2/data/wmagentconfig/"
KIND = {"ConfigType": "WMAGENT_CONFIG"}


@pytest.fixture
def central() -> Iterator[Central]:
    with central_services() as one:
        yield one


def writer(central: Central, *, guarded: bool = True) -> ConfigWriter:
    base = f"http://127.0.0.1:{central.port}"
    client = CentralClient(f"{base}/reqmgr2", "ReqMgr2", 10, Certificates())
    history = History(CentralClient(f"{base}/couchdb/reqmgr_auxiliary", "CouchDB", 10, Certificates()), AGENT)
    return ConfigWriter(client, AGENT, history if guarded else None, "" if guarded else "told not to")


def to(wanted: Wanted) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda document: changed_document(document, wanted, [Disk("/", 10)])


def at(central: Central, request: str, number: int, act: Callable[[], None]) -> None:
    """Have something happen right before so many requests of a kind have come (``GET``, ``PUT``)."""
    left = {"times": number}

    def before(seen: str) -> None:
        if seen.startswith(f"{request} {CONFIG}"):
            left["times"] -= 1
            if left["times"] == 0:
                act()

    central.service.before = before


def change(central: Central, **more: Any) -> Callable[[], None]:
    """Another client, which reads and writes at once."""
    return lambda: central.service.put_config(AGENT, central.config | more)


def requests(central: Central) -> list[str]:
    return [one.partition(" ")[0] for one in central.service.seen if CONFIG in one]


def test_only_the_flag_changes(central):
    outcome = writer(central).apply(to(DRAIN))
    assert central.config == config(UserDrainMode=True) | KIND
    assert (outcome.guarded, outcome.restored, outcome.notes) == (True, [], [])
    assert outcome.before == config() | KIND
    assert requests(central) == ["GET", "GET", "PUT", "GET"]


def test_what_is_so_already_is_not_written(central):
    central.service.put_config(AGENT, config(UserDrainMode=True))
    writer(central).apply(to(DRAIN))
    assert requests(central) == ["GET"]


def test_planning_writes_nothing(central):
    outcome = writer(central).plan(to(DRAIN))
    assert outcome.after["UserDrainMode"] is True
    assert central.config == config() | KIND


@pytest.mark.parametrize("guarded", [True, False])
def test_a_change_between_the_two_looks_is_seen(central, guarded):
    at(central, "GET", 2, change(central, CondorJobsFraction=0.9))
    writer(central, guarded=guarded).apply(to(DRAIN))
    assert central.config == config(UserDrainMode=True, CondorJobsFraction=0.9) | KIND


def test_a_change_in_the_moment_of_the_writing_is_put_back(central):
    more = {"CondorJobsFraction": 0.9, "New": [1], "MaxRetries": {"default": 5, "Merge": 7}}
    at(central, "PUT", 1, change(central, **more))
    outcome = writer(central).apply(to(DRAIN))
    assert central.config == config(UserDrainMode=True, **more) | KIND
    assert outcome.restored == ["CondorJobsFraction", "MaxRetries.default", "New"]
    assert outcome.guarded


def test_two_changes_in_that_moment_are_put_back(central):
    def twice() -> None:
        change(central, CondorJobsFraction=0.9)()
        change(central, CondorJobsFraction=0.8, DiskUseThreshold=90)()

    at(central, "PUT", 1, twice)
    writer(central).apply(to(DRAIN))
    assert central.config == config(UserDrainMode=True, CondorJobsFraction=0.8, DiskUseThreshold=90) | KIND


def test_a_change_in_the_moment_of_the_putting_back_is_put_back_too(central):
    left = [{"CondorJobsFraction": 0.9}, {"DiskUseThreshold": 90}]

    def before(seen: str) -> None:
        if seen.startswith(f"PUT {CONFIG}") and left:
            change(central, **left.pop(0))()

    central.service.before = before
    writer(central).apply(to(DRAIN))
    assert central.config == config(UserDrainMode=True, CondorJobsFraction=0.9, DiskUseThreshold=90) | KIND


def test_without_revisions_it_says_what_it_cannot_notice(central):
    at(central, "PUT", 1, change(central, CondorJobsFraction=0.9))
    outcome = writer(central, guarded=False).apply(to(DRAIN))
    assert central.config["UserDrainMode"] is True
    assert not outcome.guarded
    assert outcome.notes == [
        "a change that another makes in the moment of the writing would not be noticed: told not to"
    ]


@pytest.mark.parametrize("guarded", [True, False])
def test_one_who_writes_an_old_document_over_ours_loses_nothing_and_nor_do_we(central, guarded):
    old = deepcopy(central.config)
    # The third look is the one back.
    at(central, "GET", 3, lambda: central.service.put_config(AGENT, old | {"CondorJobsFraction": 0.9}))
    writer(central, guarded=guarded).apply(to(DRAIN))
    assert central.config == config(UserDrainMode=True, CondorJobsFraction=0.9) | KIND


def test_one_who_writes_all_the_time_is_given_up(central):
    numbers = iter(range(1000))

    def before(seen: str) -> None:
        if seen.startswith(f"GET {CONFIG}"):
            change(central, CondorJobsFraction=next(numbers))()

    central.service.before = before
    with pytest.raises(WMAgentError, match="changed by others each time"):
        writer(central).apply(to(DRAIN))
    assert "PUT" not in requests(central)


def test_a_revision_that_cannot_be_had_back_is_told(central):
    def compacted(seen: str) -> Any:
        if seen.startswith(f"PUT {CONFIG}"):
            change(central, CondorJobsFraction=0.9)()
        elif "/couchdb/reqmgr_auxiliary/" in seen and "?rev=" in seen:
            return 404, {"error": "not_found", "reason": "missing"}
        return None

    central.service.before = compacted
    with pytest.raises(WMAgentError, match="whether another's change was overwritten cannot be told"):
        writer(central).apply(to(DRAIN))


def test_a_write_whose_answer_is_lost_is_looked_after(central):
    def lost(seen: str) -> Any:
        if seen.startswith(f"PUT {CONFIG}"):
            central.service.put_config(AGENT, config(UserDrainMode=True))
            return 502, b"<html>bad gateway</html>"
        return None

    central.service.before = lost
    outcome = writer(central).apply(to(DRAIN))
    assert central.config["UserDrainMode"] is True
    assert not outcome.guarded

    central.service.before = lambda seen: (502, b"no") if seen.startswith("PUT") else None
    with pytest.raises(WMAgentError, match="status 502"):
        writer(central).apply(to(Wanted(draining=False)))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {}), "refuses this host"),
        ((403, b"no"), "refuses this host"),
        ((302, b""), "as to a login page"),
        ((200, b"<html>log in</html>"), "no JSON"),
        ((200, {}), "one result"),
        ((200, []), "one result"),
        ((200, {"result": []}), "one result"),
        ((200, {"result": [{}, {}]}), "one result"),
        ((200, {"result": [{}]}), "lacks UserDrainMode"),
        ((200, {"result": [None]}), "lacks everything"),
        ((500, {}), "status 500"),
        ((404, {}), f"knows no agent {AGENT}"),
    ],
)
def test_an_answer_of_no_use_changes_nothing(central, answer, said):
    central.service.before = lambda seen: answer if seen.startswith(f"GET {CONFIG}") else None
    with pytest.raises(WMAgentError, match=said) as caught:
        writer(central).apply(to(DRAIN))
    assert "\n" not in str(caught.value)
    assert "PUT" not in requests(central)


@pytest.mark.parametrize("answer", [(200, {"result": [{"error": "conflict"}]}), (200, {"result": []}), (403, {})])
def test_a_refused_write_is_an_error(central, answer):
    central.service.before = lambda seen: answer if seen.startswith(f"PUT {CONFIG}") else None
    with pytest.raises(WMAgentError):
        writer(central).apply(to(DRAIN))
    assert central.config == config() | KIND


def test_another_document_behind_the_revisions_is_no_guard(central):
    document = (200, {"_id": f"WMAGENT_CONFIG_{AGENT}", "_rev": "1-a", "UserDrainMode": True})
    central.service.before = lambda seen: document if "/couchdb/reqmgr_auxiliary" in seen else None
    outcome = writer(central).apply(to(DRAIN))
    assert not outcome.guarded
    assert "holds another document" in outcome.notes[0]


def test_speed_drain_as_upstream_knows_it(central):
    wanted = Wanted(draining=True, speed={"NoJobRetries": SpeedStage(300, True)})
    writer(central).apply(to(wanted))
    assert central.config["SpeedDrainMode"] is True
    assert central.config["SpeedDrainConfig"]["NoJobRetries"] == {"Threshold": 300, "Enabled": True}
    writer(central).apply(to(Wanted(draining=False)))
    assert central.config["SpeedDrainMode"] is False
    assert central.config["SpeedDrainConfig"]["NoJobRetries"] == {"Threshold": 300, "Enabled": False}


def test_the_module(central, tmp_path):
    """Check mode, diff, the change, the same again, and back."""
    secrets = secrets_for(tmp_path, NO_DATABASE, 1, central.urls)
    base = {"secrets": str(secrets), "agent": AGENT}
    drain = base | {"state": "draining", "speed_drain": {"no_job_retries": {"threshold": 300}}}
    tasks = [
        {"name": "check", "dmwm.wmagent.drain": drain, "check_mode": True, "diff": True},
        {"name": "drain", "dmwm.wmagent.drain": drain},
        {"name": "again", "dmwm.wmagent.drain": drain},
        {"name": "active", "dmwm.wmagent.drain": base | {"state": "active"}},
        {"name": "disks", "dmwm.wmagent.drain": base | {"disk_high": 100, "disk_low": 99}},
        {"name": "nothing", "dmwm.wmagent.drain": base, "ignore_errors": True},
        {"name": "stranger", "dmwm.wmagent.drain": drain | {"agent": "other.example.org"}, "ignore_errors": True},
        {"name": "short", "dmwm.wmagent.drain": drain | {"agent": "agent"}, "ignore_errors": True},
        {"name": "half", "dmwm.wmagent.drain": base | {"disk_high": 80}, "ignore_errors": True},
        {"name": "cert", "dmwm.wmagent.drain": drain | {"timeout": 0}, "ignore_errors": True},
    ]
    outcome = run_tasks(tmp_path / "play", tasks, {"agent": {"ansible_python_interpreter": sys.executable}})
    found = outcome.results["agent"]
    assert outcome.code == 0, outcome.output
    assert [found[name]["changed"] for name in ("check", "drain", "again")] == [True, True, False], outcome.output
    assert found["check"]["diff"]["after"]["UserDrainMode"] is True
    assert found["check"]["changes"] == found["drain"]["changes"]
    assert [one["field"] for one in found["drain"]["changes"]] == [
        "SpeedDrainConfig.NoJobRetries.Threshold",
        "UserDrainMode",
    ]
    assert found["drain"]["guarded"] is True
    assert found["drain"]["summary"].startswith(f"{AGENT} drains (UserDrainMode); changed: ")
    assert found["active"]["flags"]["UserDrainMode"] is False
    assert found["disks"]["disks"]
    for name, said in (
        ("nothing", "nothing is asked for"),
        ("stranger", "knows no agent other.example.org"),
        ("short", "give the full host name"),
        ("half", "required together"),
        ("cert", "timeout is 0 s"),
    ):
        assert said in found[name]["msg"]
    assert "Traceback" not in outcome.output
    assert "couch-word" not in outcome.output
