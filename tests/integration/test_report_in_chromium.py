# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's page as Chromium shows it: on a phone, on a screen, in the dark, on paper, to a screen reader."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._report.page import to_page
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page
from support import chromium
from support.report_hostile import hostile_report
from support.report_model import some_report

WIDTHS = (360, 1280)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.browser() as started:
        yield started


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(to_page(some_report(4)), encoding="utf-8")
    return folder / "report.html"


def opened(browser: Browser, file: Path, width: int, scheme: Any = "light") -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(chromium.SECONDS * 1000)
    page.goto(file.as_uri())
    return page


def picture(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def mean(image: Image.Image) -> float:
    """0 (black) to 255 (white)."""
    grey = image.convert("L").histogram()
    return sum(level * count for level, count in enumerate(grey)) / sum(grey)


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_shows_something_and_the_dark_is_dark(browser: Browser, file: Path, width: int) -> None:
    shown = {}
    for scheme in ("light", "dark"):
        page = opened(browser, file, width, scheme)
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        page.evaluate("document.querySelector('svg').scrollIntoView()")
        shown[scheme] = picture(page)
        curve = page.evaluate(
            "getComputedStyle([...document.querySelectorAll('svg path')].find("
            "one => one.getAttribute('style')?.includes('--line1'))).stroke"
        )
        shown[f"{scheme} curve"] = curve
        page.close()
    for scheme in ("light", "dark"):
        assert shown[scheme].size == (width, 900)
        assert len(shown[scheme].getcolors(1 << 24)) > 50
    assert mean(shown["light"]) > 200 and mean(shown["dark"]) < 80
    assert shown["light curve"] != shown["dark curve"]


def test_charts_are_as_wide_as_a_phone_and_their_text_can_be_read(browser: Browser, file: Path) -> None:
    page = opened(browser, file, 360)
    box = page.locator("svg").first.bounding_box()
    assert box and box["x"] >= 0 and 300 < box["width"] <= 360
    assert page.evaluate("document.querySelector('svg text').getBoundingClientRect().height") > 9
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_axe_finds_nothing(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    report = some_report(4, weeks=2)
    # One that drains and one that is not reached, the first table and the first ledger: axe takes its time.
    report["agents"] = [report["agents"][1], report["agents"][3]]
    file = tmp_path / "report.html"
    file.write_text(to_page(report), encoding="utf-8")
    page = opened(browser, file, width, scheme)
    page.evaluate(
        "document.querySelectorAll('figure:first-child details, .agent > details').forEach(o => o.open = true)"
    )
    found = Axe().run(page)
    page.close()
    assert not found.response["violations"], found.generate_report()
    assert {"color-contrast", "svg-img-alt", "heading-order"} <= {one["id"] for one in found.response["passes"]}


def test_the_keyboard_gets_everywhere_and_is_seen(browser: Browser, file: Path) -> None:
    page = opened(browser, file, 1280)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate("document.activeElement.tagName") == "A" and page.evaluate(outline) == "solid"
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open")
    page.close()


def test_on_paper_it_is_light_and_the_ledger_is_there(browser: Browser, file: Path) -> None:
    page = opened(browser, file, 800, "dark")
    page.emulate_media(media="print")
    assert mean(picture(page)) > 200
    ledger = page.locator("details:has-text('Ledger of vocms0201') table").first.bounding_box()
    assert ledger and ledger["height"] > 100
    assert not page.locator("figure details").first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


def test_it_asks_no_network_and_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(to_page(hostile_report()), encoding="utf-8")
    page = browser.new_page(viewport={"width": 360, "height": 900})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.goto(file.as_uri())
    assert asked == [file.as_uri()]
    assert said == []
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    page.close()


def test_a_missing_browser_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(FileNotFoundError, match="chromium not found; `make setup` installs it"), chromium.browser():
        pass
