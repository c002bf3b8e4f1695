# SPDX-License-Identifier: GPL-3.0-or-later
"""Work of a lab agent that really ends: what is seeded in WMBS, DBSBuffer and WorkQueue is finished bit by bit.

An agent in production works all the time; what ends is that new work comes in. So nothing is finished until the agent
is in drain mode, and all of it within a given time after that. A STAND-IN for sites, DBS and Rucio: rows and documents
change as the components would have changed them.

``python -m wmagent_lab.work REQUEST.json``
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import (
    settings_from_secrets as couch_settings,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import (
    Connection,
    connect,
    settings_from_secrets,
)

from .central import PRIORITY

ELEMENT = "WMCore.WorkQueue.DataStructs.WorkQueueElement.WorkQueueElement"
ELEMENTS = 12
FILES = 120
"""Files on their way to DBS and Rucio, for all workflows together."""
BLOCKS = 6

STAGES: dict[str, tuple[float, float]] = {
    "elements": (0.0, 0.25),
    "jobs": (0.05, 0.5),
    "upload": (0.2, 0.6),
    "registration": (0.25, 0.9),
    "blocks": (0.6, 0.95),
    "subscriptions": (0.1, 0.55),
    "workflows": (0.95, 0.98),
}
"""Share of the whole time at which a stage begins to shrink, and at which it is empty. Registration takes longest."""

_STEP = 0.5
_MY_FILES = "lfn LIKE '/store/mc/LabDrain/%'"
_MY_BLOCKS = "blockname LIKE '/LabDrain/%'"


def left(stage: str, share: float, total: int) -> int:
    """How many of ``total`` a stage still holds at a share of the whole time; it never grows."""
    begin, end = STAGES[stage]
    done = min(1.0, max(0.0, (share - begin) / (end - begin)))
    return total - int(total * done)


@dataclass
class Work:
    """One agent's work. seconds: from drain mode to the end; name: by which ReqMgr2 knows the agent."""

    agent: str
    name: str
    secrets: Path
    database: str
    queue: Path
    seconds: float

    def seed(self) -> None:
        """Put more work beside what the deployment has seeded; what is there already stays."""
        with self._session() as connection:
            self._seed_files(connection)
            self._write_queue(_count(connection, "wmbs_job", f"state = {_state('executing')}"))
            names = self._workflows(connection)
        documents = [_element(f"{self.agent}-{number}", names[number % len(names)]) for number in range(ELEMENTS)]
        for database in ("/workqueue_inbox", "/workqueue"):
            self._couch().post(f"{database}/_bulk_docs", {"docs": documents})

    def step(self, share: float) -> None:
        """Bring everything to where it is at this share of the time."""
        with self._session() as connection:
            self._finish_elements(left("elements", share, ELEMENTS))
            self._finish_jobs(connection, share)
            keep = left("subscriptions", share, _count(connection, "wmbs_subscription", "1 = 1"))
            _shrink(connection, "wmbs_subscription", "finished = 0", "finished = 1", keep)
            self._finish_files(connection, share)
            closed = f"status = 'Closed', rule_id = '{'0' * 31}2'"
            keep = left("blocks", share, BLOCKS)
            _shrink(connection, "dbsbuffer_block", f"{_MY_BLOCKS} AND status <> 'Closed'", closed, keep)
            if left("workflows", share, 1) == 0:
                self._finish_workflows(connection)

    def drains(self) -> bool:
        """Whether ReqMgr2 has the agent in drain mode."""
        url = f"{read_secrets(self.secrets)['REQMGR2_URL']}/data/wmagentconfig/{self.name}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - the lab's own address
            (config,) = json.load(answer)["result"]
        return bool(config["UserDrainMode"])

    def _session(self) -> Connection:
        return connect(settings_from_secrets(read_secrets(self.secrets), self.database), read_only=False)

    def _couch(self) -> CouchClient:
        return CouchClient(couch_settings(read_secrets(self.secrets)), 30)

    def _workflows(self, connection: Connection) -> list[str]:
        return [str(row[0]) for row in connection.query("SELECT DISTINCT name FROM wmbs_workflow ORDER BY name")]

    def _seed_files(self, connection: Connection) -> None:
        if _count(connection, "dbsbuffer_file", _MY_FILES):
            return
        connection.begin()
        workflows = connection.query("SELECT id, name FROM dbsbuffer_workflow ORDER BY id")
        pair, dataset = connection.query("SELECT id, dataset_id FROM dbsbuffer_algo_dataset_assoc ORDER BY id")[0]
        (location,) = connection.query("SELECT MIN(id) FROM dbsbuffer_location")[0]
        now = int(time.time())
        for number in range(BLOCKS):
            connection.execute(
                "INSERT INTO dbsbuffer_block (dataset_id, blockname, location, create_time, status, rule_id) "
                "VALUES (%s, %s, %s, %s, 'Open', '0')",
                (dataset, f"/LabDrain/{self.agent}/GEN-SIM#{number}", location, now),
            )
        blocks = [row[0] for row in connection.query(f"SELECT id FROM dbsbuffer_block WHERE {_MY_BLOCKS} ORDER BY id")]
        for number in range(FILES):
            workflow = workflows[number % len(workflows)][0]
            connection.execute(
                "INSERT INTO dbsbuffer_file (lfn, filesize, events, dataset_algo, block_id, status, in_phedex, "
                "workflow, LastModificationDate) VALUES (%s, 1, 1, %s, %s, 'NOTUPLOADED', 0, %s, %s)",
                (f"/store/mc/LabDrain/{self.agent}/{number}.root", pair, blocks[number % BLOCKS], workflow, now),
            )
        connection.commit()

    def _finish_elements(self, keep: int) -> None:
        couch = self._couch()
        for database in ("/workqueue_inbox", "/workqueue"):
            rows = couch.get(f"{database}/_all_docs?include_docs=true")["rows"]
            running = [row["doc"] for row in rows if row["doc"].get(ELEMENT, {}).get("Status") == "Running"]
            for document in running[keep:]:
                document[ELEMENT]["Status"] = "Done"
                couch.post(f"{database}/_bulk_docs", {"docs": [document]})

    def _finish_jobs(self, connection: Connection, share: float) -> None:
        keep = left("jobs", share, _count(connection, "wmbs_job", "1 = 1"))
        ended = f"state = {_state('cleanout')}, state_time = {int(time.time())}"
        _shrink(connection, "wmbs_job", f"state = {_state('executing')}", ended, keep)
        self._write_queue(keep)

    def _finish_files(self, connection: Connection, share: float) -> None:
        for stage, before, after in (
            ("upload", "status = 'NOTUPLOADED'", "status = 'InDBS'"),
            ("registration", "in_phedex = 0", "in_phedex = 1"),
        ):
            _shrink(connection, "dbsbuffer_file", f"{_MY_FILES} AND {before}", after, left(stage, share, FILES))

    def _finish_workflows(self, connection: Connection) -> None:
        connection.begin()
        connection.execute("UPDATE dbsbuffer_workflow SET completed = 1")
        connection.commit()
        url = read_secrets(self.secrets)["REQUESTCOUCH_URL"]
        names = "SELECT name FROM wmbs_workflow UNION SELECT name FROM dbsbuffer_workflow"
        for (name,) in connection.query(names):
            _put(f"{url}/{name}", {"RequestStatus": "normal-archived"})

    def _write_queue(self, jobs: int) -> None:
        now = int(time.time())
        rows = [
            {"JobStatus": 1 + number % 2, "WMAgent_RequestName": f"{self.agent}_lab_workflow_0",
             "EnteredCurrentStatus": now}
            for number in range(jobs)
        ]  # fmt: skip
        partial = self.queue.with_suffix(".new")
        partial.write_text(json.dumps(rows), encoding="utf-8")
        partial.replace(self.queue)


def _element(identifier: str, workflow: str) -> dict[str, Any]:
    counts = dict.fromkeys(("Jobs", "NumberOfEvents", "NumberOfFiles", "NumberOfLumis", "FilesProcessed"), 1)
    element = {"RequestName": workflow, "Status": "Running", "Priority": PRIORITY, "PercentComplete": 0, **counts}
    return {"_id": identifier, "timestamp": int(time.time()), ELEMENT: element}


def _state(name: str) -> str:
    return f"(SELECT id FROM wmbs_job_state WHERE name = '{name}')"


def _shrink(connection: Connection, table: str, still: str, after: str, keep: int) -> None:
    """Leave so many rows that are still as they were; the first of the others become as after."""
    surplus = _count(connection, table, still) - keep
    if surplus > 0:
        connection.execute(f"UPDATE {table} SET {after} WHERE {still} ORDER BY id LIMIT {surplus}")


def _count(connection: Connection, table: str, condition: str) -> int:
    return int(connection.query(f"SELECT COUNT(*) FROM {table} WHERE {condition}")[0][0])


def _put(url: str, document: Mapping[str, Any]) -> None:
    request = urllib.request.Request(  # noqa: S310 - the lab's own address
        url, json.dumps(document).encode(), {"Content-Type": "application/json"}, method="PUT"
    )
    try:
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310
            pass
    except urllib.error.HTTPError as error:
        if error.code != 409:  # it is there already, from a run that was cut off
            raise


def run(work: Work, marker: Path) -> None:
    """Seed, wait for drain mode, and finish everything; ``marker`` remembers when that began."""
    work.seed()
    print("seeded; work ends once the agent is in drain mode", flush=True)
    while not marker.exists():
        if work.drains():
            marker.write_text(json.dumps({"began": time.time()}), encoding="utf-8")
            break
        time.sleep(_STEP)
    began = float(json.loads(marker.read_text(encoding="utf-8"))["began"])
    share = 0.0
    while share < 1:
        share = min(1.0, (time.time() - began) / work.seconds)
        work.step(share)
        time.sleep(_STEP)
    print("all work is done", flush=True)


def main(argument: str) -> int:
    """Until the work is done."""
    request = json.loads(Path(argument).read_text(encoding="utf-8"))
    os.environ.pop("http_proxy", None)
    work = Work(
        request["agent"],
        request["name"],
        Path(request["secrets"]),
        request["database"],
        Path(request["queue"]),
        float(request["seconds"]),
    )
    run(work, Path(argument).with_name("began.json"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
