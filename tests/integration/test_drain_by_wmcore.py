# SPDX-License-Identifier: GPL-3.0-or-later
"""drain_info counts what the real DrainStatusAPI of a release counts, on the same databases.

The schema is the one that the release's own ``wmcore-db-init`` makes, on both sides of the one change of schema. Where
docs/drain.md says that upstream is wrong, the difference is shown.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection, connect
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import Blocker
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.central import CentralClient, Certificates
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.condor import Job
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.reading import Sources, read_all
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.signals_workqueue import count_by_state
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from support.certificates import make_certificate
from support.couch_servers import stand_in
from support.dbsbuffer.rows import Block, File, Workflow
from support.drain.central import AGENT, Central, add_elements, central_services, make_queue
from support.drain.database import dbsbuffer, empty
from support.drain.release import ROOT, couchapp, create_tables, database_url, place_release
from support.mariadb import create_database
from wmagent_lab.couch_standin import Couch

pytestmark = pytest.mark.slow

RELEASES = ("2.4.5.9-p1", "2.4.1")
STATUSES = ("Available", "Negotiating", "Acquired", "Running", "Done", "Failed", "CancelRequested", "Canceled")
UPSTREAMS_URL = f"http://{AGENT}:5984"


@dataclass
class Both:
    """One agent's databases, asked by either."""

    connection: Connection
    couch: Couch
    central: Central
    sources: Callable[[list[Job] | None], Sources]
    ask: Callable[[list[Job] | None], dict[str, Any]]

    def blockers(self, jobs: list[Job] | None = None) -> list[Blocker]:
        return read_all(self.sources(jobs)).blockers


@pytest.fixture(scope="module", params=RELEASES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("release")
    prefix = place_release(request.param, folder)
    server = request.getfixturevalue("mariadb_server")
    name = f"drain_{os.getpid()}_{request.param.replace('.', '_').replace('-', '_')}"
    create_database(server, name)
    database = server.settings(name)
    create_tables(prefix, database, folder)
    with ExitStack() as stack:
        couch_settings, couch = stack.enter_context(stand_in())
        central = stack.enter_context(central_services(UserDrainMode=True))
        design = couchapp(prefix, "WorkQueue")
        central.service.couch.answer("DELETE", "/workqueue", None)
        for one, names in ((couch, ("workqueue", "workqueue_inbox")), (central.service.couch, ("workqueue",))):
            for queue in names:
                make_queue(one, queue, design)
        base = f"http://127.0.0.1:{central.port}"
        local = f"http://{couch_settings.user}:{couch_settings.password}@127.0.0.1:{couch_settings.port}"
        program = stack.enter_context(upstream(prefix, database_url(database), folder))

        def jobs_of(jobs: list[Job] | None) -> list[Job]:
            if jobs is None:
                raise WMAgentError("no answer")
            return jobs

        def sources(jobs: list[Job] | None) -> Sources:
            return Sources(
                AGENT,
                lambda: connect(database, 30),
                lambda: CouchClient(couch_settings, 30),
                lambda: CentralClient(f"{base}/couchdb/workqueue", "central", 30, Certificates()),
                lambda: CentralClient(f"{base}/reqmgr2", "ReqMgr2", 30, Certificates()),
                lambda: jobs_of(jobs),
                30,
            )

        def ask(jobs: list[Job] | None) -> dict[str, Any]:
            ads = None
            if jobs is not None:
                words = {1: "Idle", 2: "Running", 5: "Held"}
                ads = [{word: sum(one.status == status for one in jobs) for status, word in words.items()}]
            return program({"host": AGENT, "local": local, "central": f"{base}/couchdb", "jobs": ads})

        with connect(database, 30, read_only=False) as connection:
            yield Both(connection, couch, central, sources, ask)


@contextmanager
def upstream(prefix: Path, url: str, folder: Path) -> Iterator[Callable[[Any], Any]]:
    """The release's class, in a process of its own."""
    log = folder / "upstream.log"
    # WMCore's services ask for a host certificate, which nothing looks at over plain HTTP.
    certificate = str(make_certificate(folder))
    environment = {
        **os.environ,
        "WMCORE_CACHE_DIR": str(folder),
        "X509_HOST_CERT": certificate,
        "X509_HOST_KEY": str(folder / "key.pem"),
        "X509_CERT_DIR": str(folder),
    }
    command = [prefix / "bin/python", "-I", ROOT / "tests/support/wmcore_drain.py", url]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env=environment,
        )

    def ask(request: Any) -> Any:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, log.read_text()[-4000:]
        return json.loads(answer)

    with process:
        yield ask


def clear(both: Both) -> None:
    empty(both.connection)
    for couch, names in ((both.couch, ("workqueue", "workqueue_inbox")), (both.central.service.couch, ("workqueue",))):
        for name in names:
            design = couch.answer("GET", f"/{name}/_design/WorkQueue", None)[1]
            couch.answer("DELETE", f"/{name}", None)
            make_queue(couch, name, {key: value for key, value in design.items() if key != "_rev"})


def total(blockers: list[Blocker], *signals: str) -> int:
    return sum(one.count or 0 for one in blockers if one.signal in signals)


def test_nothing_left(both):
    clear(both)
    assert both.blockers([]) == []
    told = both.ask([])
    assert told["workflows_completed"] is True
    assert told["upload_status"] == {"dbs_open_blocks": 0, "dbs_notuploaded": 0, "phedex_notuploaded": 0}
    assert told["global_wq_status"] == {"Acquired": 0, "Running": 0}


def fill(both: Both, chance: random.Random) -> list[Job]:
    """Something of everything that upstream looks at; without what it leaves out."""
    lfns = ("/store/mc/{}", "/store/unmerged/{}", "MCFakeFile-{}", "/store/BACKFILL/{}", "/store/backfill/{}",
            "/store/user/{}", "/store/data/unMERGED/{}")  # fmt: skip
    workflows = [Workflow(number, f"w{number // 2}", f"/T{number}", chance.randint(0, 1)) for number in range(1, 9)]
    statuses = ("Open", "Pending", "InDBS", "Closed", "Odd")
    blocks = [Block(number, 1, f"/P/E/RAW#{number}", 1, 5, chance.choice(statuses)) for number in range(1, 30)]
    files = [
        File(
            number,
            chance.choice(lfns).format(number),
            1,
            chance.choice([None, *range(1, 30), 99]),
            chance.choice(["NOTUPLOADED", "InDBS", "GLOBAL", None]),
            chance.choice([0, 0, 1]),
            chance.choice([None, *range(1, 9)]),
        )
        for number in range(1, 400)
    ]
    dbsbuffer(both.connection, workflows, blocks, files)
    for couch, name in ((both.couch, "workqueue"), (both.couch, "workqueue_inbox"),
                        (both.central.service.couch, "workqueue")):  # fmt: skip
        add_elements(
            couch,
            name,
            *(
                {
                    "Status": chance.choice(STATUSES),
                    "RequestName": f"w{chance.randint(0, 4)}",
                    "ChildQueueUrl": chance.choice([UPSTREAMS_URL, "http://other.example.org:5984", None]),
                }
                for _ in range(60)
            ),
        )
    return [Job(chance.choice([1, 2, 5]), "w1", None) for _ in range(50)]


@pytest.mark.parametrize("seed", range(6))
def test_where_upstream_is_right_the_counts_are_the_same(both, seed):
    clear(both)
    jobs = fill(both, random.Random(seed))
    found, told = both.blockers(jobs), both.ask(jobs)
    open_workflows = total(found, "workflows_open", "workflows_open_gone")
    assert (open_workflows == 0) == told["workflows_completed"]
    assert {
        "dbs_open_blocks": total(found, "blocks_not_in_dbs", "blocks_not_closed", "blocks_status_unknown"),
        "dbs_notuploaded": total(found, "files_not_uploaded", "files_without_workflow"),
        "phedex_notuploaded": total(found, "files_not_in_rucio", "files_of_missing_block"),
    } == told["upload_status"]
    assert {"running": total(found, "condor_running"), "idle": total(found, "condor_idle")} == told["condor_status"]
    for ours, theirs in (
        ("workqueue", "local_wq_status"),
        ("inbox", "local_wqinbox_status"),
        ("global_workqueue", "global_wq_status"),
    ):
        states = count_by_state(found, ours)
        assert {status: states[status] for status in told[theirs]} == told[theirs]
        assert sum(told[theirs].values()) > 0


def test_where_upstream_is_wrong(both):
    """What docs/drain.md says that it leaves out."""
    clear(both)
    dbsbuffer(
        both.connection,
        [Workflow(1, "w", "/w/T", 0)],
        [Block(1, 1, "/P/E/RAW#1", 1, 5, None)],
        [
            File(1, "/store/mc/1", 1, 1, "NOTUPLOADED", 0, 1),
            File(2, "/store/mc/2", 1, None, "InDBS", 0, 1),
            File(3, "/store/mc/3", 1, 1, "InDBS", None, 1),
        ],
    )
    real_url = {"Status": "Running", "RequestName": "w", "ChildQueueUrl": f"http://{AGENT}:6994"}
    negotiating = {"Status": "Negotiating", "RequestName": "w", "ChildQueueUrl": UPSTREAMS_URL}
    add_elements(both.central.service.couch, "workqueue", real_url, negotiating)
    held = [Job(5, "w", 1)]
    found = {one.signal: one.count for one in both.blockers(held)}
    assert found == {
        "workflows_open_gone": 1,
        "files_not_uploaded": 1,
        "files_not_in_rucio": 1,
        "files_without_block": 1,
        "files_registration_unknown": 1,
        "blocks_status_null": 1,
        "condor_held": 1,
        "global_workqueue_waiting": 1,
        "global_workqueue_running": 1,
    }
    told = both.ask(held)
    # It looks at nothing else while a workflow is not completed, not at NULLs, and not at the URL that is really there.
    assert told["collected"] == {"workflows_completed": False}
    assert told["upload_status"] == {"dbs_open_blocks": 0, "dbs_notuploaded": 1, "phedex_notuploaded": 1}
    assert told["condor_status"] == {"running": 0, "idle": 0}
    assert told["global_wq_status"] == {"Acquired": 0, "Running": 0}
    assert both.ask(None)["condor_status"] == {"running": None, "idle": None}
    assert [one.kind for one in both.blockers(None) if one.source == "condor"] == ["unknown"]
