# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the way of replacing a database: those who write to it or replicate it, and too little room."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import DATABASES, Disks
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import Database, path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.replications import (
    read_checkpoints,
    read_replications,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_marker import seen_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_plan import room_needed
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

NOT_STOPPED = "components_stopped is not given; stop the agent's components first"
WRITTEN = "somebody writes to it"


def replicated_by(client: CouchClient, database: str, abandoned_before: float) -> list[str]:
    """Replications from or into a database, in words, and what cannot be found out about them. Raises nothing.

    A deletion that was not replicated yet would never be: the new database holds no tombstones.

    abandoned_before: UNIX time; a checkpoint last written before belongs to a replication that is no more
    """
    try:
        replications = read_replications(client)
        known = {one.id for one in replications}
        recent = [
            one for one in read_checkpoints(client, database) if one.written >= abandoned_before and one.id not in known
        ]
    except WMAgentError as error:
        return [f"whether it is replicated cannot be found out: {error}"]
    found = [
        f"the replication {one.document or one.id} from {one.source} to {one.target} has it"
        for one in replications
        if database in (one.local_source, one.local_target)
    ]
    if recent:
        found.append(
            f"a replication that this server does not run has lately noted a checkpoint in it, such as {recent[0].id}"
        )
    return found


def written_meanwhile(
    client: CouchClient, databases: Sequence[str], seconds: float, sleep: Callable[[float], None] = time.sleep
) -> set[str]:
    """Those of the databases that change while they are watched for some seconds. Raises WMAgentError."""
    if not databases:
        return set()
    before = {name: seen_of(client.get(path_of(name))) for name in databases}
    sleep(seconds)
    return {name for name in databases if seen_of(client.get(path_of(name))) != before[name]}


def lacks_room(database: Database, disks: Disks) -> list[str]:
    """Why there is no room for a copy of a database, at most one line. Pure."""
    free = disks.free.get(disks.disk_of.get(DATABASES, ""))
    needed = room_needed(database)
    if free is None:
        return [f"how much is free for a copy of up to {needed} bytes cannot be found out: {disks.unknown}"]
    return [f"a copy may take {needed} bytes, and {free} are free"] if free < needed else []
