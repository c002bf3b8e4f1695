# SPDX-License-Identifier: GPL-3.0-or-later
"""Size curves as SVG for a page: what was measured, cleanups, the threshold, and the range of the forecast.

matplotlib draws; it is imported only when a page is made. Its colours become CSS variables, so that a page's dark mode
and its print have theirs, and its ids get a prefix, so that a page may hold many charts.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from xml.etree import ElementTree

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

DAY = 86400.0
WIDTH, HEIGHT = 6.4, 2.7
"""Inches at 72 points; the page scales it."""
LINES = 6
"""More curves than that in one chart nobody tells apart; each has a dash and a marker of its own."""

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_COLOURS = {"#010101": "ink", "#020202": "grid", "#030303": "limit", "#040404": "range", "#050505": "cleanup"}
_COLOURS |= {f"#06060{number}": f"line{number}" for number in range(1, LINES + 1)}
_INK, _GRID, _LIMIT, _RANGE, _CLEANUP = list(_COLOURS)[:5]
_LINE = [colour for colour in _COLOURS if colour.startswith("#06")]
_DASHES = ("-", "--", "-.", ":", (0, (8, 2, 1, 2, 1, 2)), (0, (1, 4)))
_MARKERS = ("o", "s", "^", "D", "v", "x")
_FONT = re.compile(r"font[^:;]*:[^;]*;\s*")
_DECIMALS = re.compile(r"(\d\.\d)\d+")
_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, and it scales with the reader's font
    "text.parse_math": False,  # a name with two $ is a name
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.unicode_minus": False,
    "path.simplify": True,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "legend.labelcolor": _INK,
    "savefig.transparent": True,
}


@dataclass(frozen=True)
class Curve:
    """points: [UNIX seconds, bytes], by time."""

    name: str
    points: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Reaching:
    """When a curve reaches the limit: ISO days; latest None where it may never."""

    day: str
    soonest: str
    latest: str | None


@dataclass(frozen=True)
class Chart:
    """key: unique in a page, letters, digits and dashes. limit: bytes; cleanups: UNIX seconds."""

    key: str
    title: str
    description: str
    curves: Sequence[Curve]
    cleanups: Sequence[float] = ()
    limit: float | None = None
    reaching: Reaching | None = None


class Charts:
    """Draws charts, one after the other, on one pair of axes: making them anew for each takes most of the time.

    Raises WMAgentError where matplotlib is missing.
    """

    def __init__(self) -> None:
        try:
            import matplotlib
            from matplotlib.backends.backend_svg import FigureCanvasSVG
            from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
            from matplotlib.figure import Figure
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise WMAgentError(
                f"a page with charts needs matplotlib on the controller ({error}); install it, or leave out html"
            ) from None
        self._context = matplotlib.rc_context
        with self._context(_SETTINGS):
            self._figure = Figure(figsize=(WIDTH, HEIGHT))
            FigureCanvasSVG(self._figure)
            axes = self._axes = self._figure.add_axes((0.1, 0.12, 0.88, 0.78))
            axes.xaxis_date()
            locator = AutoDateLocator(minticks=3, maxticks=6)
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.grid(axis="y", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
            self._unit = axes.text(0.0, 1.04, "", transform=axes.transAxes, ha="right", va="bottom")

    def draw(self, chart: Chart) -> str:
        """One ``<svg>`` element, with role, title and description."""
        with self._context({**_SETTINGS, "svg.hashsalt": chart.key}):
            for artist in [*self._axes.lines, *self._axes.collections]:
                artist.remove()
            for number, curve in enumerate(chart.curves[:LINES]):
                self._curve(number, curve, alone=len(chart.curves) == 1)
            top = 1.12 * max([chart.limit or 0, 1, *(value for curve in chart.curves for _, value in curve.points)])
            self._axes.set_ylim(0, top)
            self._marks(chart, top)
            factor, unit = _unit(top)
            self._axes.yaxis.set_major_formatter(lambda value, _: f"{value / factor:g}")
            self._unit.set_text(unit)
            written = io.StringIO()
            self._figure.savefig(written, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        return _embedded(written.getvalue(), chart)

    def _line(self, times: Sequence[float], values: Sequence[float], colour: str, **style: Any) -> None:
        from matplotlib.lines import Line2D

        # matplotlib's days count from 1970, too. add_line's autoscaling is not needed.
        line = Line2D([time / DAY for time in times], values, color=colour, **style)
        self._axes.add_artist(line)

    def _curve(self, number: int, curve: Curve, *, alone: bool) -> None:
        times, values = [time for time, _ in curve.points], [value for _, value in curve.points]
        marker = "" if alone and len(times) > 1 else _MARKERS[number]
        every = max(1, len(times) // 8)
        style = {"linestyle": _DASHES[number], "linewidth": 1.8, "marker": marker, "markevery": every, "markersize": 4}
        self._line(times, values, _LINE[number], **style)

    def _marks(self, chart: Chart, top: float) -> None:
        """Cleanups, threshold, forecast, and with them from when to when the chart goes."""
        times = [time for curve in chart.curves for time, _ in curve.points]
        first, last = min(times), max(times)
        if cleanups := [time for time in chart.cleanups if first <= time <= last]:
            self._axes.vlines([time / DAY for time in cleanups], 0, top, colors=_CLEANUP, linewidth=0.5, linestyle=":")
            style = {"linestyle": "", "marker": "P", "markersize": 6, "clip_on": False, "zorder": 5}
            self._line(cleanups, [0] * len(cleanups), _CLEANUP, **style)
        end = last
        if chart.limit is not None and chart.reaching:
            reach = max(last - first, 7 * DAY)
            end = self._range(chart.reaching, chart.limit, chart.curves[0].points[-1], reach)
        margin = max((end - first) * 0.02, DAY / 24)
        if chart.limit is not None:
            self._line([first - margin, end + margin], [chart.limit] * 2, _LIMIT, linewidth=1.4, linestyle="--")
        self._axes.set_xlim((first - margin) / DAY, (end + margin) / DAY)

    def _range(self, reaching: Reaching, limit: float, start: Sequence[float], reach: float) -> float:
        """From the last measure to the limit, at most 1.5 times as far ahead as was measured; returns where it ends."""
        time, value = start
        horizon = time + 1.5 * reach
        day, soonest = max(_seconds(reaching.day), time + 1), max(_seconds(reaching.soonest), time + 1)
        latest = max(_seconds(reaching.latest), day) if reaching.latest else None
        end = min(latest or horizon, horizon)

        def at(moment: float, full: float | None) -> float:
            return value if full is None else min(limit, value + (limit - value) * (moment - time) / (full - time))

        steps = sorted({time, min(soonest, end), min(day, end), end})
        self._axes.fill_between(
            [step / DAY for step in steps],
            [at(step, latest) for step in steps],
            [at(step, soonest) for step in steps],
            color=_RANGE,
            alpha=0.3,
            linewidth=0,
        )
        reached = min(day, end)
        self._line([time, reached], [value, at(reached, day)], _LIMIT, linewidth=1.2, linestyle=":")
        if day <= end:
            self._line([day], [limit], _LIMIT, marker="X", markersize=7, zorder=6)
        return end


def legend(chart: Chart) -> list[tuple[str, str, str]]:
    """(CSS name of the colour, sign, words) of everything that is in the chart."""
    signs = dict(zip(_MARKERS, ("●", "■", "▲", "◆", "▼", "✕"), strict=True))
    alone = len(chart.curves) == 1
    found = [
        (f"line{number + 1}", "━" if alone else signs[_MARKERS[number]], curve.name)
        for number, curve in enumerate(chart.curves[:LINES])
    ]
    times = [time for curve in chart.curves for time, _ in curve.points]
    if any(min(times) <= time <= max(times) for time in chart.cleanups):
        found.append(("cleanup", "✚", "cleanup"))
    if chart.limit is not None:
        found.append(("limit", "╌", "threshold"))
        if chart.reaching:
            found += [("limit", "✖", "expected full"), ("range", "▰", "soonest to latest")]
    return found


def _embedded(svg: str, chart: Chart) -> str:
    """matplotlib's file as one element of a page."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg[svg.index("<svg") :])  # noqa: S314 - matplotlib wrote it just now
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
            elif child.tag == f"{{{_SVG}}}text":
                child.set("style", _FONT.sub("", child.get("style", "")))  # the page's CSS has one for all
    _rename_ids(root, chart.key)
    _shorter(root)
    title, description = (ElementTree.Element(f"{{{_SVG}}}{name}") for name in ("title", "desc"))
    title.set("id", f"{chart.key}-title")
    title.text = chart.title
    description.set("id", f"{chart.key}-desc")
    description.text = chart.description
    root.insert(0, title)
    root.insert(1, description)
    root.attrib |= {"role": "img", "aria-labelledby": f"{chart.key}-title {chart.key}-desc", "class": "chart"}
    text = ElementTree.tostring(root, encoding="unicode")
    for colour, name in _COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return re.sub(r">\s*\n\s*<", "><", text)


def _shorter(root: ElementTree.Element) -> None:
    """A tenth of a point is finer than any screen."""
    for one in root.iter():
        for name in ("d", "x", "y", "transform"):
            if name in one.attrib:
                one.set(name, " ".join(_DECIMALS.sub(r"\1", one.attrib[name]).split()))


def _rename_ids(root: ElementTree.Element, key: str) -> None:
    links = {value for one in root.iter() for value in _links(one.attrib)}
    for one in root.iter():
        if (name := one.attrib.pop("id", None)) in links:
            one.set("id", f"{key}-{name}")
        for attribute in ("clip-path", f"{{{_XLINK}}}href"):
            if attribute in one.attrib:
                one.set(attribute, one.attrib[attribute].replace("#", f"#{key}-", 1))


def _links(attributes: Mapping[str, str]) -> Iterable[str]:
    for attribute in ("clip-path", f"{{{_XLINK}}}href"):
        yield from re.findall(r"#([^)]+)", attributes.get(attribute, ""))


def _unit(top: float) -> tuple[float, str]:
    power = min(max(int(math.log10(top) // 3), 0), 4)
    return 1000.0**power, ("B", "kB", "MB", "GB", "TB")[power]


def _seconds(day: str) -> float:
    found = date.fromisoformat(day)
    return datetime(found.year, found.month, found.day, 12, tzinfo=UTC).timestamp()
