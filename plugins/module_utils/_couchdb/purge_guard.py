# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tombstones a replication still needs.

A tombstone that is purged before its deletion was replicated lets the document come back (CouchDB's documentation of
``POST /{db}/_purge``), and so does one whose document the source of a replication still has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.feed import read_page
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.replications import (
    Checkpoint,
    Replication,
    open_source,
    read_checkpoints,
    read_replications,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_marker import is_unfinished
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

NOT_REPLICATED = "not replicated yet"
LIVE_AT_SOURCE = "a replication's source still has the document"
UNKNOWN = "cannot be found out"

_PAGE = 10_000
_ASKED_AT_ONCE = 1000


@dataclass
class SourceGuard:
    """Knows what a replication from this database has not handled, up to the moment it is asked.

    since: how far the replication came; the feed is followed from there
    """

    client: CouchClient
    database: str
    since: str
    waiting: set[str] = field(default_factory=set)

    def holds(self, names: Sequence[str]) -> set[str]:
        """Those of these documents that are not replicated. Raises WMAgentError."""
        while True:
            page = read_page(self.client, self.database, self.since, _PAGE)
            self.waiting.update(change.name for change in page.changes)
            self.since = page.sequence
            if page.last:
                return self.waiting.intersection(names)


@dataclass
class TargetGuard:
    """Asks the source of a replication into this database. path: the source's, on its server."""

    client: CouchClient
    path: str

    def holds(self, names: Sequence[str]) -> set[str]:
        """Those of these documents that the source has, or does not tell about. Raises WMAgentError."""
        held = set()
        for start in range(0, len(names), _ASKED_AT_ONCE):
            keys = list(names[start : start + _ASKED_AT_ONCE])
            answer = self.client.post(f"{self.path}/_all_docs", {"keys": keys})
            rows = answer.get("rows") if isinstance(answer, Mapping) else None
            if not isinstance(rows, list) or len(rows) != len(keys):
                raise WMAgentError(f"{self.client.settings.where} does not tell which documents {self.path} has")
            held |= {key for key, row in zip(keys, rows, strict=True) if not _is_gone(row)}
        return held


def _is_gone(row: Mapping[str, Any]) -> bool:
    return row.get("error") == "not_found" or bool((row.get("value") or {}).get("deleted"))


@dataclass
class Guard:
    """All that stands in the way of purging a database.

    unknown: what could not be found out, one line each; nothing may be purged while there is any
    """

    sources: list[SourceGuard] = field(default_factory=list)
    targets: list[TargetGuard] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def reasons(self, names: Sequence[str]) -> dict[str, str]:
        """Document -> why its tombstone stays, for those that have to. Raises WMAgentError.

        names: documents whose tombstones were read before this is called
        """
        if self.unknown:
            return dict.fromkeys(names, UNKNOWN)
        found: dict[str, str] = {}
        for target in self.targets:
            found |= dict.fromkeys(target.holds(names), LIVE_AT_SOURCE)
        for source in self.sources:
            found |= dict.fromkeys(source.holds(names), NOT_REPLICATED)
        return found


def make_guard(client: CouchClient, database: str, abandoned_before: float, timeout: float) -> Guard:
    """What replications need of a database. Raises nothing: what cannot be found out is in the result.

    abandoned_before: UNIX time; a checkpoint of a replication that this server does not know, such as one that another
                      server runs, counts unless it was last written before
    """
    guard = Guard()
    try:
        replications = read_replications(client)
        checkpoints = read_checkpoints(client, database)
        # What the agent deleted of a half-filled database would come back with the rest.
        if is_unfinished(client, database):
            guard.unknown.append(f"the rotation of {database} is not finished; run couchdb_rotate first")
    except WMAgentError as error:
        guard.unknown.append(str(error))
        return guard
    for one in replications:
        if one.local_target == database:
            _add_target(guard, client, one, timeout)
    for since in sequences_to_keep(database, replications, checkpoints, abandoned_before):
        guard.sources.append(SourceGuard(client, database, since))
    return guard


def _add_target(guard: Guard, client: CouchClient, replication: Replication, timeout: float) -> None:
    try:
        source = TargetGuard(*open_source(client, replication, timeout))
        source.holds(["asked whether it answers"])
        guard.targets.append(source)
    except WMAgentError as error:
        guard.unknown.append(f"whether {replication.source} still has the documents: {error}")


def sequences_to_keep(
    database: str,
    replications: Iterable[Replication],
    checkpoints: Iterable[Checkpoint],
    abandoned_before: float,
) -> list[str]:
    """Sequences of a database after which some replication from it still needs everything. Pure.

    One that has noted nothing yet needs everything from the beginning. A checkpoint of an unknown replication may be
    one into this database, with a sequence of another database: CouchDB takes such a one for the beginning.
    """
    noted = {checkpoint.id: checkpoint for checkpoint in checkpoints}
    replications = list(replications)
    own = {one.id for one in replications if one.local_source == database}
    # Its other end is here: what it has noted is a sequence of its source.
    others = {one.id for one in replications if one.local_target == database} - own
    kept = {noted[name].sequence if name in noted else "0" for name in own}
    for name, checkpoint in noted.items():
        if name not in own | others and checkpoint.written >= abandoned_before:
            kept.add(checkpoint.sequence)
    return sorted(kept)
