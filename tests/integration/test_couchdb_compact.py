# SPDX-License-Identifier: GPL-3.0-or-later
"""Compacting databases and views: against the stand-in and, where COUCHDB_URL names one, a real CouchDB."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import compaction_plan as planning
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import (
    CouchClient,
    CouchLostError,
    CouchSettings,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction import (
    DONE,
    GAINED_NOTHING,
    NO_ROOM,
    NOT_CONVERGING,
    NOT_NEEDED,
    NOTE,
    STILL_RUNNING,
    Compaction,
    Outcome,
    Pace,
    database_of,
    sizes_of,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import Disks, Part, Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import Sizes, path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.disk_space import disks_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.notes import read_note
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from support.couch import serving as canned
from support.couch_fragmented import faulty, fragment
from support.couch_servers import couch_database, stand_in, write

RULES = Rules(minimum_fragmentation=0.3, minimum_gain=1, large_gain=10**12, leave_alone=3600, minimum_free=0)
QUICK = Pace(shortest=0.05, longest=0.1, settle=1.5, patience=1.0)


def compaction(client: CouchClient, database: str, **more: Any) -> Compaction:
    """A run over one database on a disk with room."""
    room = Disks(dict.fromkeys([planning.DATABASES, planning.VIEWS], "a"), {"a": 10**12})
    given: dict[str, Any] = {"rules": RULES, "disks": lambda: room, "pace": QUICK} | more
    return Compaction(client, [database], limits=Limits(60, None, None), **given)


def finished(client: CouchClient, database: str, runtime: float = 60, **more: Any) -> Compaction:
    run = compaction(client, database, **more)
    run.look()
    run.limits = Limits(runtime, None, None)
    run.run()
    return run


def test_database_and_view_give_back_what_was_planned_and_nothing_is_due_again(couch, couch_client, couch_db):
    fragment(couch_client, couch_db)
    rules = Rules(0.3, 100_000, 10**12, 3600, 0)
    run = finished(couch_client, couch_db, rules=rules)
    assert {(one.part.view, one.state) for one in run.outcomes} == {("", DONE), ("Jobs", DONE)}
    assert run.cleaned_up == [couch_db] and not run.stopped_by and not run.left and not run.running
    for outcome in run.outcomes:
        assert outcome.gained >= 100_000
        assert (
            sizes_of(couch_client, outcome.part)[0].file
            == outcome.after.file
            == outcome.part.sizes.file - outcome.gained
        )
    assert read_note(couch_client, couch_db, NOTE) == {}
    again = finished(couch_client, couch_db, rules=rules)
    assert not again.due and not again.outcomes


def test_what_is_still_due_right_after_its_compaction_is_compacted_once_more(monkeypatch):
    """As where a purge or writes went on meanwhile, on a real CouchDB."""
    with stand_in() as (server, _), couch_database(server) as name:
        client = CouchClient(server)
        fragment(client, name)
        passes: list[int] = []

        def compact(self: Compaction, decision: planning.Decision) -> Outcome:
            passes.append(len(passes))
            before = decision.part.sizes if len(passes) == 1 else Sizes(3_000_000, 1_000_000, 1)
            after = Sizes(3_000_000, 1_000_000, 1) if len(passes) == 1 else Sizes(1_000_000, 900_000, 1)
            return Outcome(replace(decision.part, sizes=before), after, 1.0, DONE)

        monkeypatch.setattr(Compaction, "_compact", compact)
        first = Part(name, "", Sizes(20_000_000, 3_000_000, 1))
        run = compaction(client, name)
        run.decisions = [planning.Decision(first, True, planning.WORTH_IT, "")]
        run.run()
        assert len(passes) == 2
        (outcome,) = run.outcomes
        assert (outcome.gained, outcome.seconds, outcome.state) == (19_000_000, 2.0, DONE)
        assert read_note(client, name, NOTE) == {}


def test_what_a_compaction_cannot_give_back_is_not_tried_again_for_a_while(couch, couch_client, couch_db):
    write(couch_client, couch_db, range(20))
    rules = Rules(0, 1, 10**12, 3600, 0)  # the file's own header is never given back
    finished(couch_client, couch_db, rules=rules)
    before = couch_client.get(path_of(couch_db))["update_seq"].partition("-")[0]
    second = compaction(couch_client, couch_db, rules=rules)
    second.look()
    if not second.due:
        assert [one.why for one in second.decisions] == [planning.LEFT_ALONE]
    third = compaction(couch_client, couch_db, rules=Rules(0, 1, 10**12, 0, 0))
    third.look()
    assert third.due  # nothing is remembered for longer than was asked for
    third.run()
    assert [one.state for one in third.outcomes] == [GAINED_NOTHING]
    fourth = compaction(couch_client, couch_db, rules=rules)
    fourth.look()
    assert [one.why for one in fourth.decisions] == [planning.LEFT_ALONE]
    assert couch_client.get(path_of(couch_db))["update_seq"].partition("-")[0] == before


def test_check_of_the_disk_on_which_the_server_is(couch, couch_client, tmp_path):
    named = disks_of(couch_client, str(tmp_path), None)
    part = Part("jobs", "", Sizes(1, 1, 1))
    assert (named.free_for(part) or 0) > 0
    told = disks_of(couch_client, None, 123)
    assert told.free_for(part) == 123
    found = disks_of(couch_client, None, None)
    folder = couch_client.get("/_node/_local/_config/couchdb")["database_dir"]
    if Path(folder, "shards").is_dir():
        assert (found.free_for(part) or 0) > 0
    else:
        assert found.free_for(part) is None and "name it with data_directory" in found.unknown
    with pytest.raises(WMAgentError, match="data_directory /nowhere is no folder"):
        disks_of(couch_client, "/nowhere", None)
    with pytest.raises(WMAgentError, match="free_bytes is -1"):
        disks_of(couch_client, None, -1)


def test_a_folder_of_another_server_is_not_taken_for_couchdbs(tmp_path):
    with faulty() as (couch, client, _):
        settings = {"database_dir": str(tmp_path), "view_index_dir": str(tmp_path)}
        couch.store.config["couchdb"] = settings
        assert not disks_of(client, None, None).free
        (tmp_path / "shards").mkdir()
        assert disks_of(client, None, None).free
        couch.store.config["couchdb"] = settings | {"view_index_dir": str(tmp_path / "views")}
        assert not disks_of(client, None, None).free


def test_on_a_full_disk_it_gained_nothing_and_says_so():
    with faulty() as (couch, client, name):
        told: list[str] = []
        couch.faults.disk_full = True
        run = finished(client, name, warn=told.append)
        assert {one.state for one in run.outcomes} == {GAINED_NOTHING}
        assert sum(one.gained for one in run.outcomes) == 0
        assert any("gained nothing; is its disk full" in line for line in told)
        assert any("could not be noted" in line for line in told)
        couch.faults.disk_full = False
        assert {one.state for one in finished(client, name).outcomes} == {DONE}


def test_room_that_went_since_the_plan_holds_a_compaction_back():
    with faulty() as (_, client, name):
        free = {"a": 10**12}
        room = Disks(dict.fromkeys([planning.DATABASES, planning.VIEWS], "a"), free)
        told: list[str] = []
        run = compaction(client, name, disks=lambda: room, warn=told.append)
        run.look()
        free["a"] = 5
        run.run()
        assert {one.state for one in run.outcomes} == {NO_ROOM}
        assert all("bytes free, 5 are" in line for line in told) and told


def test_it_is_waited_for_with_progress():
    with faulty() as (couch, client, name):
        couch.faults.compaction_seconds = 1.0
        lines: list[str] = []
        run = finished(client, name, note=lines.append)
        assert [one.state for one in run.outcomes] == [DONE, DONE]
        assert all(one.seconds >= 1 for one in run.outcomes)
        percents = [int(line.split(": ")[1].split(" %")[0]) for line in lines if " % " in line or " %," in line]
        assert len(percents) > 4 and max(percents) > 50
        orders = [asked for asked in couch.faults.seen if "_compact" in asked and asked.startswith("POST")]
        assert len(orders) == 2


def test_one_that_goes_on_after_the_deadline_is_left_and_told_and_waited_for_by_the_next_run():
    with faulty() as (couch, client, name):
        couch.faults.compaction_seconds = 1.5
        first = finished(client, name, runtime=0.4)
        assert [one.state for one in first.outcomes] == [STILL_RUNNING]
        assert first.stopped_by == "max_runtime"
        running = first.running
        assert len(running) == 1 and len(first.left) == 1
        couch.faults.compaction_seconds = 0.1
        lines: list[str] = []
        second = finished(client, name, note=lines.append)
        assert any("waiting for CouchDB's own compaction" in line for line in lines)
        assert [str(one.part) for one in second.outcomes if one.state != NOT_NEEDED] == first.left
        assert not second.running


def test_nothing_is_begun_after_the_deadline_or_with_a_stop_file(tmp_path):
    with faulty() as (couch, client, name):
        run = finished(client, name, runtime=0)
        assert run.stopped_by == "max_runtime" and len(run.left) == 2
        stop = tmp_path / "stop"
        stop.touch()
        run = compaction(client, name)
        run.limits = Limits(None, None, stop)
        run.look()
        run.run()
        assert run.stopped_by == "stop_file" and len(run.left) == 2
        assert not [asked for asked in couch.faults.seen if asked.startswith("POST") and "_compact" in asked]


def task(database: str, done: int) -> dict[str, Any]:
    shard = f"shards/00000000-7fffffff/{database}.1700000000"
    counts = {"changes_done": done, "total_changes": 1000, "phase": "document_copy"}
    return {"type": "database_compaction", "database": shard, "progress": done // 10} | counts


def test_none_is_begun_while_couchdb_compacts_by_itself():
    with faulty() as (couch, client, name):
        couch.tasks.extra = [task("other/jobs", 1)]
        run = finished(client, name, runtime=0.5)
        assert run.stopped_by == "max_runtime" and run.running == ["other/jobs"] and not run.outcomes
        timer = threading.Timer(0.5, couch.tasks.extra.clear)
        timer.start()
        run = finished(client, name)
        timer.join()
        assert [one.state for one in run.outcomes] == [DONE, DONE]


def test_one_that_runs_already_is_waited_for_and_not_compacted_again():
    with faulty() as (couch, client, name):
        couch.faults.compaction_seconds = 1.0
        client.post(path_of(name, "_compact"), {})
        client.post(path_of(name, "_compact", "Jobs"), {})
        run = compaction(client, name)
        run.look()
        assert all(one.due and "waited for" in one.reason for one in run.decisions)
        couch.faults.seen.clear()
        run.run()
        assert {one.state for one in run.outcomes} == {NOT_NEEDED} and not run.running and not run.stopped_by
        assert not [asked for asked in couch.faults.seen if asked.startswith("POST") and "_compact" in asked]
        assert not client.get("/_active_tasks")


def test_what_a_compaction_that_ran_already_left_is_compacted_after_it():
    with faulty() as (couch, client, name):
        couch.tasks.extra = [task(name, 1)]
        run = compaction(client, name)
        run.look()
        # The stand-in's task does nothing: the file stays as it is, as where others' writes keep it large.
        timer = threading.Timer(0.5, couch.tasks.extra.clear)
        timer.start()
        run.run()
        timer.join()
        assert [one.state for one in run.outcomes] == [DONE, DONE]


def test_what_was_compacted_meanwhile_is_not_compacted_again():
    with faulty() as (_, client, name):
        run = compaction(client, name, rules=Rules(0.3, 100_000, 10**12, 0, 0))
        run.look()
        assert run.due
        finished(client, name)
        run.run()
        assert {one.state for one in run.outcomes} == {NOT_NEEDED}


@contextlib.contextmanager
def writing(client: CouchClient, database: str) -> Iterator[None]:
    """Others write as long as this lasts."""
    stop = threading.Event()

    def others() -> None:
        number = 10_000
        while not stop.wait(0.05):
            write(client, database, range(number, number + 20))
            number += 20

    thread = threading.Thread(target=others)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_one_that_does_not_converge_is_waited_for_no_longer():
    with faulty() as (couch, client, name):
        couch.faults.compaction_seconds = 60
        told: list[str] = []
        begin = time.monotonic()
        with writing(client, name):
            run = compaction(client, name, warn=told.append, clean_up=False)
            run.look()
            run.decisions = [one for one in run.decisions if not one.part.view]
            run.run()
            assert time.monotonic() - begin < 20
            assert [one.state for one in run.outcomes] == [NOT_CONVERGING] and run.stopped_by == NOT_CONVERGING
            assert run.running == [name] and "compact while the components are stopped" in told[0]
            # The next run does not wait for it for ever, either.
            told.clear()
            again = compaction(client, name, warn=told.append, clean_up=False)
            again.decisions = run.decisions
            again.run()
            assert again.stopped_by == NOT_CONVERGING and not again.outcomes and "not converging" in told[0]


def test_a_server_that_goes_away_is_one_line_and_the_next_run_goes_on():
    with faulty() as (couch, client, name):
        couch.faults.compaction_seconds = 0.8
        run = compaction(client, name)
        run.look()
        timer = threading.Timer(0.3, lambda: setattr(couch.faults, "dead", True))
        timer.start()
        with pytest.raises(CouchLostError, match="cannot be reached"):
            run.run()
        timer.join()
        assert len(run.running) == 1 and len(run.left) == 2
        couch.faults.revive()
        assert DONE in {one.state for one in finished(client, name).outcomes}


def test_what_cannot_be_asked_is_one_line():
    # Not with a real server, which locks an account after five wrong passwords.
    with stand_in() as (settings, _):
        wrong = CouchClient(CouchSettings(settings.host, settings.port, settings.user, "wrong"))
        with pytest.raises(WMAgentError, match="check COUCH_USER and COUCH_PASS"):
            compaction(wrong, "jobs").look()
        with pytest.raises(WMAgentError, match="check COUCH_USER and COUCH_PASS"):
            disks_of(wrong, None, None)
    no_admin = canned(lambda *asked: (403, {"error": "forbidden", "reason": "You are not a server admin."}))
    with no_admin as forbidden, pytest.raises(WMAgentError, match=r"refuses user u .You are not a server admin"):
        compaction(CouchClient(forbidden), "jobs").look()
    with canned(lambda *asked: (200, b"<html>proxy</html>")) as proxy, pytest.raises(WMAgentError, match="is no JSON"):
        compaction(CouchClient(proxy), "jobs").look()
    with canned(lambda *asked: (200, {"odd": 1})) as odd, pytest.raises(WMAgentError, match="with no list"):
        compaction(CouchClient(odd), "jobs").look()


def test_the_database_of_a_shard():
    assert database_of("shards/00000000-7fffffff/wmagent_jobdump/jobs.1700000000") == "wmagent_jobdump/jobs"
    assert database_of("wmagent_summary") == "wmagent_summary"
