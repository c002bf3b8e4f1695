# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as Markdown: what it says, and that no text in it becomes markup."""

from __future__ import annotations

import re

from ansible_collections.dmwm.wmagent.plugins.module_utils._report.markdown import text, to_markdown
from hypothesis import given
from hypothesis import strategies as st
from support.report_hostile import hostile_report
from support.report_model import some_report

# An unescaped pipe; text() leaves none, since it makes entities of them.
PIPE = re.compile(r"\|")


@given(st.text(alphabet=st.sampled_from("ab|`*_[]()<>#!~&\\$@\n\r\t-+1. :/\u2028é"), max_size=60))
def test_text_is_one_line_without_markup(value: str) -> None:
    line = text(value)
    assert len(line.splitlines()) <= 1
    assert not set(line) & set("<>|`$@")
    assert not re.search(r"(?<!\\)(?:\\\\)*[*_\[\]~]", line)
    assert not re.match(r"[-+=#>]|\d+[.)](?:\s|$)", line)


def test_every_row_has_as_many_cells_as_its_table_whatever_is_in_them() -> None:
    columns = None
    written = to_markdown(hostile_report())
    for line in written.splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        cells = len(PIPE.findall(line)) - 1
        columns = columns or cells
        assert cells == columns, line
    assert "<script" not in written
    assert "onerror" in written  # it is told, as text
    assert "\n# heading" not in written


def test_it_tells_what_an_operator_asks_first() -> None:
    written = to_markdown(some_report(4))
    assert "**Not uniform**, 4 agents." in written
    assert "Redeploy first: **vocms0201**, /data full on 2026-12-20 (2026-12-11 to 2027-01-04)." in written
    assert "| vocms0204 | ? not reached, last known 2026-11-22 02:30 UTC |" in written
    assert "**Not reached. What follows is the last known, from 2026-11-22 02:30 UTC.**" in written
    assert "| upload to DBS (bottleneck) | 15\u202f320 | 2946.0/h |" in written
    assert "| stuck | – | – |" in written
    assert "| registration in Rucio | 41 | grows 3.0/h |" in written
    assert "2027-06-01 (2027-02-11 to maybe never)" in written
