# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace a database by one that holds its live documents only.

CouchDB cannot rename a database. So everything live is copied into a second database and verified; only then is the old
one deleted, made anew under its name, and filled from the copy. At every moment one of the two is complete. A marker in
the copy tells the next run how far this one came.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import NoReturn

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import leaves, rotation_copy
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import (
    CouchClient,
    CouchError,
    CouchLostError,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.leaves import Batches, Tally
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.notes import read_note, remove_note, write_note
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_copy import Pace
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_marker import (
    NEW,
    NOTE,
    OLD,
    Marker,
    Stage,
    copy_name,
    read_state,
    seen_of,
    write_marker,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from ansible_collections.dmwm.wmagent.plugins.module_utils._progress import report

_NOTE_EVERY = 10.0


@dataclass
class Rotated:
    """What came of one database.

    finished: whether the new database is in service, with its indexes
    bytes_before, bytes_after: of its files and those of its indexes
    unbuilt: design documents whose index CouchDB refuses to build, and why
    seconds: step -> how long it took
    """

    database: str
    copy: str
    finished: bool = False
    resumed: bool = False
    stopped_by: str = ""
    tally: Tally = field(default_factory=Tally)
    bytes_before: int = 0
    bytes_after: int = 0
    written_meanwhile: bool = False
    unbuilt: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class GivenUpError(WMAgentError):
    """The database was not rotated, and is as it was; its copy is dropped."""


class Rotation:
    """The rotation of one database.

    limits: looked at between two batches and before the old database is deleted, and not after
    index_seconds: for building all indexes
    may_delete: asked right before the old database is deleted; what stands in the way, one line each
    note: is told each step in words
    """

    def __init__(
        self,
        client: CouchClient,
        database: str,
        limits: Limits,
        pace: Pace = Pace(),  # noqa: B008 - frozen
        index_seconds: float = 6 * 3600,
        may_delete: Callable[[str], list[str]] = lambda database: [],
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._client = client
        self._database = database
        self._limits = limits
        self._pace = pace
        self._index_seconds = index_seconds
        self._may_delete = may_delete
        self._note = note
        self.result = Rotated(database, "")

    def begin(self) -> Rotated:
        """Rotate. Raises WMAgentError; GivenUpError where nothing has come of it."""
        client, database = self._client, self._database
        now = time.time()
        state = read_state(client, database)
        token = uuid.uuid4().hex
        marker = Marker(database, token, Stage.COPYING, state, now, file=file_bytes(client, database))
        copy = copy_name(database, token, now)
        self.result.copy = copy
        rotation_copy.make(client, copy, state)
        write_marker(client, copy, marker)
        write_note(client, database, NOTE, {"role": OLD, "token": marker.token, "copy": copy})
        return self._copy_and_replace(copy, marker)

    def go_on(self, copy: str, marker: Marker) -> Rotated:
        """Go on with one whose old database is there, unchanged. Raises WMAgentError."""
        self.result.copy = copy
        self.result.resumed = True
        if marker.stage is not Stage.COPYING:
            # It was complete when the marker was written, which may be long ago.
            try:
                self._verify_copy(copy, marker, self._batches(marker))
            except GivenUpError as error:
                self._give_up(copy, error)
        return self._copy_and_replace(copy, marker)

    def finish(self, copy: str, marker: Marker) -> Rotated:
        """End one whose old database is gone. Raises WMAgentError."""
        self.result.copy = copy
        self.result.resumed = True
        return self._fill(copy, marker)

    def _copy_and_replace(self, copy: str, marker: Marker) -> Rotated:
        try:
            if marker.stage is Stage.COPYING:
                marker = self._copy_or_give_up(copy, marker)
            self.result.stopped_by = self._limits.reason(0)
            if marker.stage is Stage.COPYING or self.result.stopped_by:
                return self.result
            marker = self._sync(copy, marker)
            if reasons := self._may_delete(self._database):
                raise GivenUpError(f"{self._database}: {'; '.join(reasons)}")
            self._check_unchanged(marker)
        except GivenUpError as error:
            self._give_up(copy, error)
        with _timed(self.result, "delete"):
            self._note(f"{self._database}: is replaced")
            rotation_copy.remove(self._client, self._database)
        return self._fill(copy, marker)

    def _give_up(self, copy: str, error: GivenUpError) -> NoReturn:
        give_up(self._client, self._database, copy)
        raise GivenUpError(f"{error}. The copy was dropped, and {self._database} is as it was") from None

    def _copy_or_give_up(self, copy: str, marker: Marker) -> Marker:
        try:
            return self._copy(copy, marker)
        except (CouchLostError, GivenUpError):
            raise
        except WMAgentError as error:
            # Where the disk is full, say, a copy that stays there is the last thing that the agent needs.
            raise GivenUpError(str(error)) from None

    def _copy(self, copy: str, marker: Marker) -> Marker:
        client, limit = self._client, marker.state.revs_limit
        batches = self._batches(marker)
        self._note(f"{self._database}: live documents are copied to {copy}")
        with _timed(self.result, "copy"):
            names = leaves.without_designs(leaves.read_names(client, self._database, marker.after))
            noted = time.monotonic()
            copied = rotation_copy.each_copied(
                client, self._database, copy, names, batches, limit, self._pace.in_flight
            )
            for last, tally in copied:
                marker = marker.with_(after=last, tally=marker.tally + tally)
                report(f"copies {self._database}", marker.tally.documents, marker.state.seen[2], "documents")
                self.result.stopped_by = self._limits.reason(0)
                if self.result.stopped_by or time.monotonic() - noted > _NOTE_EVERY:
                    write_marker(client, copy, marker)
                    noted = time.monotonic()
                if self.result.stopped_by:
                    return marker
            rotation_copy.copy_locals(client, self._database, copy, same=True)
            designs = rotation_copy.copy_designs(client, self._database, copy, limit)
        # What was copied is noted without the design documents: a run that goes on from here copies them again.
        write_marker(client, copy, marker)
        whole = marker.with_(tally=marker.tally + designs)
        with _timed(self.result, "verify the copy"):
            self._verify_copy(copy, whole, batches)
        whole = whole.with_(stage=Stage.COMPLETE)
        write_marker(client, copy, whole)
        return whole

    def _verify_copy(self, copy: str, marker: Marker, batches: Batches) -> None:
        self._check_unchanged(marker)
        live = marker.state.seen[2]
        if marker.tally.documents != live:
            raise GivenUpError(
                f"{self._database} counts {live} live documents and lists {marker.tally.documents}, as after a purge "
                "of winning revisions only"
            )
        found = self._tally(copy, marker, batches)
        if found != marker.tally:
            raise GivenUpError(
                f"{copy} holds {found.documents} documents with {found.leaves} leaves that are not the "
                f"{marker.tally.documents} with {marker.tally.leaves} that were copied"
            )

    def _check_unchanged(self, marker: Marker) -> None:
        note = read_note(self._client, self._database, NOTE)
        info = self._client.get(path_of(self._database))
        if note.get("token") != marker.token or note.get("role") != OLD or seen_of(info) != marker.state.seen:
            raise GivenUpError(f"{self._database} was changed while it was copied; is a component still running?")

    def _sync(self, copy: str, marker: Marker) -> Marker:
        """What may have changed without a sequence being changed: access and ``_local`` documents."""
        rotation_copy.copy_locals(self._client, self._database, copy, same=True)
        security = self._client.get(path_of(self._database, "_security"))
        if security != marker.state.security:
            marker = marker.with_(state=replace(marker.state, security=security))
            write_marker(self._client, copy, marker)
            rotation_copy.make(self._client, copy, marker.state)
        return marker

    def _fill(self, copy: str, marker: Marker) -> Rotated:
        try:
            return self._fill_to_the_end(copy, marker)
        except WMAgentError as error:
            raise WMAgentError(
                f"{error}. {self._database} was deleted and is not complete yet; its documents are in {copy}. Run "
                "again before the agent is started"
            ) from None

    def _fill_to_the_end(self, copy: str, marker: Marker) -> Rotated:
        client, database = self._client, self._database
        self.result.tally, self.result.bytes_before = marker.tally, marker.file
        if not self._is_verified(marker):
            with _timed(self.result, "fill"):
                self._wait_for_another_second(marker)
                rotation_copy.make(client, database, marker.state)
                write_note(client, database, NOTE, {"role": NEW, "token": marker.token, "copy": copy})
                marker = self._fill_and_verify(copy, marker)
            write_marker(client, copy, marker)
        with _timed(self.result, "indexes"):
            deadline = time.monotonic() + self._index_seconds
            self.result.unbuilt = rotation_copy.build_indexes(client, database, deadline, self._note)
        write_marker(client, copy, marker.with_(stage=Stage.DONE, done=time.time()))
        self.result.bytes_after = file_bytes(client, database)
        self.result.written_meanwhile = marker.written_meanwhile
        self.result.finished = True
        return self.result

    def _is_verified(self, marker: Marker) -> bool:
        if marker.stage is not Stage.VERIFIED or not rotation_copy.exists(self._client, self._database):
            return False
        note = read_note(self._client, self._database, NOTE)
        return note.get("role") == NEW and note.get("token") == marker.token

    def _fill_and_verify(self, copy: str, marker: Marker) -> Marker:
        client, database, limit = self._client, self._database, marker.state.revs_limit
        self._note(f"{database}: is filled from {copy}")
        batches = self._batches(marker)
        names = leaves.without_designs(leaves.read_names(client, copy))
        filled = 0
        for _, tally in rotation_copy.each_copied(client, copy, database, names, batches, limit, self._pace.in_flight):
            filled += tally.documents
            report(f"fills {database} from its copy", filled, marker.tally.documents, "documents")
        rotation_copy.copy_locals(client, copy, database, same=False)
        rotation_copy.copy_designs(client, copy, database, limit)
        meanwhile = self._tally(database, marker, batches) != marker.tally
        if meanwhile:
            # The agent wrote before the database was complete: what it wrote stays, nothing of the copy may be missing.
            rotation_copy.verify_merged(client, copy, database, limit, batches, self._pace.in_flight)
        return marker.with_(stage=Stage.VERIFIED, written_meanwhile=meanwhile)

    def _wait_for_another_second(self, marker: Marker) -> None:
        """CouchDB names a database's files by the second of its making, and deletes an old one's a while later."""
        time.sleep(max(0.0, min(1.1, marker.begun + 1.1 - time.time())))

    def _batches(self, marker: Marker) -> Batches:
        known = marker.tally.bytes / marker.tally.documents if marker.tally.documents else 0
        return Batches(known or 4096, self._pace.batch_bytes)

    def _tally(self, database: str, marker: Marker, batches: Batches) -> Tally:
        return leaves.tally_database(self._client, database, marker.state.revs_limit, batches, self._pace.in_flight)


def give_up(client: CouchClient, database: str, copy: str) -> None:
    """Drop a copy whose database was not replaced. Raises WMAgentError."""
    if not rotation_copy.exists(client, database):
        raise WMAgentError(f"{database} is gone, so {copy} is not dropped")
    rotation_copy.remove(client, copy)
    # A full disk takes no note's removal either; a note whose copy is gone does no harm.
    with suppress(CouchError):
        if read_note(client, database, NOTE).get("copy") == copy:
            remove_note(client, database, NOTE)


def file_bytes(client: CouchClient, database: str) -> int:
    """Bytes of a database's files and of its indexes. Raises WMAgentError."""
    found = read_database(client, database)
    return found.sizes.file + sum(view.sizes.file for view in found.views)


@contextmanager
def _timed(result: Rotated, step: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    result.seconds[step] = round(result.seconds.get(step, 0.0) + time.monotonic() - started, 3)
