# SPDX-License-Identifier: GPL-3.0-or-later
"""Which agents change together: pure planning of a rollout's batches."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_PERCENT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*%\s*$")
_NUMBER = re.compile(r"^\s*(\d+)\s*$")


def batch_size(size: int | str, total: int) -> int:
    """Number of agents that ``size`` (a count, or a percentage of ``total``) means; at least one, as Ansible's serial.

    Raises WMAgentError for zero, negative, over 100 % or anything that is neither.
    """
    text = str(size)
    if match := _PERCENT.match(text):
        share = float(match.group(1))
        if not 0 < share <= 100:
            raise WMAgentError(f"wmagent_batches has {text!r}; a percentage stands above 0 % and at most 100 %")
        return max(1, int(total * share / 100))
    if (match := _NUMBER.match(text)) and not isinstance(size, bool) and int(match.group(1)) > 0:
        return int(match.group(1))
    raise WMAgentError(f'wmagent_batches has {text!r}; use a count of at least 1 or a percentage such as "25%"')


def split_wave(agents: Sequence[str], sizes: Sequence[int | str]) -> list[list[str]]:
    """Split one wave; the last size is repeated until every agent is in a batch."""
    batches: list[list[str]] = []
    start = 0
    while start < len(agents):
        count = batch_size(sizes[min(len(batches), len(sizes) - 1)], len(agents))
        batches.append(list(agents[start : start + count]))
        start += count
    return batches


def plan_batches(waves: Sequence[Sequence[str]], sizes: Sequence[int | str] | int | str) -> list[list[str]]:
    """Batches of all waves, in order. An agent goes with the first wave that has it.

    waves: agent names in each wave; percentages are of the wave's agents.
    sizes: ``wmagent_batches``.

    Raises WMAgentError where ``sizes`` is empty or has a size that means nothing.
    """
    if isinstance(sizes, (int, str)):
        sizes = [sizes]
    if not sizes:
        raise WMAgentError('wmagent_batches is empty; give at least one size, e.g. [1, "25%", "100%"]')
    for size in sizes:
        batch_size(size, 1)
    seen: set[str] = set()
    batches: list[list[str]] = []
    for wave in waves:
        agents = [agent for agent in dict.fromkeys(wave) if agent not in seen]
        seen.update(agents)
        batches.extend(split_wave(agents, sizes))
    return batches
