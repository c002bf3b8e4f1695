# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a part of an agent has anything to clean, by the rules of what cleans it, up to the first thing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.layout import AgentLayout
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.logs import find_rotated, older_than, work_dir_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._agent.secrets import read_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction import Compaction
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import USUAL_RULES
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import list_databases
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.disk_space import disks_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.options import client_from_options
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.purge_guard import make_guard
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_run import Rules, Run
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.tombstones import find_tombstones
from ansible_collections.dmwm.wmagent.plugins.module_utils._database.connection import settings_from_secrets
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.cleanup import Cleanup, Request
from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.options import rules_from_options
from ansible_collections.dmwm.wmagent.plugins.module_utils._duration import seconds_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from ansible_collections.dmwm.wmagent.plugins.module_utils._release.releases import plan_by_ledger

_NO_LIMITS = Limits(None, None, None)


def look(part: str, params: Mapping[str, Any]) -> str:
    """The first reason to clean a part of ``LOOKS``, '' for none. params: of M(dmwm.wmagent.cleanup_info)."""
    try:
        return next(LOOKS[part](params), "")
    except WMAgentError as error:
        return f"cannot be read: {error}"


def _files(params: Mapping[str, Any]) -> Iterator[str]:
    root = Path(params["wmagent_root"])
    age = seconds_of(params["log_retention"], "log_retention")
    if logs := older_than(find_rotated(work_dir_of(root)), time.time(), age):
        yield f"{len(logs)} rotated logs"
    layout = AgentLayout(root)
    if layout.is_adopted():
        plan = plan_by_ledger(layout, params["keep_releases"])
        if plan.releases or plan.blobs:
            yield f"{len(plan.releases)} releases and {len(plan.blobs)} blobs"


def _couchdb(params: Mapping[str, Any]) -> Iterator[str]:
    if params["archived_workflows"]:
        yield "archived workflows are named"
    client = client_from_options(params)
    names = list_databases(client)
    rules = Rules(keep_copy=seconds_of(params["keep_copy_for"], "keep_copy_for"))
    disks = partial(disks_of, client, params["data_directory"], None)
    rotation = Run(client, [], rules, _NO_LIMITS, disks)
    rotation.look()
    # A rotation takes a maintenance window: what it would gain is due all the same, and a purge gains it otherwise.
    if rotation.planned or rotation.candidates:
        yield f"{max(len(rotation.planned), len(rotation.candidates))} databases to rotate"
    min_age = seconds_of(params["min_age"], "min_age")
    for name in names:
        if _has_tombstones(client, name, min_age, rules.abandoned, params["timeout"]):
            yield f"tombstones of {name}"
    compaction = Compaction(client, names, USUAL_RULES, _NO_LIMITS, disks)
    compaction.look()
    if compaction.due:
        yield f"{len(compaction.due)} databases and views to compact"


def _has_tombstones(client: CouchClient, name: str, min_age: float, abandoned: float, timeout: float) -> bool:
    guard = make_guard(client, name, time.time() - abandoned, timeout)
    return any(found.going for found in find_tombstones(client, name, guard, min_age))


def _dbsbuffer(params: Mapping[str, Any]) -> Iterator[str]:
    settings = settings_from_secrets(read_secrets(Path(params["secrets"])), params["database_name"])
    request = Request(rules_from_options(params, time.time()))
    cleanup = Cleanup(settings, request, lambda note: None, timeout=params["timeout"])
    cleanup.look()
    if cleanup.due:
        yield f"{cleanup.plan.files} files of DBSBuffer"


LOOKS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "files": _files,
    "couchdb": _couchdb,
    "dbsbuffer": _dbsbuffer,
}
"""Part -> its reasons, in the order in which a cleanup takes them."""
