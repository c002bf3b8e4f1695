# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark row is, and how rows are printed and kept."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._rollout.table import text_table


def machine() -> str:
    """Processor, cores, memory and system of this machine."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "?")
    memory = int(Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]) // 1024**2
    return f"{model}, {info.count('processor	:')} cores, {memory} GiB, {platform.system()} {platform.release()}"


def versions(**more: str) -> dict[str, str]:
    """Versions that a figure depends on."""
    return {"python": platform.python_version(), "ansible-core": version("ansible-core"), **more}


@dataclass(frozen=True)
class Row:
    """One measured line of a table of figures.

    name:    as in the table
    ours, against: medians, in ``unit``
    ratio:   ours / against, None where there is nothing to compare with
    reach:   what is to be reached, in words
    ok:      whether it was
    n:       how many runs each median is of
    """

    name: str
    unit: str
    ours: float
    against: float | None
    ratio: float | None
    reach: str
    ok: bool
    n: int
    versions: dict[str, str]
    note: str = ""
    machine: str = field(default_factory=machine)
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d"))


def compared(
    name: str,
    unit: str,
    ours: Sequence[float],
    against: Sequence[float],
    limit: float,
    used: dict[str, str],
    note: str = "",
    reach: str = "",
) -> Row:
    """A row whose ratio of medians must be at most ``limit``."""
    a, b = statistics.median(ours), statistics.median(against)
    ratio = a / b
    return Row(name, unit, a, b, ratio, reach or f"≤ {limit:.3g} ×", ratio <= limit, len(ours), used, note)


def show(rows: Iterable[Row]) -> list[str]:
    """The rows as a table for a terminal."""
    cells: list[dict[str, Any]] = [
        {
            "name": row.name,
            "ours": f"{row.ours:.4g} {row.unit}",
            "against": "-" if row.against is None else f"{row.against:.4g} {row.unit}",
            "ratio": "-" if row.ratio is None else f"{row.ratio:.3g}",
            "reach": row.reach,
            "ok": "yes" if row.ok else "NO",
            "n": row.n,
        }
        for row in rows
    ]
    return text_table(cells, ["name", "ours", "against", "ratio", "reach", "ok", "n"])


def keep(rows: Sequence[Row], file: Path) -> None:
    """Write the rows; rows of an earlier run that were not measured again stay."""
    file.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    new = {row.name for row in rows}
    kept = [entry for entry in old if entry["name"] not in new]
    file.write_text(
        json.dumps(kept + [asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


Benchmark = Callable[[], list[Row]]
