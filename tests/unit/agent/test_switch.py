# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of steps, what each failure leaves behind, and that a cut-off switch is finished. All effects are fakes."""

from __future__ import annotations

import json

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.journal import clear_journal, read_journal
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.switch import (
    Effects,
    find_release,
    needs_switch,
    switch_release,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


class Killed(BaseException):
    """The process ended here."""


class World:
    """An agent with components, records and a link, and a point at which its controller's process dies."""

    def __init__(self, root, dies_at=None):
        self.layout = AgentLayout(root)
        self.running = "old"
        self.records = 0
        self.steps = []
        self.dies_at = dies_at
        self.prepared_ok = True
        self.writes_between = False
        for name in ("old", "new"):
            folder = root / "releases" / name
            folder.mkdir(parents=True)
            body = {
                "image": name,
                "digest": "sha256:" + name,
                "tag": "1",
                "python": "/p",
                "prefix": "/",
                "config": "/c",
            }
            (folder / "release.json").write_text(json.dumps(body))
        (root / ".deploy").mkdir()
        (root / "current").symlink_to("releases/old")

    def step(self, name):
        self.steps.append(name)
        if self.dies_at == len(self.steps):
            raise Killed

    def prepare(self, release):
        if not self.prepared_ok:
            raise WMAgentError("it cannot be imported")
        self.step("prepare")
        world = self

        class Ready:
            up_at = None

            def go(self):
                world.step("go")
                world.running = release.name
                return [{"component": "X", "ok": True}]

            def abandon(self):
                world.steps.append("abandon")

        return Ready()

    def stop(self, releases):
        self.step("stop")
        was, self.running = self.running, None
        return [{"component": "X"}] if was else []

    def link(self, name):
        self.step("link")
        link = self.layout.root / "current.new"
        link.symlink_to(f"releases/{name}")
        link.replace(self.layout.current)
        if self.writes_between:
            self.records += 1

    def check(self):
        self.step("check")

    def read(self):
        self.step("read")
        return {"table": self.records}

    def summary(self, reading):
        return f"{len(reading)} tables"

    def digest(self, reading):
        return str(reading)

    def changes(self, before, after):
        return ["table: written"] if before != after else []

    def run(self, target="new", back=False):
        effects = Effects(prepare=self.prepare, stop=self.stop, link=self.link, records=self, back=back)
        return switch_release(self.layout, find_release(self.layout, target), "r1", effects)


def test_everything_is_ready_before_anything_stops_and_records_are_read_between(tmp_path):
    world = World(tmp_path)
    result = world.run()
    assert world.steps == ["prepare", "check", "stop", "read", "link", "read", "go"]
    assert (result.changed, result.origin, result.target, result.record_changes) == (True, "old", "new", [])
    assert world.running == "new"
    assert read_journal(world.layout).step == "started"


def test_a_second_run_changes_nothing(tmp_path):
    world = World(tmp_path)
    world.run()
    steps = list(world.steps)
    again = world.run()
    assert (again.changed, again.origin, world.steps) == (False, "old", steps)
    clear_journal(world.layout)
    assert not world.run().changed


def test_a_release_that_cannot_be_imported_stops_nothing(tmp_path):
    world = World(tmp_path)
    world.prepared_ok = False
    with pytest.raises(WMAgentError):
        world.run()
    assert world.running == "old"
    assert read_journal(world.layout) is None


def test_a_write_while_stopped_is_found_and_nothing_is_started(tmp_path):
    world = World(tmp_path)
    world.writes_between = True
    result = world.run()
    assert result.record_changes == ["table: written"]
    assert world.running is None
    assert world.steps[-1] == "abandon"
    world.writes_between = False
    back = world.run("old")  # the way back has evidence of its own
    assert (back.record_changes, world.running) == ([], "old")


@pytest.mark.parametrize("cut", range(1, 8))
def test_cut_off_anywhere_the_same_call_finishes(tmp_path, cut):
    world = World(tmp_path, dies_at=cut)
    with pytest.raises(Killed):
        world.run()
    world.dies_at = None
    result = world.run()
    assert world.running == "new"
    assert world.layout.current_release().name == "new"
    assert (result.origin, result.target, result.record_changes) == ("old", "new", [])


@pytest.mark.parametrize("cut", [5, 6])
def test_a_write_between_two_runs_is_found_while_nothing_of_the_agent_ran(tmp_path, cut):
    world = World(tmp_path, dies_at=cut)
    with pytest.raises(Killed):
        world.run()
    world.dies_at, world.records = None, 7
    assert world.run().record_changes == ["table: written"]


def test_writes_of_components_that_ran_in_between_are_their_own(tmp_path):
    world = World(tmp_path, dies_at=6)
    with pytest.raises(Killed):
        world.run()
    world.dies_at, world.records, world.running = None, 7, "old"
    assert world.run().record_changes == []


@pytest.mark.parametrize("cut", range(1, 8))
def test_cut_off_anywhere_the_way_back_works_too(tmp_path, cut):
    world = World(tmp_path, dies_at=cut)
    with pytest.raises(Killed):
        world.run()
    world.dies_at = None
    world.run("old")
    assert world.running == "old"
    assert world.layout.current_release().name == "old"


def test_on_the_way_back_an_agent_that_runs_counts_for_more_than_the_evidence(tmp_path):
    world = World(tmp_path)
    world.run()

    def refuse():
        raise WMAgentError("database down")

    world.read = world.check = refuse
    with pytest.raises(WMAgentError, match="down"):
        world.run("old")
    assert world.running == "new"
    effects = Effects(world.prepare, world.stop, world.link, records=world, require_records=False)
    result = switch_release(world.layout, find_release(world.layout, "old"), "r1", effects)
    assert (world.running, result.records_unread, result.record_changes) == ("old", "database down", [])


def test_a_writer_that_does_not_stop_cannot_keep_an_agent_down(tmp_path):
    world = World(tmp_path)
    world.writes_between = True
    world.run()
    effects = Effects(world.prepare, world.stop, world.link, records=world, require_records=False)
    result = switch_release(world.layout, find_release(world.layout, "old"), "r1", effects)
    assert (world.running, result.record_changes) == ("old", ["table: written"])


def test_components_that_did_not_come_up_are_named(tmp_path):
    world = World(tmp_path)
    result = world.run()
    assert result.problem == ""
    result.started = [{"component": "X", "ok": True}, {"component": "Y", "ok": False, "error": "died"}]
    assert result.problem == "components that did not come up: Y (died)"


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_way_back_cut_off_anywhere_never_makes_the_bad_release_the_one_to_go_back_to(tmp_path, cut):
    world = World(tmp_path)
    world.run()
    world.dies_at = len(world.steps) + cut
    with pytest.raises(Killed):
        world.run("old", back=True)
    world.dies_at = None
    again = world.run("new")
    assert again.origin == "old"
    assert world.run("old", back=True).target == "old"
    assert world.running == "old"


def test_needs_switch_is_what_changed_will_be(tmp_path):
    world = World(tmp_path)
    new, old = find_release(world.layout, "new"), find_release(world.layout, "old")
    assert needs_switch(world.layout, new) and not needs_switch(world.layout, old)
    world.run()
    assert not needs_switch(world.layout, new) and needs_switch(world.layout, old)


def test_find_release_names_what_is_there(tmp_path):
    world = World(tmp_path)
    with pytest.raises(WMAgentError, match="there: new, old"):
        find_release(world.layout, "newer")
    assert find_release(world.layout, "sha256:old").name == "old"
