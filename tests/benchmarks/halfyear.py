# SPDX-License-Identifier: GPL-3.0-or-later
"""Half a year of an agent at accelerated time, with the scheduled cleanup and without: how full its disk gets.

``python -m tests.benchmarks.halfyear`` (``make bench-halfyear``). BENCH_WEEKS (26) without, BENCH_LONG (52) with, for
each of BENCH_RETENTIONS (``14``, days: the role's default); BENCH_WORKFLOWS
(20) arrive each week. COUCHDB_URL names the CouchDB; without one it is the lab's stand-in, and the rows say so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests"), str(ROOT)]

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction import Compaction  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import USUAL_RULES  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, read_database  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.disk_space import disks_of  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_guard import make_guard  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.tombstones import (  # noqa: E402
    Progress,
    purge_tombstones,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.cleanup import Cleanup, Request  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.eligibility import Rules  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits  # noqa: E402
from ansible_collections.dmwm.wmagent.plugins.module_utils._rollout.table import text_table  # noqa: E402
from support.couch_servers import KINDS, couch_server  # noqa: E402
from support.dbsbuffer.schema import create_mariadb  # noqa: E402

from tests.benchmarks import halfyear_work as work  # noqa: E402
from tests.benchmarks.couchdb_data import server_version  # noqa: E402
from tests.benchmarks.rows import Row, keep, show, versions  # noqa: E402

WEEKS = int(os.environ.get("BENCH_WEEKS", "26"))
LONG = int(os.environ.get("BENCH_LONG", "52"))
RETENTIONS = [int(days) for days in os.environ.get("BENCH_RETENTIONS", "14").split()]
THRESHOLD = 0.85
MONTHS_3 = 13
"""The week in which agents are wiped today, since their disks are full: the disk is as large as that makes it."""
LEVEL_WEEK = 4
_MIB = 1024 * 1024
_SMALLER = 100
"""Sizes are about a hundredth of production's, so what makes a compaction worth it is, too."""
COMPACTION = replace(
    USUAL_RULES,
    minimum_gain=USUAL_RULES.minimum_gain // _SMALLER,
    large_gain=USUAL_RULES.large_gain // _SMALLER,
    minimum_free=0,
)


@dataclass(frozen=True)
class Week:
    """Bytes on disk at the end of a week, after its cleanup. seconds: that the cleanup took."""

    week: int
    database: int
    couchdb: int
    views: int
    rows: int
    tombstones: int
    seconds: float

    @property
    def total(self) -> int:
        """Bytes of all."""
        return self.database + self.couchdb + self.views


@contextmanager
def agent() -> Iterator[tuple[MariaDBServer, CouchClient, tuple[str, ...]]]:
    """A new agent's MariaDB and its jobdump databases."""
    with tempfile.TemporaryDirectory(prefix="wmagent-halfyear-") as folder, couch_server(KINDS[-1]) as settings:
        client = CouchClient(settings, 600)
        server = MariaDBServer(Path(folder), options=("--innodb-buffer-pool-size=1G",))
        server.start()
        names: tuple[str, ...] = ()
        try:
            create_mariadb(server.settings())
            with connect(server.settings(), read_only=False) as connection:
                work.prepare_database(connection)
            names = work.prepare_couchdb(client, f"halfyear{os.getpid()}_{time.time_ns()}")
            yield server, client, names
        finally:
            for name in names:
                client.delete(path_of(name))
            server.stop(kill=True)


def live(weeks: int, retention: int | None) -> list[Week]:
    """So many weeks of one agent. retention: of its cleanup, days; None for no cleanup."""
    found = []
    with agent() as (server, client, names):
        for week in range(weeks):
            with connect(server.settings(), read_only=False, statement_timeout=600) as connection:
                work.work_in_database(connection, week)
            work.work_in_couchdb(client, names, week)
            began = time.monotonic()
            if retention is not None:
                clean(server, client, names, week, retention)
            found.append(measure(server, client, names, week, time.monotonic() - began))
            last = found[-1]
            print(
                f"{name_of(retention)}, week {week + 1:2d}: {last.total / _MIB:7.1f} MiB "
                f"(MariaDB {last.database / _MIB:.1f}, CouchDB {last.couchdb / _MIB:.1f}, views "
                f"{last.views / _MIB:.1f}), {last.rows} files, {last.tombstones} tombstones, {last.seconds:.1f} s",
                flush=True,
            )
    return found


def name_of(retention: int | None) -> str:
    """Of one run."""
    return "no cleanup" if retention is None else f"weekly cleanup, retention {retention} d"


def clean(server: MariaDBServer, client: CouchClient, names: Sequence[str], week: int, retention: int) -> None:
    """What the role cleanup does while the agent works, at the simulated time."""
    now = work.BEGIN + (week + 1) * work.WEEK
    cleanup = Cleanup(server.settings(), Request(Rules(now=now, retention=retention * 86_400)), lambda text: None)
    cleanup.look()
    if cleanup.due:
        cleanup.run()
    for name in names:
        progress = Progress(name)
        purge_tombstones(client, progress, make_guard(client, name, 0, 30), 0, Limits(None, None, None), 2, 1)
    compaction = Compaction(
        client, list(names), COMPACTION, Limits(None, None, None), lambda: disks_of(client, None, 1 << 40)
    )
    compaction.look()
    compaction.run()


def measure(server: MariaDBServer, client: CouchClient, names: Sequence[str], week: int, seconds: float) -> Week:
    """Bytes of the tables' files and of CouchDB's, as they are on disk."""
    with connect(server.settings()) as connection:
        (rows,) = connection.query("SELECT COUNT(*) FROM dbsbuffer_file")[0]
        (name,) = connection.query("SELECT DATABASE()")[0]
    files = (server.folder / "data" / str(name)).glob("*.ibd")
    databases = [read_database(client, one) for one in names]
    return Week(
        week,
        sum(file.stat().st_size for file in files),
        sum(one.sizes.file for one in databases),
        sum(view.sizes.file for one in databases for view in one.views),
        int(rows),
        sum(int(client.get(path_of(one))["doc_del_count"]) for one in names),
        seconds,
    )


def full_in(weeks: Sequence[Week], disk: float) -> int | None:
    """The first week, from 1, in which 85 % of a disk are used."""
    return next((one.week + 1 for one in weeks if one.total >= THRESHOLD * disk), None)


def rows_of(without: Sequence[Week], cleaned: Mapping[int, Sequence[Week]], used: dict[str, str]) -> list[Row]:
    """What is to be reached, and what was."""
    disk = disk_of(without)
    first, last = (max(one.total for one in part) for part in (quarter(without, 0), quarter(without, 3)))
    note = f"{work.WORKFLOWS} workflows a week; disk {disk / _MIB:.0f} MiB"
    rows = [
        Row("half a year, no cleanup: most in the last quarter against the first", "MiB", last / _MIB, first / _MIB,
            last / first, "grows with the work", last > 2 * first, 1, used, note)
    ]  # fmt: skip
    for retention, weeks in cleaned.items():
        level, worst = weeks[LEVEL_WEEK - 1].total, max(one.total for one in weeks[LEVEL_WEEK:])
        full = full_in(weeks, disk)
        name = f"half a year, {name_of(retention)}"
        rows += [
            Row(f"{name}: most after week {LEVEL_WEEK} against week {LEVEL_WEEK}", "MiB", worst / _MIB, level / _MIB,
                worst / level, "≤ 1.25 ×", worst <= 1.25 * level, 1, used, note),
            Row(f"{name}: week of {len(weeks)} in which 85 % are used (0: none), against no cleanup", "", full or 0,
                full_in(without, disk), None, "in none", full is None, 1, used, note),
        ]  # fmt: skip
    return rows


def disk_of(without: Sequence[Week]) -> float:
    """Bytes of a disk of which 85 % are used when agents are wiped today."""
    return without[min(MONTHS_3, len(without)) - 1].total / THRESHOLD


def quarter(weeks: Sequence[Week], number: int) -> Sequence[Week]:
    """A quarter of some weeks, from 0; never empty."""
    each = max(1, len(weeks) // 4)
    return weeks[number * each :][:each] or weeks[-1:]


def draw(without: Sequence[Week], cleaned: Mapping[int, Sequence[Week]], file: Path) -> None:
    """The curves, and where a disk counts as full."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "halfyear"
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    styles = ("-", "--", ":")
    for style, (retention, weeks) in zip(styles, [(None, without), *cleaned.items()], strict=False):
        axes.plot([one.week + 1 for one in weeks], [one.total / _MIB for one in weeks], style, label=name_of(retention))
    axes.axhline(THRESHOLD * disk_of(without) / _MIB, color="grey", linewidth=0.8)
    axes.text(1, THRESHOLD * disk_of(without) / _MIB, " 85 % of the disk", va="bottom", fontsize=8)
    axes.set(xlabel="week", ylabel="MiB on disk", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(file, metadata={"Date": None})


def main() -> int:
    """All runs, the table, the chart, the figures for docs/results."""
    without = live(WEEKS, None)
    cleaned = {retention: live(LONG, retention) for retention in RETENTIONS}
    told = subprocess.run(["mariadbd", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    with couch_server(KINDS[-1]) as settings:
        used = versions(mariadb=told, **server_version(CouchClient(settings, 60)))
    rows = rows_of(without, cleaned, used)
    keep(rows, ROOT / "build" / "bench.json")
    draw(without, cleaned, ROOT / "build" / "halfyear.svg")
    runs: dict[int | None, Sequence[Week]] = {None: without, **cleaned}
    table = []
    for week in sorted({1, 2, 4, 8, 13, 20, 26, 39, 52} & set(range(1, max(LONG, WEEKS) + 1))):
        found = {name_of(key): weeks[week - 1].total if week <= len(weeks) else None for key, weeks in runs.items()}
        table.append({"week": week} | {name: total and f"{total / _MIB:.1f} MiB" for name, total in found.items()})
    lines = ["", *text_table(table, ["week", *map(name_of, runs)]), "", *show(rows), ""]
    print("\n".join([*lines, "kept in build/bench.json, chart in build/halfyear.svg"]))
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
