# SPDX-License-Identifier: GPL-3.0-or-later
"""What a watch decides between two readings, and whose turn it is: without an agent."""

from __future__ import annotations

import json

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import turns, watching
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.drain_summary import summarise
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.memory import Memory
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.progress import STAGES
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.verdict import readings_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st

OFF = {"Threshold": 200, "Enabled": False}
FLAGS = {
    "UserDrainMode": True,
    "SpeedDrainConfig": {"CondorPriority": OFF, "NoJobRetries": OFF, "EnableAllSites": OFF},
}
NO_ETA = {"seconds": None, "soonest_seconds": None, "latest_seconds": None, "note": "not enough data"}


def reading(time: float, verdict: str = "draining", eta: dict | None = None, **stages: int | None) -> dict:
    return {
        "time": time,
        "agent": "a.example",
        "verdict": verdict,
        "reason": "some to go",
        "stages": [
            {"name": name, "count": stages.get(name, 0), "rate_per_hour": 5.0, "note": ""} for name in STAGES
        ],
        "blockers": [],
        "waived": [],
        "bottleneck": "",
        "eta": eta or NO_ETA,
    }  # fmt: skip


def test_an_agent_waits_while_its_team_would_keep_too_few():
    active = {"a": True, "b": True, "c": False, "d": None}
    assert turns.waits_for("a", "x", active, 1) == ""
    assert turns.waits_for("a", "x", active, 2) == "team x would keep 1 of wmagent_min_active=2 agents (unknown: d)"
    assert turns.waits_for("a", "x", {"a": True}, 0) == ""


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([True, False, None])), st.integers(0, 8))
def test_a_team_never_falls_below_its_minimum(active, minimum):
    """Whoever is let begin, in whatever order: agents that are known to take work stay as many as were asked for."""
    active = dict(active)
    for agent in sorted(active):
        if active[agent] and not turns.waits_for(agent, "x", active, minimum):
            active[agent] = False
            assert sum(works is True for works in active.values()) >= minimum


def test_a_minimum_that_no_agent_could_ever_be_spared_for_is_refused():
    with pytest.raises(WMAgentError, match="wmagent_min_active is 2, and team x has 2 agents"):
        turns.check_minimum(2, "x", ["a", "b"])
    with pytest.raises(WMAgentError, match="0 or more"):
        turns.check_minimum(-1, "x", ["a"])
    turns.check_minimum(1, "x", ["a", "b"])


def test_pauses_follow_the_time_that_is_left_and_grow_while_nothing_changes():
    then, now = reading(0, batch=5), reading(60, batch=5)
    assert watching.pause(now, then, 60, 60, 900) == 90
    assert watching.pause(now, then, 800, 60, 900) == 900
    assert watching.pause(reading(60, batch=4), then, 800, 60, 900) == 60
    assert watching.pause(reading(60, eta=NO_ETA | {"seconds": 9000}), then, 60, 60, 900) == 300
    assert watching.pause(reading(60, eta=NO_ETA | {"seconds": 10}), then, 60, 60, 900) == 60


def test_speed_drain_comes_when_few_jobs_are_left_and_none_wait_before_them():
    thresholds = {"condor_priority": 500, "no_job_retries": 200}
    due = watching.speed_due(reading(0, batch=199), thresholds, FLAGS)
    assert due == {"no_job_retries": {"threshold": 200, "enabled": True}}
    assert not watching.speed_due(reading(0, batch=200), thresholds, FLAGS)
    assert not watching.speed_due(reading(0, batch=1, workqueue=1), thresholds, FLAGS)
    assert not watching.speed_due(reading(0, batch=1, workqueue=None), thresholds, FLAGS)
    assert not watching.speed_due(reading(0, batch=None), thresholds, FLAGS)
    assert not watching.speed_due(reading(0, batch=1), thresholds, None)
    assert not watching.speed_due(reading(0, batch=1), thresholds, FLAGS | {"UserDrainMode": False})
    on = {**FLAGS["SpeedDrainConfig"], "NoJobRetries": {"Threshold": 200, "Enabled": True}}
    assert not watching.speed_due(reading(0, batch=1), thresholds, FLAGS | {"SpeedDrainConfig": on})


def test_a_watch_ends_when_drained_or_stuck_twice_or_blind_for_too_long():
    def ends(*verdicts: str, since: float | None = None) -> str:
        return watching.ends([reading(0, one) for one in verdicts], since, 1000, 500)

    assert [ends("draining"), ends("draining", "drained"), ends()] == ["", "drained", ""]
    assert [ends("stuck"), ends("stuck", "draining"), ends("draining", "stuck", "stuck")] == ["", "", "stuck"]
    assert [ends("draining", since=501), ends("draining", since=500), ends(since=0)] == ["", "unknown", "unknown"]


def test_what_took_how_long():
    readings = [
        reading(100, workqueue=3, batch=0),
        reading(160, workqueue=0, batch=7),
        reading(220, batch=0, upload=4),
        reading(280, upload=2),
    ]
    told = {one["stage"]: (one["most"], one["seconds"]) for one in watching.durations(readings)}
    assert told["workqueue"] == (3, 60) and told["batch"] == (7, 120)
    assert told["upload"] == (4, None) and told["blocks"] == (0, 0)


def test_the_time_taken_ends_where_it_was_drained():
    readings = [reading(100), reading(200, "drained"), reading(900, "drained")]
    assert watching.seconds_taken(50, readings, 1000) == 150
    assert watching.seconds_taken(50, readings[:1], 1000) == 950
    assert watching.seconds_taken(0, readings, 1000) is None


def test_one_line():
    eta = {"seconds": 720, "soonest_seconds": 540, "latest_seconds": None, "note": ""}
    now = reading(60, eta=eta, upload=25) | {"bottleneck": "upload"}
    assert watching.line([reading(0, upload=100), now]) == (
        "[###############.....]  75 %  draining  waits for upload: 25 (-5/h)  ETA 12 min (9 min to ?)"
    )
    behind = reading(60, upload=25, blocks=2) | {
        "bottleneck": "upload",
        "eta": NO_ETA | {"note": "blocks stands still"},
    }
    upload = next(stage for stage in behind["stages"] if stage["name"] == "upload")
    upload |= {"eta_seconds": 720, "eta_soonest_seconds": 540, "eta_latest_seconds": 900}
    assert watching.line([reading(0, upload=98, blocks=2), behind]).endswith(
        "upload empty in 12 min (9 min to 15 min); blocks stands still"
    )
    assert watching.line([reading(0, "drained")]) == f"[{'#' * 20}] 100 %  drained"
    assert "not enough data  some to go" in watching.line([reading(0, upload=1)])


def test_the_live_line():
    now = reading(60, eta=NO_ETA | {"seconds": 720}, upload=25) | {"bottleneck": "upload"}
    told = watching.progress_of([reading(0, upload=100), now])
    assert (told.step, told.done, told.total, told.eta) == ("draining, waits for upload: 25", 75, 100, 720)
    assert watching.progress_of([reading(0, "drained")]).total is None


@given(st.lists(st.floats(0, 400 * 3600), min_size=1, max_size=300, unique=True).map(sorted))
def test_what_is_kept_is_short_keeps_the_ends_and_can_be_given_back(times):
    kept = watching.kept([reading(time, batch=number) for number, time in enumerate(times)])
    assert len(kept) <= 1 + watching.NEWEST + watching.HOURLY
    assert [one["time"] for one in kept] == sorted({one["time"] for one in kept})
    assert (kept[0]["time"], kept[-1]["time"]) == (times[0], times[-1])
    assert len(readings_of(kept, "a.example", times[-1] + 1)) == len(kept)
    assert watching.kept(kept)[-watching.NEWEST :] == kept[-watching.NEWEST :]


def test_the_controller_remembers_and_forgets(tmp_path):
    memory = Memory.of(tmp_path, "inventory", "a")
    assert (memory.began, memory.readings) == (0.0, [])
    memory.began = 5.0
    memory.readings.append(reading(6, batch=1))
    memory.save()
    again = Memory.of(tmp_path, "inventory", "a")
    assert (again.began, again.readings[0]["time"]) == (5.0, 6)
    assert not Memory.of(tmp_path, "another", "a").readings
    memory.file.write_text(json.dumps({"began": 1}))
    with pytest.raises(WMAgentError, match="remove it: only rates and times are lost"):
        Memory.of(tmp_path, "inventory", "a")


def test_the_table_names_who_is_not_drained():
    good = {"state": "drained", "reason": "", "seconds": 3600, "stages": [], "blockers": [], "events": []}
    waiver = {"person": "operator", "reason": "lost"}
    good["waived"] = [{"signal": "files_without_block", "count": 2, "waiver": waiver}]
    bad = good | {"state": "stuck", "reason": "nothing moved", "waived": []}
    bad["blockers"] = [{"signal": "jobs_paused", "count": 3, "text": ""}]
    rows, left, message = summarise({"a": good, "b": bad, "c": None, "d": {"failed": True, "msg": "no\nanswer"}})
    assert left == ["b", "c", "d"] and message == "1 of 4 agents drained; not drained: b, c, d"
    assert rows[0]["took"] == "60 min"
    notes = [row["left, waived, done on the way"] for row in rows]
    assert notes[0] == ["waived: files_without_block (2) by operator, lost"]
    assert notes[1:] == [["nothing moved", "jobs_paused: 3"], ["no answer"], ["no answer"]]
    assert summarise({"a": good})[1:] == ([], "1 of 1 agents drained")
