# SPDX-License-Identifier: GPL-3.0-or-later
"""A rotation that is killed, or whose server dies, at any moment: one complete database is there, the next run ends it.

KILLS tells at how many moments (stand-in, real server), KILL_SEED which.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import leaves, rotation
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import (
    CouchClient,
    CouchLostError,
    CouchSettings,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_guard import make_guard
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_run import Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.transport import Transport
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.couch_rotating import complete_ones, contents, copies_of, make_run, rotate, rotating, settings_of
from support.couch_servers import KINDS, couch_server, delete, write
from wmagent_lab.couch_standin import Couch, serving
from wmagent_lab.couch_store import Store

KILLS = dict(zip(("stand-in", "real"), (int(n) for n in os.environ.get("KILLS", "24 6").split()), strict=True))
SEED = os.environ.get("KILL_SEED", "1")
DEATHS = 8

Moment = Callable[[str, str], bool]
"""Whether a request, told by method and path, is the one to be killed at."""


class Requests:
    """Counts a process's requests, and does something before or after one of them."""

    def __init__(self, moment: Moment, action: Callable[[], object], after: bool) -> None:
        self.count = 0
        self._moment, self._action, self._after = moment, action, after

    def patched(self) -> Any:
        """For ``with``."""
        once = Transport._once

        def counted(transport: Transport, method: str, path: str, body: Any) -> Any:
            self.count += 1
            due = self._moment(method, path)
            if due and not self._after:
                self._action()
            answer = once(transport, method, path, body)
            if due and self._after:
                self._action()
            return answer

        return patch.object(Transport, "_once", counted)


def nth(number: int) -> Moment:
    """The n-th request of all."""
    seen = iter(range(1, 10**9))
    return lambda method, path: next(seen) == number


def nth_of(number: int, method: str, part: str) -> Moment:
    """The n-th of those with a method and a part of the path."""
    seen = iter(range(1, 10**9))
    return lambda said, path: said == method and part in path and next(seen) == number


def killed(settings: CouchSettings, database: str, moment: Moment, after: bool) -> bool:
    """Whether a run in a process of its own was killed at a moment."""

    def run() -> None:
        with Requests(moment, lambda: os.kill(os.getpid(), signal.SIGKILL), after).patched():
            rotate(CouchClient(settings), database)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def count_requests(settings: CouchSettings) -> int:
    """How many a whole rotation has."""
    with rotating(settings) as database:
        requests = Requests(lambda method, path: False, lambda: None, False)
        with requests.patched():
            rotate(CouchClient(settings), database)
    return requests.count


def finish(client: CouchClient, database: str, before: dict[str, Any], settings: dict[str, Any]) -> str:
    """The next run; what it had to do."""
    run = make_run(client, database)
    run.look()
    actions = [one["action"] for one in run.planned]
    run.run()
    assert not run.held_back
    if "finish" not in actions and "continue" not in actions and "rotate" not in actions:
        # What was left was of no use any more, or there was nothing; the one after rotates.
        run = rotate(client, database)
        assert not run.held_back
    assert contents(client, database) == before
    assert settings_of(client, database) == settings
    assert read_database(client, database).tombstones == 0
    again = make_run(client, database)
    again.look()
    assert not again.due
    return ", ".join(actions)


@pytest.fixture(params=KINDS)
def kind(request) -> Iterator[tuple[str, CouchSettings]]:
    with pytest.MonkeyPatch.context() as patches, couch_server(request.param) as settings:
        if request.param == "stand-in":
            # It has no files that are named by the second.
            patches.setattr(rotation.Rotation, "_wait_for_another_second", lambda self, marker: None)
        yield request.param, settings


def test_a_killed_process_leaves_one_complete_database(kind: tuple[str, CouchSettings]):
    name, settings = kind
    client, chance = CouchClient(settings), random.Random(f"{SEED} {name}")
    total, kills, done, actions = count_requests(settings), KILLS[name], 0, set()
    for number in range(kills):
        at = 1 + int(total * (number + chance.random()) / kills)
        with rotating(settings) as database:
            before, others = contents(client, database), settings_of(client, database)
            done += killed(settings, database, nth(at), after=bool(number % 2))
            assert complete_ones(client, database, before), f"nothing complete after a kill at request {at}"
            if number % 3 == 0:
                # What goes on may be killed, too.
                again = chance.randrange(10, total)
                killed(settings, database, nth(again), after=chance.random() < 0.5)
                assert complete_ones(client, database, before), f"nothing complete after kills at {at} and {again}"
            actions.add(finish(client, database, before, others))
    print(f"\n{name}: {done} of {kills} killed in {total} requests; what the next run did: {sorted(actions)}")
    assert done >= 0.8 * kills and "finish" in actions


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("method", ["DELETE", "PUT"])
def test_what_is_killed_around_the_deletion_is_finished(kind: tuple[str, CouchSettings], method: str, after: bool):
    _, settings = kind
    client = CouchClient(settings)
    with rotating(settings) as database:
        before, others = contents(client, database), settings_of(client, database)
        word = path_of(database) + ("?q=" if method == "PUT" else "")
        moment: Moment = lambda said, path: said == method and path.startswith(word)  # noqa: E731
        assert killed(settings, database, moment, after)
        gone = client.find(path_of(database)) is None
        assert gone == ((method, after) in (("DELETE", True), ("PUT", False)))
        assert complete_ones(client, database, before)
        run = make_run(client)
        run.look()
        # It is told first and finished, even where this database was not asked for.
        assert run.planned[0]["database"] == database or not gone
        assert finish(client, database, before, others) == (
            "continue" if method == "DELETE" and not after else "finish"
        )


def test_what_the_agent_writes_into_a_half_filled_database_is_kept(kind: tuple[str, CouchSettings]):
    _, settings = kind
    client = CouchClient(settings)
    with rotating(settings, live=60) as database:
        before = contents(client, database)
        assert killed(settings, database, nth_of(2, "POST", path_of(database, "_bulk_docs")), after=True)
        half = contents(client, database)
        assert 3 <= len(half) < len(before)
        known = sorted(name for name in half if name.isdigit())
        missing = max(name for name in before.keys() - half.keys() - {"0", "1"} if name.isdigit())
        write(client, database, [5000])
        delete(client, database, [known[-1]])
        edited = client.get(path_of(database, known[-2]))
        client.put(path_of(database, known[-2]), edited | {"edited": "by the agent"})
        client.put(path_of(database, missing), {"made": "by the agent"})
        ours = contents(client, database)
        # What the agent deleted has to stay deleted, so that its tombstone is still needed.
        assert "run couchdb_rotate first" in make_guard(client, database, 0, 10).unknown[0]
        run = rotate(client, database, rules=Rules())
        assert make_guard(client, database, 0, 10).unknown == []
        assert run.rotated[0].finished and run.rotated[0].written_meanwhile and not run.held_back
        after = contents(client, database)
        assert after.keys() == (before.keys() | {"5000"}) - {known[-1]}
        assert all(after[name].items() >= leaves.items() for name, leaves in ours.items())
        assert len(after[missing]) == 2 and after[missing].items() >= before[missing].items()
        assert json.loads(next(iter(after[known[-2]].values())))["edited"] == "by the agent"
        assert client.find(path_of(database, known[-1])) is None
        assert {name: leaves for name, leaves in after.items() if name in before.keys() - {missing, known[-2]}} == {
            name: leaves for name, leaves in before.items() if name not in (missing, known[-2], known[-1])
        }


@contextmanager
def failing() -> Iterator[tuple[Couch, CouchSettings]]:
    couch = Couch(Store(None, 1))
    with serving(couch, "u", "couch-word") as port, pytest.MonkeyPatch.context() as patches:
        patches.setattr(rotation.Rotation, "_wait_for_another_second", lambda self, marker: None)
        yield couch, CouchSettings("127.0.0.1", port, "u", "couch-word")


def test_a_server_that_dies_leaves_one_complete_database():
    chance, said = random.Random(SEED), set()
    with failing() as (couch, settings):
        client = CouchClient(settings)
        for number in range(DEATHS):
            with rotating(settings) as database:
                before, others = contents(client, database), settings_of(client, database)
                couch.faults.die_after(int(70 * (number + chance.random()) / DEATHS))
                try:
                    rotate(client, database)
                except WMAgentError as error:
                    assert "\n" not in str(error)
                    said.add("was deleted and is not complete yet" in str(error))
                couch.faults.revive()
                assert complete_ones(client, database, before)
                finish(client, database, before, others)
    assert said == {False, True}


def test_a_copy_for_which_there_is_no_room_goes_again(monkeypatch):
    with failing() as (couch, settings), rotating(settings) as database:
        client = CouchClient(settings)
        before, write_leaves = contents(client, database), leaves.write_leaves

        def fill_up(*words: Any) -> None:
            write_leaves(*words)
            couch.faults.disk_full = True

        monkeypatch.setattr(leaves, "write_leaves", fill_up)
        run = rotate(client, database)
        assert "The copy was dropped" in run.held_back[database][0] and not run.rotated
        assert not copies_of(client, database) and contents(client, database) == before


@pytest.mark.parametrize("lose", ["before", "after"])
@pytest.mark.parametrize("method", ["DELETE", "PUT"])
def test_a_lost_answer_is_no_answer(method: str, lose: str):
    with failing() as (couch, settings):
        client = CouchClient(settings)
        with rotating(settings) as database:
            before, others = contents(client, database), settings_of(client, database)
            couch.faults.on(f"^{method} {path_of(database)}" + (r"\?q=" if method == "PUT" else "$"), lose=lose)
            if lose == "after":
                assert rotate(client, database).rotated[0].finished
            else:
                with pytest.raises(WMAgentError, match="cannot be reached") as refused:
                    rotate(client, database)
                assert ("was deleted and is not complete" in str(refused.value)) == (method == "PUT")
                assert isinstance(refused.value, CouchLostError) == (method == "DELETE")
                assert complete_ones(client, database, before)
                finish(client, database, before, others)
            assert contents(client, database) == before and settings_of(client, database) == others
            assert len(copies_of(client, database)) == 1
