# SPDX-License-Identifier: GPL-3.0-or-later
"""The page without a browser: structure, what it tells, that it is self-contained, and how large it gets."""

from __future__ import annotations

import itertools
import re
import sys
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.charts import Chart, Charts, Curve, Reaching
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.page import charts_of, to_page
from support.report_hostile import HOSTILE, hostile_report
from support.report_model import NOW, some_report

MAY_HOLD_LINKS = {"href", "xlink:href", "src", "action", "data", "poster", "srcset"}
VOID = {"meta", "br", "link", "img", "input", "hr"}
DAY = 86400.0


class Page(HTMLParser):
    """What is in a page: (name, attributes, text inside) of every element, and which were never closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self.feed(page)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said: list[str] = []
        self.elements.append((tag, dict(attrs), said))
        if tag not in VOID:
            self._open.append((tag, said))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1][0] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for _, said in self._open:
            said.append(data)

    def all(self, *names: str) -> list[tuple[str, dict[str, str | None], str]]:
        return [(name, found, "".join(said)) for name, found, said in self.elements if name in names]


@pytest.fixture(scope="module")
def page() -> str:
    return to_page(some_report(4))


def test_nothing_is_asked_of_a_network_and_nothing_runs(page: str) -> None:
    parsed = Page(page)
    (policy,) = [found for _, found, _ in parsed.all("meta") if found.get("http-equiv") == "Content-Security-Policy"]
    assert (policy["content"] or "").startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert not parsed.all("script", "link", "iframe", "object", "embed", "base", "form", "img")
    for name, attributes, _ in parsed.elements:
        assert not [key for key in attributes if key.startswith("on")], name
        for key in MAY_HOLD_LINKS & attributes.keys():
            assert (attributes[key] or "").startswith("#"), (name, attributes)
    assert not re.search(r"url\((?!#)|@import", page)


def test_structure_for_keyboard_and_screen_reader(page: str) -> None:
    parsed = Page(page)
    ids = [found["id"] for _, found, _ in parsed.elements if "id" in found]
    assert len(ids) == len(set(ids))
    for _, found, _ in parsed.elements:
        for key in ("href", "xlink:href"):
            assert not found.get(key) or (found[key] or "")[1:] in ids, found
        for label in (found.get("aria-labelledby") or "").split():
            assert label in ids
    assert [name for name, _, _ in parsed.all("header", "main", "footer")] == ["header", "main", "footer"]
    levels = [int(name[1]) for name, _, _ in parsed.all("h1", "h2", "h3", "h4", "h5")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    assert all(said.strip() for _, _, said in parsed.all("caption"))
    assert all(found.get("scope") in ("col", "row") for _, found, _ in parsed.all("th"))
    charts = parsed.all("svg")
    assert charts
    for _, found, said in charts:
        assert found["role"] == "img" and said
    for name in ("title", "desc"):
        assert len([said for _, _, said in parsed.all(name) if said]) >= len(charts)
    summaries = [said for _, _, said in parsed.all("summary")]
    assert len([said for said in summaries if said.endswith("as a table")]) == len(charts)


def test_it_tells_what_an_operator_asks_first(page: str) -> None:
    said = " ".join(re.sub(r"<[^>]*>", " ", page[page.index("<main") :]).split())
    for line in (
        "✗ Not uniform : 4 agents, 2 releases, 3 differences.",
        "Redeploy first: vocms0201 , /data full on 2026-12-20 (2026-12-11 to 2027-01-04).",
        "vocms0204 unknown not reached: ssh timed out after 10 s",
        "Not reached. What follows is the last known, from 2026-11-22 02:30 UTC.",
        "healthy when last seen",
        "draining , bottleneck upload to DBS , empty in 5.2 h (4.0 h to 8.1 h).",
        "upload to DBS (bottleneck) 15\u202f320".replace("\u202f", " "),
        "Ledger, the last 20 of 52 entries",
        "couchdb wmagent_jobdump/fwjrs not enough data 5 measures since the last step; 8 are needed",
    ):
        assert line in said, line
    # The fleet comes first, then the table, then each agent, the rollouts last.
    headings = [text for _, _, text in Page(page).all("h2")]
    assert headings == ["Fleet", "Agents", "Each agent", "Rollouts"]
    not_reached = page[page.index('<h3 id="a4"') :]
    assert "✓" not in not_reached[: not_reached.index("</article>")]


def test_what_tries_to_be_markup_is_text() -> None:
    parsed = Page(to_page(hostile_report()))
    assert not parsed.all("script", "img")
    assert not [found for _, found, _ in parsed.elements if any(key.startswith("on") for key in found)]
    texts = ["".join(said) for _, _, said in parsed.elements]
    assert len([text for text in texts if text == HOSTILE]) > 15
    assert not [text for text in texts if " 49 " in text]


def test_a_fleet_that_never_told_anything() -> None:
    report: Any = some_report(1, weeks=1)
    agent = report["agents"][0]
    agent |= {"reached": False, "seen_at": None, "release": None, "digest": None, "verdict": None, "drain": None}
    agent |= {name: [] for name in ("disks", "sizes", "cleanups", "forecast", "ledger", "reasons")}
    agent |= {"drift": {"count": None, "kinds": {}, "examples": []}}
    report |= {"redeploy_first": None, "rollouts": [], "agents": [agent]}
    said = to_page(report)
    assert "no time at all: it never told anything" in said
    assert "no agent's day is known" in said or "no agent&#39;s day is known" in said
    assert "not looked at" in said and "not enough data" in said
    assert "<svg" not in said
    assert "✓" not in said[said.index('id="agents"') :]


def test_half_a_year_of_twenty_agents_is_small_and_quick() -> None:
    report = some_report(20)
    began = time.process_time()
    made = to_page(report)
    took = time.process_time() - began
    assert len(made.encode()) < 3_000_000
    assert took < 10, f"{took:.1f} s of CPU"


def test_the_same_report_gives_the_same_page() -> None:
    report = some_report(1, weeks=4)
    assert to_page(report) == to_page(report)


def test_a_disk_s_chart_has_limit_forecast_and_cleanups_and_a_database_s_has_no_limit() -> None:
    agent = some_report(1)["agents"][0]
    data, root, databases, parts = charts_of(agent, 0.85)
    assert data.limit == pytest.approx(595e9)
    assert data.reaching == Reaching("2026-12-20", "2026-12-11", "2027-01-04")
    assert root.reaching is None and root.limit == pytest.approx(34e9)
    assert databases.limit is None and databases.cleanups == agent["cleanups"]
    assert parts.title == "Tables and views: the 6 largest of 7"


@pytest.mark.parametrize(
    "reaching",
    [
        Reaching("2026-12-20", "2026-12-11", None),
        Reaching("2126-12-20", "2126-12-11", "2226-01-01"),
        Reaching("2020-01-01", "2020-01-01", "2020-01-01"),
        Reaching("2026-11-25", "2026-11-25", "2026-11-25"),
    ],
)
@pytest.mark.parametrize("points", [[[NOW.timestamp(), 5e9]], [[NOW.timestamp() - DAY * at, 5e9] for at in (9, 1, 0)]])
def test_any_forecast_and_any_number_of_points_can_be_drawn(reaching: Reaching, points: list[list[float]]) -> None:
    svg = Charts().draw(Chart("k", "t", "d", [Curve("_x $y$", points)], [NOW.timestamp()], 6e9, reaching))
    assert svg.startswith("<svg") and "nan" not in svg
    assert "var(--line1)" in svg and "var(--limit)" in svg and "var(--range)" in svg and "var(--cleanup)" in svg
    assert not re.search(r"#0[1-6]0\d0", svg)


def test_a_missing_matplotlib_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(WMAgentError, match="a page with charts needs matplotlib on the controller") as error:
        to_page(some_report(1, weeks=1))
    assert "\n" not in str(error.value)
