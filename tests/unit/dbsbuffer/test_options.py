# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the DBSBuffer modules that set the rules, and lengths of time."""

from __future__ import annotations

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Rules
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.options import RULE_OPTIONS, rules_from_options
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from hypothesis import given
from hypothesis import strategies as st

DAY = 86_400
DEFAULTS = {name: option["default"] for name, option in RULE_OPTIONS.items()}


def test_the_defaults():
    rules = rules_from_options(DEFAULTS, 100 * DAY)
    assert rules == Rules(100 * DAY, 14 * DAY, True)
    assert rules.cutoff == 86 * DAY


def test_what_a_task_says():
    assert rules_from_options({"retention": "0", "block_rules": False}, 5) == Rules(5, 0, False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("15m", 900),
        ("12h", 43_200),
        ("30d", 30 * DAY),
        ("2w", 14 * DAY),
        ("1.5h", 5400),
        ("0.5", 0.5),
        (" 7 d ", 7 * DAY),
    ],
)
def test_lengths_of_time(text, seconds):
    assert seconds_of(text, "retention") == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "soon", "-1", "-1d", "+1d", "1y", "1 day", "d", "1.", ".5", "1e3", "1,5h", "nan", "inf", "1d2h"]
)
def test_what_is_no_length_of_time(text):
    with pytest.raises(WMAgentError) as error:
        rules_from_options({"retention": text, "block_rules": True}, 0)
    assert str(error.value) == f"retention is {text!r}; write a number with s, m, h, d or w, such as 30d"


def test_the_option_is_named():
    with pytest.raises(WMAgentError, match=r"^max_runtime is 'x'"):
        seconds_of("x", "max_runtime")


@given(st.text())
def test_any_text_is_a_length_or_refused(text):
    try:
        assert 0 <= seconds_of(text, "retention") < float("inf")
    except WMAgentError as error:
        assert "retention is" in str(error)


@given(st.integers(0, 10**6), st.sampled_from("smhdw"))
def test_longer_is_longer(number, unit):
    assert seconds_of(f"{number + 1}{unit}", "x") > seconds_of(f"{number}{unit}", "x") >= 0
