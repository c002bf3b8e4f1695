# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure: python -m tests.benchmarks [--only WORD]. Exit code 1 where a figure does not reach what it must."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests"), str(ROOT)]

from tests.benchmarks import couchdb, dbsbuffer, drain, upgrade  # noqa: E402 - the paths above come first
from tests.benchmarks.rows import Benchmark, keep, show  # noqa: E402

BENCHMARKS: dict[str, Benchmark] = {
    **upgrade.BENCHMARKS,
    **dbsbuffer.BENCHMARKS,
    **couchdb.BENCHMARKS,
    **drain.BENCHMARKS,
}


def main() -> int:
    """Run what was asked for, print the table, keep it in build/bench.json."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", default="", help="run benchmarks whose name has this word")
    wanted = parser.parse_args().only
    chosen = {name: run for name, run in BENCHMARKS.items() if wanted in name}
    if not chosen:
        print(f"no benchmark has {wanted!r} in its name; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    rows = []
    for name, run in chosen.items():
        print(f"bench: {name}", flush=True)
        rows += run()
    keep(rows, ROOT / "build" / "bench.json")
    print("\n".join(["", *show(rows), "", "kept in build/bench.json"]))
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
