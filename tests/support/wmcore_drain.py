# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by a release's own interpreter: what its own DrainStatusAPI says of the databases.

Arguments: database URL. One JSON request per line on standard input, ``{"host", "local", "central", "jobs"}``, and one
JSON answer per line on standard output. The class, its DAOs and its WorkQueueBackend are the release's; only the batch
system's summary is given (``jobs``, null where it fails), since there is no schedd. Every method is asked, also those
that the class leaves out while a workflow is not completed.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from typing import Any
from unittest.mock import Mock

from WMComponent.AgentStatusWatcher import DrainStatusAPI
from WMCore.Configuration import Configuration
from WMCore.WMInit import WMInit


def main() -> None:
    """Answer until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    WMInit().setDatabaseConnection(sys.argv[1], "mysql")
    threading.current_thread().logger = logging.getLogger()  # type: ignore[attr-defined]
    DrainStatusAPI.PyCondorAPI = Mock()
    for line in sys.stdin:
        print(json.dumps(ask(**json.loads(line))), file=answers, flush=True)


def ask(host: str, local: str, central: str, jobs: Any) -> dict[str, Any]:
    """All that the class can tell."""
    config = Configuration()
    config.section_("Agent").hostName = host
    config.section_("WorkloadSummary").couchurl = central
    config.section_("WorkQueueManager").couchurl = local
    api = DrainStatusAPI.DrainStatusAPI(config)
    api.condorAPI = Mock(getCondorJobsSummary=lambda: jobs)
    return {
        "collected": api.collectDrainInfo(),
        "workflows_completed": api.checkWorkflows(),
        "upload_status": api.checkFileUploadStatus(),
        "condor_status": api.checkCondorStates(),
        "local_wq_status": api.checkLocalWQStatus(dbname="workqueue"),
        "local_wqinbox_status": api.checkLocalWQStatus(dbname="workqueue_inbox"),
        "global_wq_status": api.checkGlobalWQStatus(),
    }


if __name__ == "__main__":
    main()
