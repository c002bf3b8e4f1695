# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rotation leaves in its databases, so that the next run knows how far it came.

The copy holds a marker. The database to be replaced holds a token, and so does the new one with that name: whether a
database is the old one is read from it, never guessed, as an ``instance_start_time`` is told from CouchDB 3.3 on only.
All of it is in ``_local`` documents, which change no sequence.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, sequence
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.leaves import Tally
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.notes import read_note, write_note
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

NOTE = "rotation"
OLD = "old"
NEW = "new"
_NAME = re.compile(r"(.+)-rotation-\d{14}-[0-9a-f]{8}")


class Stage(Enum):
    """How far a rotation came.

    COPYING:  the copy is being filled
    COMPLETE: the copy was verified; from here on the old database may be gone
    VERIFIED: the new database was verified, its indexes may be missing
    DONE:     the new database has its indexes
    """

    COPYING = "copying"
    COMPLETE = "complete"
    VERIFIED = "verified"
    DONE = "done"


@dataclass(frozen=True)
class State:
    """How a database is that is to be replaced.

    seen:    numbers that change with every change of a document: updates, purges, live and deleted documents
    made_by: the options that it was made with, for PUT; limits: path below the database -> number
    """

    seen: tuple[int, ...]
    made_by: str
    security: Mapping[str, Any]
    limits: Mapping[str, int]

    @property
    def revs_limit(self) -> int:
        """Revisions of a history that are kept."""
        return self.limits["_revs_limit"]


@dataclass(frozen=True)
class Marker:
    """The marker in a copy.

    source: the database to be replaced; token: of this rotation
    after:  the last document that is copied, while copying
    tally:  of what is copied; file: bytes of the old database and its indexes
    begun, done: UNIX time, seconds; done is 0 until it is
    written_meanwhile: somebody wrote to the new database before it was complete; nothing of it was lost
    """

    source: str
    token: str
    stage: Stage
    state: State
    begun: float
    after: str = ""
    tally: Tally = field(default_factory=Tally)
    file: int = 0
    written_meanwhile: bool = False
    done: float = 0

    def with_(self, **more: Any) -> Marker:
        """The same but for this."""
        return replace(self, **more)

    def as_note(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **{key: getattr(self, key) for key in ("source", "token", "begun", "after", "file", "done")},
            "written_meanwhile": self.written_meanwhile,
            "stage": self.stage.value,
            "state": asdict(self.state),
            "tally": self.tally.as_note(),
        }

    @classmethod
    def from_note(cls, copy: str, note: Mapping[str, Any]) -> Marker:
        """What :meth:`as_note` gave. Raises WMAgentError."""
        try:
            state = note["state"]
            return cls(
                source=str(note["source"]),
                token=str(note["token"]),
                stage=Stage(note["stage"]),
                state=State(tuple(state["seen"]), state["made_by"], state["security"], state["limits"]),
                begun=float(note["begun"]),
                after=note["after"],
                tally=Tally.from_note(note["tally"]),
                file=int(note["file"]),
                written_meanwhile=bool(note["written_meanwhile"]),
                done=float(note["done"]),
            )
        except (KeyError, TypeError, ValueError):
            raise WMAgentError(
                f"the marker in {copy} is not one of this version; finish the rotation with the one that began it"
            ) from None


def copy_name(database: str, token: str, now: float) -> str:
    """A name for the copy of a database, one that CouchDB takes wherever it takes the database's. Pure.

    token: of hexadecimal digits, so that no two copies ever have the same name, not even one after the other
    """
    return f"{database}-rotation-{time.strftime('%Y%m%d%H%M%S', time.gmtime(now))}-{token[:8]}"


def copied_database(name: str) -> str | None:
    """The database of which this name may be a copy's, None for any other name. Pure."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def read_marker(client: CouchClient, copy: str) -> Marker | None:
    """The marker of a copy, None where there is none. Raises WMAgentError."""
    note = read_note(client, copy, NOTE)
    return Marker.from_note(copy, note) if note else None


def is_unfinished(client: CouchClient, database: str) -> bool:
    """Whether a database is a new one that is not known to be complete. Raises WMAgentError."""
    note = read_note(client, database, NOTE)
    copy = str(note.get("copy", ""))
    if note.get("role") != NEW or client.find(path_of(copy)) is None:
        return False
    marker = read_marker(client, copy)
    return marker is not None and marker.stage in (Stage.COPYING, Stage.COMPLETE)


def write_marker(client: CouchClient, copy: str, marker: Marker) -> None:
    """Raises CouchError."""
    write_note(client, copy, NOTE, marker.as_note())


def read_state(client: CouchClient, database: str) -> State:
    """How a database is now. Raises WMAgentError."""
    info = client.get(path_of(database))
    cluster = info["cluster"]
    partitioned = "&partitioned=true" if info.get("props", {}).get("partitioned") else ""
    return State(
        seen_of(info),
        f"q={cluster['q']}&n={cluster['n']}{partitioned}",
        client.get(path_of(database, "_security")),
        {name: int(client.get(path_of(database, name))) for name in ("_revs_limit", "_purged_infos_limit")},
    )


def seen_of(info: Mapping[str, Any]) -> tuple[int, ...]:
    """Numbers of ``GET /{db}`` that no write leaves as they were. Pure."""
    return (
        sequence(info["update_seq"]),
        sequence(info.get("purge_seq", 0)),
        int(info["doc_count"]),
        int(info["doc_del_count"]),
    )
