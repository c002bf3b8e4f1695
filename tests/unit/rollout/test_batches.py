# SPDX-License-Identifier: GPL-3.0-or-later
"""The batch planner against its definition."""

from __future__ import annotations

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._rollout.batches import batch_size, plan_batches
from hypothesis import given
from hypothesis import strategies as st

agents = st.lists(st.sampled_from([f"agent{n:02}" for n in range(24)]), max_size=24)
sizes = st.lists(
    st.one_of(st.integers(1, 30), st.integers(1, 100).map(lambda n: f"{n}%"), st.integers(1, 9).map(str)),
    min_size=1,
    max_size=4,
)


@given(st.lists(agents, max_size=5), sizes)
def test_every_agent_once_and_in_the_first_wave_that_has_it(waves, wanted):
    plan = plan_batches(waves, wanted)
    flat = [agent for batch in plan for agent in batch]
    expected = list(dict.fromkeys(agent for wave in waves for agent in wave))
    assert flat == expected
    assert all(plan)


@given(st.lists(agents, max_size=5), sizes)
def test_no_batch_crosses_a_wave(waves, wanted):
    first_wave = {}
    for number, wave in enumerate(waves):
        for agent in wave:
            first_wave.setdefault(agent, number)
    for batch in plan_batches(waves, wanted):
        assert len({first_wave[agent] for agent in batch}) == 1


@given(agents.filter(bool), sizes)
def test_sizes_are_used_in_order_and_the_last_repeats(wave, wanted):
    unique = list(dict.fromkeys(wave))
    plan = plan_batches([unique], wanted)
    for index, batch in enumerate(plan[:-1]):
        assert len(batch) == batch_size(wanted[min(index, len(wanted) - 1)], len(unique))
    assert len(plan[-1]) <= batch_size(wanted[min(len(plan) - 1, len(wanted) - 1)], len(unique))


def test_the_default_starts_with_a_canary():
    fleet = [f"a{n}" for n in range(8)]
    assert [len(batch) for batch in plan_batches([fleet], [1, "25%", "100%"])] == [1, 2, 5]


@pytest.mark.parametrize("bad", [[], [0], ["0%"], ["101%"], ["-1"], [-1], ["many"], [1, 0], [None], [True], ["1.5"]])
def test_a_list_that_means_nothing_is_refused_in_one_line(bad):
    with pytest.raises(WMAgentError) as caught:
        plan_batches([["a"]], bad)
    assert "wmagent_batches" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_size_is_refused_even_where_it_would_never_be_reached():
    with pytest.raises(WMAgentError):
        plan_batches([["a"]], [1, "200%"])
