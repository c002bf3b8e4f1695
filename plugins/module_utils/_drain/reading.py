# SPDX-License-Identifier: GPL-3.0-or-later
"""All signals of an agent, read once.

Work passes from the queues into WMBS, from there to the batch system and back, and on to DBSBuffer. The database is
read last, as one picture of one moment: what left a queue before it was read, and what left the batch system, is in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import Connection
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain import (
    signals_central,
    signals_condor,
    signals_database,
    signals_workqueue,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.agent_config import Document
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import (
    AGENT_CONFIG,
    CONDOR,
    DATABASE,
    GLOBAL_WORKQUEUE,
    REQUESTS,
    WORKQUEUE,
    Blocker,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.central import CentralClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.condor import Job


@dataclass(frozen=True)
class Sources:
    """How each source is reached. What these raise is WMAgentError, and becomes a blocker.

    agent:   full host name
    timeout: seconds for all requests together
    """

    agent: str
    session: Callable[[], AbstractContextManager[Connection]]
    couchdb: Callable[[], signals_workqueue.Asks]
    global_workqueue: Callable[[], signals_workqueue.Asks]
    reqmgr: Callable[[], CentralClient]
    jobs: Callable[[], list[Job]]
    timeout: float


@dataclass(frozen=True)
class Seen:
    """What was read.

    seconds:  source -> how long it took; every source that was asked is in it
    requests: what ReqMgr2 knows of the requests in WMBS
    document: the agent's WMAGENT_CONFIG, None where it could not be read
    """

    blockers: list[Blocker]
    seconds: dict[str, float]
    requests: dict[str, Any]
    document: Document | None


def read_all(sources: Sources) -> Seen:
    """Every signal, also where an earlier one blocks or could not be read."""
    seconds: dict[str, float] = {}

    def timed(source: str, read: Callable[[], Any]) -> Any:
        begin = time.monotonic()
        found = read()
        seconds[source] = round(time.monotonic() - begin, 3)
        return found

    with ThreadPoolExecutor(4) as pool:
        config = pool.submit(
            timed, AGENT_CONFIG, lambda: signals_central.read_drain_mode(sources.reqmgr, sources.agent)
        )
        central = pool.submit(
            timed,
            GLOBAL_WORKQUEUE,
            lambda: signals_workqueue.read_global(sources.global_workqueue, sources.agent),
        )
        local = pool.submit(timed, WORKQUEUE, lambda: signals_workqueue.read_local(sources.couchdb))
        batch = pool.submit(timed, CONDOR, lambda: signals_condor.read(sources.jobs))
        of_config, document = config.result()
        early = [*central.result(), *local.result(), *batch.result()]
    of_database, names = timed(DATABASE, lambda: signals_database.read(sources.session))
    of_requests, requests = timed(
        REQUESTS, lambda: signals_central.read_requests(sources.reqmgr, names, sources.timeout)
    )
    return Seen([*of_database, *early, *of_config, *of_requests], seconds, requests, document)
