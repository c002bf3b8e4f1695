# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain-text tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

WIDEST = 88
"""Characters after which a cell is wrapped."""


def text_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Lines of a table: header, rule, one line for each row. ``None`` and missing cells are shown as ``-``.

    A cell that is a list takes a line for each of its items; long ones are wrapped.
    """
    body: list[list[str]] = []
    for row in rows:
        cells = [_lines(row.get(column)) for column in columns]
        for index in range(max(len(cell) for cell in cells)):
            body.append([cell[index] if index < len(cell) else "" for cell in cells])
    widths = [
        max(len(column), *(len(line[i]) for line in body)) if body else len(column) for i, column in enumerate(columns)
    ]
    header = "  ".join(column.ljust(width) for column, width in zip(columns, widths, strict=True)).rstrip()
    rule = "  ".join("-" * width for width in widths)
    return [header, rule, *("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in body)]


def _lines(value: Any) -> list[str]:
    if value is None or value == []:
        return ["-"]
    if isinstance(value, float):
        return [f"{value:.2f}"]
    items = value if isinstance(value, (list, tuple)) else [value]
    return [line for item in items for line in textwrap.wrap(str(item), WIDEST, subsequent_indent="  ") or [""]]


def human_bytes(count: float | None) -> str:
    """``1.5 MiB``; ``-`` for None."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")
