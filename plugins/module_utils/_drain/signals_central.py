# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals of ReqMgr2: whether the agent is in drain mode, and what became of the requests that it works on.

bin/adhoc-scripts/drainAgent.py asks for the status of each request, and fails on one that ReqMgr2 does not know.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.agent_config import Document, read_document
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import (
    AGENT_CONFIG,
    REQUESTS,
    Blocker,
    Counted,
    blockers_of,
    unreadable,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.central import CentralClient, CentralError
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

ARCHIVED = frozenset(["normal-archived", "aborted-archived", "rejected-archived"])
"""Statuses after which a request is of no agent's concern (WMCore.ReqMgr.DataStructs.RequestStatus)."""

_LONGEST_QUERY = 6000
_SHOWN = 10
_SERVER_ERRORS = 500


def read_drain_mode(open_client: Callable[[], CentralClient], agent: str) -> tuple[list[Blocker], Document | None]:
    """What speaks against the agent being in drain mode, and its document; None where it could not be read."""
    try:
        document = read_document(open_client(), agent)
    except WMAgentError as error:
        return [unreadable("drain_mode", AGENT_CONFIG, error)], None
    if document["UserDrainMode"]:
        return [], document
    # AgentDrainMode alone ends as soon as some disk has room again (AgentStatusPoller), and new work comes in.
    signal = "drain_mode_by_disk_only" if document["AgentDrainMode"] else "drain_mode_off"
    return blockers_of([Counted(signal, 1)]), document


def read_requests(
    open_client: Callable[[], CentralClient], names: Sequence[str] | None, timeout: float
) -> tuple[list[Blocker], dict[str, Any]]:
    """Requests that ReqMgr2 does not know, and for a result what it knows of the others.

    names:   those that WMBS knows; None where that could not be read
    timeout: seconds for all of them
    """
    if names is None:
        why = "nobody knows which requests to ask for, since the database could not be read"
        return [unreadable("requests", REQUESTS, why)], _told({})
    try:
        statuses = _statuses(open_client(), names, time.monotonic() + timeout) if names else {}
    except WMAgentError as error:
        return [unreadable("requests", REQUESTS, error)], _told({})
    unknown = [name for name in names if not statuses.get(name)]
    return blockers_of(Counted("requests_unknown", 1, name) for name in unknown), _told(statuses)


def _told(statuses: Mapping[str, str | None]) -> dict[str, Any]:
    by_status = Counter(status for status in statuses.values() if status)
    active = sorted(name for name, status in statuses.items() if status and status not in ARCHIVED)
    return {
        "by_status": dict(sorted(by_status.items())),
        "not_archived": len(active),
        "examples": {name: str(statuses[name]) for name in active[:_SHOWN]},
    }


def _statuses(client: CentralClient, names: Sequence[str], end: float) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for batch in _batches(sorted(names)):
        found |= _ask(client, batch, end)
    return found


def _batches(names: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    length = 0
    for name in names:
        size = len(quote(name, safe="")) + len("&name=")
        if batch and length + size > _LONGEST_QUERY:
            yield batch
            batch, length = [], 0
        batch.append(name)
        length += size
    if batch:
        yield batch


def _ask(client: CentralClient, names: Sequence[str], end: float) -> dict[str, str | None]:
    if time.monotonic() > end:
        raise WMAgentError(f"{client.where} did not tell of all requests in time; allow more")
    query = "&".join(f"name={quote(name, safe='')}" for name in names)
    try:
        answer = client.get(f"/data/request?{query}&mask=RequestStatus")
    except CentralError as error:
        # One request whose document was deleted makes ReqMgr2 fail on all that are asked for together with it.
        if error.status < _SERVER_ERRORS or len(names) == 1:
            raise
        half = len(names) // 2
        return _ask(client, names[:half], end) | _ask(client, names[half:], end)
    return _statuses_in(client, answer, names)


def _statuses_in(client: CentralClient, answer: Any, names: Sequence[str]) -> dict[str, str | None]:
    results = answer.get("result") if isinstance(answer, Mapping) else None
    if not isinstance(results, list) or not all(isinstance(result, Mapping) for result in results):
        raise WMAgentError(f"{client.where} answered with no requests; is it ReqMgr2?")
    found: dict[str, str | None] = {}
    for result in results:
        for name, request in result.items():
            if name in names and isinstance(request, Mapping):
                status = request.get("RequestStatus")
                found[name] = str(status) if status else None
    return found
