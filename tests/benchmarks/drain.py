# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading all signals of a large agent's database (BENCH_FILES files in DBSBuffer, a tenth as many jobs in WMBS)."""

from __future__ import annotations

import os
import statistics
import subprocess
import time

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.throwaway import MariaDBServer
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import signals_database

from tests.benchmarks.dbsbuffer_data import FILES, fresh, session
from tests.benchmarks.rows import Benchmark, Row, versions

RUNS = int(os.environ.get("BENCH_RUNS", "3"))
JOBS = FILES // 10
_LEFT = 0.02
"""Share of the files that DBS or Rucio has not got yet."""


def add_work(server: MariaDBServer) -> None:
    """Jobs in every state, all with one that runs in BossAir, and files that are not registered yet."""
    with session(server, read_only=False) as connection:
        owner = connection.query("SELECT MIN(id) FROM wmbs_users")[0][0]
        if owner is None:
            connection.execute(
                "INSERT INTO wmbs_users (id, cert_dn, name_hn, owner, grp, group_name, role_name) "
                "VALUES (1, 'd', 'n', 'o', 'g', 'g', 'r')"
            )
            owner = 1
        kind = connection.query("SELECT MIN(id) FROM wmbs_sub_types")[0][0]
        for statement in (
            "INSERT INTO wm_components (id, name, pid, update_threshold) VALUES (1, 'DBS3Upload', 1, 1)",
            "INSERT INTO wmbs_fileset (id, name, last_update) VALUES (900000, 'bench', 0)",
            "INSERT INTO wmbs_workflow (id, spec, name, task, owner, alt_fs_close, injected) "
            f"SELECT 900000 + seq, 's', CONCAT('bench', seq), '/t', {owner}, 0, 1 FROM seq_1_to_50",
            "INSERT INTO wmbs_subscription (id, fileset, workflow, split_algo, subtype, last_update, finished) "
            f"SELECT 900000 + seq, 900000, 900000 + seq, 'FileBased', {kind}, 0, 0 FROM seq_1_to_50",
            "INSERT INTO wmbs_jobgroup (id, subscription, guid, last_update) "
            "SELECT 900000 + seq, 900000 + seq, CONCAT('g', seq), 0 FROM seq_1_to_50",
            "INSERT INTO wmbs_job (id, jobgroup, name, state, state_time) SELECT 9000000 + seq, 900001 + seq % 50, "
            "CONCAT('bench', seq), (SELECT MIN(id) FROM wmbs_job_state) + seq % 10, seq FROM "
            f"seq_1_to_{JOBS}",
            "INSERT INTO bl_status (id, name) VALUES (900000, 'Running')",
            "INSERT INTO bl_runjob (wmbs_id, status, sched_status, retry_count, status_time) "
            f"SELECT 9000000 + seq, '1', 900000, 0, seq FROM seq_1_to_{JOBS}",
            f"UPDATE dbsbuffer_file SET in_phedex = 0 WHERE id % 100 < {round(100 * _LEFT)}",
            "ANALYZE TABLE dbsbuffer_file, wmbs_job, bl_runjob",
        ):
            connection.execute(statement)


def reading() -> list[Row]:
    """Seconds of reading every signal of the database, the connection included."""
    with fresh(FILES) as server:
        add_work(server)
        seconds = []
        for _ in range(RUNS + 1):
            started = time.perf_counter()
            blockers, names = signals_database.read(lambda: connect(server.settings(), 120))
            seconds.append(time.perf_counter() - started)
            if names is None or not any(one.signal == "files_not_in_rucio" and one.count for one in blockers):
                raise RuntimeError(f"not everything was read: {[one.text for one in blockers if one.text]}")
    told = subprocess.run(["mariadbd", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    used = statistics.median(seconds[1:])  # the first reading fills the server's memory
    note = f"{FILES} files, {JOBS} jobs, {JOBS} BossAir jobs; the first reading took {seconds[0]:.2f} s"
    return [
        Row("drain: reading the database's signals", "s", used, None, None, "< 1 s", used < 1, RUNS,
            versions(mariadb=told), note)
    ]  # fmt: skip


BENCHMARKS: dict[str, Benchmark] = {"drain reading": reading}
