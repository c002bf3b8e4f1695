# SPDX-License-Identifier: GPL-3.0-or-later
"""Change an agent's WMAGENT_CONFIG document and keep what others change at the same time.

ReqMgr2's PUT replaces the whole document and its GET leaves the revision out (WMCore.ReqMgr.Service.Auxiliary), so
there is no lock. What CouchDB itself tells of the document's revisions closes the gap where it can be read: whether
another wrote between the last look and the PUT, and what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.agent_config import (
    Document,
    only_result,
    path_of,
    read_document,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.central import CentralClient, CentralError
from ansible_collections.dmwm.wmagent.plugins.module_utils._drain.flags import differences, merge
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

_TRIES = 5
_SERVER_ERRORS = 500


@dataclass
class Outcome:
    """What came of it.

    before, after: the document as it was found, and as it is (check mode: as it would be)
    guarded:  whether an overwritten change of another would have been noticed
    notes:    what a person should know, one line each
    restored: fields of others that were overwritten and put back
    """

    before: Document
    after: Document
    guarded: bool = False
    notes: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)


class History:
    """The document's revisions, read from the central CouchDB. client: its URL is the database's."""

    def __init__(self, client: CentralClient, agent: str) -> None:
        self._client = client
        self._path = "/" + quote(f"WMAGENT_CONFIG_{agent}", safe="")

    def revision(self, document: Document) -> str:
        """The current revision. Raises WMAgentError, also where its content is not this document."""
        found = self._client.get(self._path)
        if not isinstance(found, Mapping) or "_rev" not in found:
            raise WMAgentError(f"{self._client.where} answered with no document")
        if _content(found) != document:
            raise WMAgentError(f"{self._client.where} holds another document than ReqMgr2 does")
        return str(found["_rev"])

    def overwritten(self, before: str, ours: str) -> Document | None:
        """What others had made of the document after one revision and before another; None where nobody wrote.

        Raises WMAgentError where it cannot be had.
        """
        found = self._client.get(f"{self._path}?revs=true&rev={quote(ours, safe='')}")
        try:
            start, digests = int(found["_revisions"]["start"]), found["_revisions"]["ids"]
            names = [f"{start - number}-{digest}" for number, digest in enumerate(digests)]
        except (KeyError, TypeError, ValueError):
            raise WMAgentError(f"{self._client.where} does not tell the document's revisions") from None
        if before not in names:
            raise WMAgentError(f"{self._client.where} no longer knows revision {before} of the document")
        replaced = names[1]
        if replaced == before:
            return None
        return _content(self._client.get(f"{self._path}?rev={quote(replaced, safe='')}"))


def _content(found: Any) -> Document:
    return {key: value for key, value in found.items() if not key.startswith("_")}


class ConfigWriter:
    """Writes one agent's document. history: None where revisions cannot be read, and ``why`` says why."""

    def __init__(self, client: CentralClient, agent: str, history: History | None, why: str = "") -> None:
        self._client = client
        self._agent = agent
        self._history = history
        self._why = why

    def plan(self, change: Callable[[Document], Document]) -> Outcome:
        """What would change; nothing does. Raises WMAgentError."""
        before = read_document(self._client, self._agent)
        return Outcome(before, change(before))

    def apply(self, change: Callable[[Document], Document]) -> Outcome:
        """Change the document.

        change: from the document as it is to the document as it has to be; may be called more than once

        Raises WMAgentError: not reached or refused; others write all the time; another's change was overwritten and
        cannot be had back.
        """
        outcome: Outcome | None = None
        notes: list[str] = []
        restored: list[str] = []
        pending: list[tuple[Document, Document]] = []
        for _ in range(_TRIES):
            document = read_document(self._client, self._agent)
            wanted = change(document)
            for base, overwritten in pending:
                wanted = merge(base, overwritten, wanted)
            outcome = outcome or Outcome(document, document, notes=notes, restored=restored)
            outcome.after = wanted
            if wanted == document:
                return outcome
            revision = self._revision(document, outcome)
            if read_document(self._client, self._agent) != document:
                continue
            ours = self._put(wanted)
            theirs = self._lost(revision, ours, outcome)
            if theirs is not None:
                restored += [one["field"] for one in differences(document, theirs)]
                pending.append((document, theirs))
            elif read_document(self._client, self._agent) == wanted:
                return outcome
        raise WMAgentError(
            f"the configuration of {self._agent} was changed by others each time it was to be written "
            f"({_TRIES} times); find out what writes it, and run the same task again"
        )

    def _revision(self, document: Document, outcome: Outcome) -> str:
        """The revision that is about to be replaced; '' where it cannot be told."""
        why = self._why
        if self._history is not None:
            try:
                revision = self._history.revision(document)
            except WMAgentError as error:
                why = str(error)
            else:
                outcome.guarded = True
                return revision
        outcome.guarded = False
        note = f"a change that another makes in the moment of the writing would not be noticed: {why}"
        if note not in outcome.notes:
            outcome.notes.append(note)
        return ""

    def _put(self, wanted: Document) -> str:
        """Write; returns the new revision, '' where it is not told."""
        try:
            answer = self._client.put(path_of(self._agent), wanted)
        except CentralError as error:
            if 0 < error.status < _SERVER_ERRORS:
                raise
            # It may have been done all the same.
            if read_document(self._client, self._agent) != wanted:
                raise
            return ""
        result = only_result(self._client, answer)
        if not isinstance(result, Mapping) or not result.get("ok"):
            raise WMAgentError(f"{self._client.where} did not store the configuration of {self._agent}")
        return str(result.get("rev") or "")

    def _lost(self, before: str, ours: str, outcome: Outcome) -> Document | None:
        if self._history is None or not before:
            return None
        if not ours:
            outcome.guarded = False
            outcome.notes.append("ReqMgr2 did not tell which revision it wrote, so nobody knows what was overwritten")
            return None
        try:
            return self._history.overwritten(before, ours)
        except WMAgentError as error:
            raise WMAgentError(
                f"the configuration of {self._agent} was written, and whether another's change was overwritten cannot "
                f"be told ({error}); compare it with what it should be"
            ) from None
