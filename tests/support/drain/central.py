# SPDX-License-Identifier: GPL-3.0-or-later
"""Central services for tests: ReqMgr2's stand-in with an agent that it knows, and elements for its workqueue."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import DatabaseSettings
from support.agent import processes  # noqa: F401 - makes the lab's own package importable
from support.secrets import write_secrets
from wmagent_lab.central_config import ReqMgr2, serving
from wmagent_lab.couch_standin import Couch

AGENT = "agent.example.org"
ELEMENT = "WMCore.WorkQueue.DataStructs.WorkQueueElement.WorkQueueElement"
STAGES = ("CondorPriority", "NoJobRetries", "EnableAllSites")

VIEWS = {
    "elementsByStatus": {
        "map": f"function (doc) {{ var one = doc['{ELEMENT}']; if (one) emit(one.Status, {{'_id': doc._id}}); }}"
    },
    "jobsByChildQueueAndStatus": {
        "map": f"function (doc) {{ var one = doc['{ELEMENT}']; "
        "if (one) emit([one.ChildQueueUrl, one.Status], one.Jobs); }",
        "reduce": "_sum",
    },
}
"""What the views of upstream's couchapp WorkQueue give."""


def config(**more: Any) -> dict[str, Any]:
    """An agent's configuration, of a person who customised something."""
    return {
        "UserDrainMode": False,
        "AgentDrainMode": False,
        "SpeedDrainMode": False,
        "SpeedDrainConfig": {name: {"Threshold": 200, "Enabled": False} for name in STAGES},
        "DiskUseThreshold": 85,
        "IgnoreDisks": ["/mnt/ramdisk"],
        "MaxRetries": {"default": 3, "Merge": 7},
        "CondorJobsFraction": 0.5,
    } | more


@dataclass
class Central:
    """ReqMgr2 and the central CouchDB, served on ``port``."""

    service: ReqMgr2
    port: int

    @property
    def config(self) -> dict[str, Any]:
        """The agent's configuration as it is."""
        return self.service.config(AGENT)

    @property
    def urls(self) -> dict[str, str]:
        """Keys of WMAgent.secrets that lead here."""
        base = f"http://127.0.0.1:{self.port}"
        return {
            "REQMGR2_URL": f"{base}/reqmgr2",
            "GLOBAL_WORKQUEUE_URL": f"{base}/couchdb/workqueue",
            "REQUESTCOUCH_URL": f"{base}/couchdb/reqmgr_workload_cache",
        }


@contextmanager
def central_services(**more: Any) -> Iterator[Central]:
    """With one agent, configured by :func:`config`, and a central workqueue without elements."""
    service = ReqMgr2()
    make_queue(service.couch, "workqueue")
    service.put_config(AGENT, config(**more))
    with serving(service) as port:
        yield Central(service, port)


def secrets_for(folder: Path, database: DatabaseSettings, couch_port: int, urls: Mapping[str, str]) -> Path:
    """A WMAgent.secrets that leads to these servers."""
    path = write_secrets(folder / "WMAgent.secrets", database, couch_port)
    kept = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in urls]
    path.write_text("\n".join([*kept, *(f"{key}={value}" for key, value in urls.items())]) + "\n")
    return path


def make_queue(couch: Couch, database: str, design: Mapping[str, Any] | None = None) -> None:
    """A workqueue's database without elements. design: its couchapp, VIEWS where None."""
    couch.answer("PUT", f"/{database}", None)
    design = design or {"_id": "_design/WorkQueue", "language": "javascript", "views": VIEWS}
    couch.answer("PUT", f"/{database}/_design/WorkQueue", design)


def add_elements(couch: Couch, database: str, *elements: Mapping[str, Any]) -> None:
    """Elements with these fields, as WorkQueue stores them."""
    documents = [
        {"_id": f"{number:032x}", "type": ELEMENT, "timestamp": 1_700_000_000 + number, ELEMENT: {"Jobs": 1, **element}}
        for number, element in enumerate(elements, start=couch.store.databases[database].sequence)
    ]
    couch.answer("POST", f"/{database}/_bulk_docs", {"docs": documents})


@dataclass
class CondorQ:
    """A stand-in for the program ``condor_q``."""

    folder: Path
    jobs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def program(self) -> str:
        """Its path; prints the jobs as they are now."""
        (self.folder / "jobs.json").write_text(json.dumps(self.jobs))
        path = self.folder / "condor_q"
        path.write_text(
            f"#!/bin/sh\ncase \"$*\" in *-totals*) echo 'Total for query: {len(self.jobs)} jobs; 0 completed';; "
            f"*) cat {self.folder}/jobs.json;; esac\n"
        )
        path.chmod(0o755)
        return str(path)

    def broken(self, script: str) -> str:
        """A program that does this instead."""
        path = self.folder / "broken_condor_q"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)
