# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases may go: compared with every possible choice. And the switch."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import RELEASE_FILE, AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.blobs import BlobStore
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import (
    Plan,
    disk_usage,
    needed_blobs,
    plan_agent_prune,
    plan_prune,
    prune,
    switch_current,
)
from hypothesis import given
from hypothesis import strategies as st
from support.wheels import make_image, make_wheel, stage_blobs

NAMES = "abcdef"


@st.composite
def situations(draw: st.DrawFn) -> dict[str, object]:
    names = draw(st.sets(st.sampled_from(NAMES), min_size=1))
    blobs = st.frozensets(st.sampled_from("123456"))
    return {
        "releases": {name: draw(blobs) for name in names},
        "current": draw(st.sampled_from(sorted(names))),
        "previous": draw(st.none() | st.sampled_from(NAMES)),
        "keep": draw(st.integers(1, 7)),
        "order": draw(st.lists(st.sampled_from(NAMES), max_size=12)),
        "staged_blobs": draw(blobs),
    }


def brute_force(s: dict) -> set[str]:  # type: ignore[type-arg]
    """Of all sets that may be kept, the smallest that is large enough and lost the least recently used ones."""
    names = sorted(s["releases"])
    must = {s["current"]} | ({s["previous"]} & set(names))
    last = {name: i for i, name in enumerate(s["order"])}
    possible = [
        set(kept)
        for size in range(len(names) + 1)
        for kept in itertools.combinations(names, size)
        if must <= set(kept) and len(kept) >= min(s["keep"], len(names))
    ]
    smallest = min(len(kept) for kept in possible)

    def recency(kept: set[str]) -> list[tuple[int, str]]:
        return sorted(((last.get(name, -1), name) for name in kept - must), reverse=True)

    return set(names) - max((kept for kept in possible if len(kept) == smallest), key=recency)


@given(situations())
def test_the_plan_is_what_trying_everything_gives(s: dict) -> None:  # type: ignore[type-arg]
    plan = plan_prune(**s)
    assert set(plan.releases) == brute_force(s)
    kept = s["releases"].keys() - set(plan.releases)
    assert s["current"] in kept
    assert s["previous"] is None or s["previous"] not in s["releases"] or s["previous"] in kept
    assert set(plan.blobs) == {b for b in s["staged_blobs"] if not any(b in s["releases"][name] for name in kept)}


@given(situations())
def test_a_second_plan_has_nothing_left_to_do(s: dict) -> None:  # type: ignore[type-arg]
    plan = plan_prune(**s)
    left = {name: blobs for name, blobs in s["releases"].items() if name not in plan.releases}
    assert plan_prune(**{**s, "releases": left, "staged_blobs": s["staged_blobs"] - set(plan.blobs)}) == Plan((), ())


def test_without_a_current_release_nothing_is_planned() -> None:
    with pytest.raises(WMAgentError, match="nothing may be pruned"):
        plan_prune({"a": frozenset()}, "gone", None, 1, [])
    with pytest.raises(WMAgentError, match="keep at least 1"):
        plan_prune({"a": frozenset()}, "a", None, 0, [])


def make_release(layout: AgentLayout, name: str, wheels: list) -> None:  # type: ignore[type-arg]
    image, _manifest, _config = make_image(name, wheels)
    folder = layout.releases / name
    folder.mkdir(parents=True)
    (folder / "image.json").write_bytes(image.description.to_json())
    (folder / "code.py").write_text("x = 1\n" * 2000)
    body = {"image": name, "digest": image.digest, "tag": "1", "python": "p", "prefix": str(folder), "config": "c"}
    (folder / RELEASE_FILE).write_text(json.dumps(body))
    stage_blobs(BlobStore(layout.blobs), wheels)


@pytest.fixture
def layout(tmp_path: Path) -> AgentLayout:
    layout = AgentLayout(tmp_path / "agent")
    layout.root.mkdir()
    common = make_wheel(tmp_path / "w", "common", "1", {"common.py": b""})
    for name in ("1.0", "1.1", "1.2", "1.3"):
        own = make_wheel(tmp_path / "w", "wmagent", name, {"wmagent.py": name.encode()})
        make_release(layout, name, [common, own])
    return layout


def test_prune_keeps_current_and_previous_and_their_blobs(layout: AgentLayout) -> None:
    switch_current(layout, "1.1")
    plan = plan_agent_prune(layout, 2, ["1.0", "1.2", "1.3", "1.2", "1.1"], "1.2")
    assert plan.releases == ("1.0", "1.3")
    assert len(plan.blobs) == 2
    assert prune(layout, plan) > 2 * 12000
    assert [release.name for release in layout.all_releases()] == ["1.1", "1.2"]
    needed = frozenset().union(*(needed_blobs(release) for release in layout.all_releases()))
    assert BlobStore(layout.blobs).digests() == needed
    assert list(layout.incoming.iterdir()) == []


def test_prune_refuses_a_release_that_has_become_current(layout: AgentLayout) -> None:
    switch_current(layout, "1.1")
    plan = plan_agent_prune(layout, 1, ["1.0", "1.1"], None)
    switch_current(layout, "1.0")
    with pytest.raises(WMAgentError, match="become current"):
        prune(layout, plan)
    assert (layout.releases / "1.0" / RELEASE_FILE).is_file()


def test_a_release_whose_image_is_unreadable_stops_the_prune(layout: AgentLayout) -> None:
    switch_current(layout, "1.1")
    (layout.releases / "1.2" / "image.json").write_text("{")
    with pytest.raises(WMAgentError):
        plan_agent_prune(layout, 1, ["1.0", "1.1"], None)


def test_files_of_an_adopted_release_stay(layout: AgentLayout, tmp_path: Path) -> None:
    by_hand = tmp_path / "by-hand"
    by_hand.mkdir()
    (by_hand / "precious").write_text("x")
    adopted = layout.releases / "adopted-0.9"
    adopted.mkdir()
    (adopted / "install").symlink_to(by_hand)
    body = {"image": "adopted-0.9", "digest": "d", "tag": "0.9", "python": "p", "prefix": "p", "config": "c"}
    (adopted / RELEASE_FILE).write_text(json.dumps({**body, "adopted": True}))
    switch_current(layout, "1.1")
    prune(layout, plan_agent_prune(layout, 1, ["adopted-0.9", "1.1"], None))
    assert not adopted.exists()
    assert (by_hand / "precious").is_file()


def test_the_switch_is_a_relative_link_and_leaves_nothing_behind(layout: AgentLayout) -> None:
    for name in ("1.0", "1.3"):
        switch_current(layout, name)
        assert layout.current.readlink() == Path("releases") / name
        assert layout.current_release().name == name
    assert sorted(entry.name for entry in layout.root.iterdir()) == [".deploy", "current", "releases"]


def test_the_switch_refuses_what_is_no_release(layout: AgentLayout) -> None:
    switch_current(layout, "1.0")
    (layout.releases / "half").mkdir()
    for name in ("half", "nowhere"):
        with pytest.raises(WMAgentError, match="not a complete release"):
            switch_current(layout, name)
    assert layout.current_release().name == "1.0"
    layout.current.unlink()
    layout.current.mkdir()
    with pytest.raises(WMAgentError, match="real folder"):
        switch_current(layout, "1.0")


def test_disk_usage_counts_an_inode_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "f").write_bytes(b"x" * 100_000)
    one = disk_usage(tmp_path / "a")
    (tmp_path / "b" / "f").hardlink_to(tmp_path / "a" / "f")
    assert disk_usage(tmp_path / "a", tmp_path / "b") - one < 10_000
    assert disk_usage(tmp_path / "b", only_unshared=True) < 10_000
