# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of archived workflows that are still live in the jobdump databases.

CleanCouchPoller deletes them (WMComponent.TaskArchiver), once; what it missed stays for good. Reports may go where they
were uploaded to WMArchive or skipped for it (``archivestatus``, WMCore's ChangeState and ArchiveDataPoller), jobs where
no report of their workflow is left that was not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import design_documents, path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits

_JOBS = ("JobDump", "jobsByWorkflowName")
_REPORTS = ("FWJRDump", "fwjrsByWorkflowName")
_BY_STATUS = ("FWJRDump", "byWorkflowAndArchiveStatus")
_DONE = ("uploaded", "skip")
_AT_ONCE = 500


@dataclass(frozen=True)
class Places:
    """The databases that hold the jobs and the reports of an agent."""

    jobs: str
    reports: str


def find_places(client: CouchClient, databases: Sequence[str]) -> Places:
    """The two databases by their design documents. Raises WMAgentError unless each is there once."""
    found = {
        design: [name for name in databases if design in design_documents(client, name)]
        for design, _ in (_JOBS, _REPORTS)
    }
    for design, names in found.items():
        if len(names) != 1:
            raise WMAgentError(
                f"{client.settings.where} has {len(names)} databases with the design document {design} "
                f"({', '.join(names) or 'none'}); archived_workflows needs exactly one: name it by the option databases"
            )
    return Places(found[_JOBS[0]][0], found[_REPORTS[0]][0])


def find_leftovers(client: CouchClient, places: Places, workflows: Sequence[str]) -> dict[str, list[str]]:
    """Database -> ids of live documents that may go. Raises WMAgentError."""
    reports: list[str] = []
    jobs: list[str] = []
    for workflow in workflows:
        all_reports = set(_ids(client, places.reports, _REPORTS, workflow))
        done = {name for status in _DONE for name in _ids(client, places.reports, _BY_STATUS, workflow, status)}
        reports += sorted(all_reports & done)
        if all_reports <= done:
            jobs += _ids(client, places.jobs, _JOBS, workflow)
    return {places.reports: reports, places.jobs: jobs}


def _ids(
    client: CouchClient, database: str, view: tuple[str, str], workflow: str, status: str | None = None
) -> list[str]:
    first = [workflow] if status is None else [workflow, status]
    asked = {"startkey": json.dumps(first), "endkey": json.dumps([*first, {}]), "reduce": "false"}
    design, name = (quote(part, safe="") for part in view)
    path = path_of(database, "_design", design, "_view", f"{name}?{urlencode(asked)}")
    answer = client.get(path)
    if not isinstance(answer, dict) or not isinstance(answer.get("rows"), list):
        raise WMAgentError(f"{client.settings.where} answered {path} without rows")
    return list(dict.fromkeys(str(row["id"]) for row in answer["rows"]))


def delete_leftovers(
    client: CouchClient, places: Places, leftovers: dict[str, list[str]], limits: Limits
) -> dict[str, int]:
    """Database -> documents deleted. Raises WMAgentError.

    A document is deleted at the revision that it has now, and a report only if that one may still go.
    """
    deleted = dict.fromkeys(leftovers, 0)
    for database, names in leftovers.items():
        for some in _chunks(names):
            if limits.reason(0):
                return deleted
            gone = [
                {"_id": document["_id"], "_rev": document["_rev"], "_deleted": True}
                for document in _read(client, database, some)
                if database == places.jobs or document.get("archivestatus") in _DONE
            ]
            answers = client.post(path_of(database, "_bulk_docs"), {"docs": gone}) if gone else []
            deleted[database] += sum(bool(answer.get("ok")) for answer in answers)
    return deleted


def _chunks(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]


def _read(client: CouchClient, database: str, names: list[str]) -> list[dict[str, Any]]:
    rows = client.post(path_of(database, "_all_docs?include_docs=true"), {"keys": names})["rows"]
    return [row["doc"] for row in rows if row.get("doc")]
