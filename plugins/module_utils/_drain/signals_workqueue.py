# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals of WorkQueue: the agent's own two databases, and the central one.

WMComponent.AgentStatusWatcher.DrainStatusAPI counts the same by WMCore.WorkQueue.WorkQueueBackend.getElements, the
central ones by ``ChildQueueUrl`` = ``http://<host>:5984``. The documents hold the URL that the agent's ``QueueURL`` was
when they were acquired (bin/wmagent-mod-config puts CouchDB's real scheme and port into it), so here every URL of the
agent's host counts, and so do elements that the agent negotiates or was asked to cancel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.blockers import (
    GLOBAL_WORKQUEUE,
    WORKQUEUE,
    Blocker,
    Counted,
    blockers_of,
    unreadable,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_ELEMENT = "WMCore.WorkQueue.DataStructs.WorkQueueElement.WorkQueueElement"
_DESIGN = "/_design/WorkQueue"
_BY_STATUS = "elementsByStatus"
_BY_CHILD = "jobsByChildQueueAndStatus"
_SHOWN = 500
"""Elements whose workflows are looked up; all are counted."""

_STATES = {
    **dict.fromkeys(("Available", "Negotiating", "Acquired"), "waiting"),
    "Running": "running",
    "CancelRequested": "canceling",
}
_ENDED = frozenset(["Done", "Failed", "Canceled"])
"""WMCore.WorkQueue.DataStructs.WorkQueueElement: STATES, those of inEndState."""

Element = tuple[str, str]
"""Id of the document and status."""


class Asks(Protocol):
    """What is needed of a client, the agent's CouchDB's or a central service's."""

    def get(self, path: str) -> Any:
        """The JSON answer to a GET."""

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer to a POST."""


def read_local(open_client: Callable[[], Asks]) -> list[Blocker]:
    """Blockers of ``workqueue_inbox`` and ``workqueue``, in the order in which work passes through them."""
    try:
        client = open_client()
    except WMAgentError as error:
        return [unreadable("workqueue", WORKQUEUE, error)]
    found = []
    for name, database in (("inbox", "/workqueue_inbox"), ("workqueue", "/workqueue")):

        def elements(path: str = database) -> list[Element]:
            return _elements(client, path)

        found += _guarded(name, WORKQUEUE, client, database, elements)
    return found


def read_global(open_client: Callable[[], Asks], agent: str) -> list[Blocker]:
    """Blockers of the central ``workqueue``. open_client: its URL is the database's; agent: full host name."""
    try:
        client = open_client()
    except WMAgentError as error:
        return [unreadable("global_workqueue", GLOBAL_WORKQUEUE, error)]
    return _guarded("global_workqueue", GLOBAL_WORKQUEUE, client, "", lambda: _elements_of_agent(client, agent))


def _guarded(
    name: str, source: str, client: Asks, database: str, elements: Callable[[], list[Element]]
) -> list[Blocker]:
    try:
        return _blockers(name, client, database, elements())
    except WMAgentError as error:
        return [unreadable(name, source, error)]
    except (KeyError, TypeError, ValueError, AttributeError):
        return [unreadable(name, source, f"{name} answered with something unexpected; is a proxy in between?")]


def _blockers(name: str, client: Asks, database: str, elements: Sequence[Element]) -> list[Blocker]:
    left = [one for one in elements if one[1] not in _ENDED]
    documents = _documents(client, database, [identifier for identifier, _ in left[:_SHOWN]])
    counted = []
    for identifier, status in left:
        state = _STATES.get(status, "status_unknown")
        workflow, since = documents.get(identifier, (None, None))
        # The oldest of some is not the oldest of all.
        oldest = since if len(left) <= _SHOWN else None
        counted.append(Counted(f"{name}_{state}", 1, workflow, status, oldest))
    return blockers_of(counted)


def _elements(client: Asks, database: str) -> list[Element]:
    path = f"{database}{_DESIGN}/_view/{_BY_STATUS}?reduce=false"
    answer = client.get(path)
    rows = _rows(answer, path)
    if answer["total_rows"] != len(rows):
        raise WMAgentError(f"{path} tells {len(rows)} of {answer['total_rows']} elements; try again")
    if not rows:
        _check_view(client, database, _BY_STATUS)
    return [(str(row["id"]), str(row["key"])) for row in rows]


def _elements_of_agent(client: Asks, agent: str) -> list[Element]:
    path = f"{_DESIGN}/_view/{_BY_CHILD}?group=true"
    groups = [row["key"] for row in _rows(client.get(path), path)]
    if not groups:
        _check_view(client, "", _BY_CHILD)
    # JSON's list of two: the URL, null for an element that no agent has, and the status
    keys = [[url, status] for url, status in groups if is_of(url, agent) and status not in _ENDED]
    if not keys:
        return []
    path = f"{_DESIGN}/_view/{_BY_CHILD}?reduce=false"
    return [(str(row["id"]), str(row["key"][1])) for row in _rows(client.post(path, {"keys": keys}), path)]


def is_of(url: Any, agent: str) -> bool:
    """Whether a ChildQueueUrl is one of this agent's, whatever its scheme and port."""
    try:
        host = urlsplit(str(url or "")).hostname
    except ValueError:
        return False
    return host is not None and host == agent.lower()


def _rows(answer: Any, path: str) -> list[Mapping[str, Any]]:
    """The rows of a whole answer: CouchDB leaves out those of a part that it does not reach, and says so."""
    rows = answer.get("rows") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list) or answer.get("errors") or answer.get("error"):
        raise WMAgentError(f"{path} did not give all of its rows; look at CouchDB's log")
    return rows


def _check_view(client: Asks, database: str, view: str) -> None:
    """That an empty view is there at all."""
    design = client.get(f"{database}{_DESIGN}")
    views = design.get("views") if isinstance(design, Mapping) else None
    if not isinstance(views, Mapping) or not views.get(view, {}).get("map"):
        raise WMAgentError(f"{database or 'the central workqueue'} has no view {view}; install its couchapp")


def _documents(client: Asks, database: str, identifiers: Iterable[str]) -> dict[str, tuple[str | None, int | None]]:
    """Workflow and time of insertion of elements; of none where the answer is of no use, since they are counted."""
    keys = list(identifiers)
    if not keys:
        return {}
    try:
        rows = _rows(client.post(f"{database}/_all_docs?include_docs=true", {"keys": keys}), "_all_docs")
    except WMAgentError:
        return {}
    found = {}
    for row in rows:
        document = row.get("doc")
        if isinstance(document, Mapping) and isinstance(document.get(_ELEMENT), Mapping):
            element = document[_ELEMENT]
            since = document.get("timestamp") or element.get("CreationTime")
            found[str(row["id"])] = (
                None if element.get("RequestName") is None else str(element["RequestName"]),
                int(since) if isinstance(since, (int, float)) else None,
            )
    return found


def count_by_state(blockers: Iterable[Blocker], queue: str) -> Counter[str]:
    """Elements of a queue (``workqueue``, ``inbox``, ``global_workqueue``) by status."""
    states: Counter[str] = Counter()
    for blocker in blockers:
        if blocker.signal.startswith(f"{queue}_"):
            states.update(blocker.by_state)
    return states
