# SPDX-License-Identifier: GPL-3.0-or-later
"""A CouchDB database saved in a file and brought back: live documents with all their leaves, settings, local notes.

A file is gzipped lines of JSON. The first is a head with how the database is made; then one line for each document,
``[id, [leaves]]``; then one for each ``_local`` document; the last tells how much there was. Tombstones are not saved:
they say only what is not there.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb import leaves, rotation_copy
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of, read_database
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.leaves import Batches, Leaves, Tally
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError
from ansible_collections.dmwm.wmagent.plugins.module_utils._redeploy.dump import digest_of, private_file

FORMAT = 1
_IN_FLIGHT = 2
_FIRST_GUESS = 4096
_LEVEL = 4


@dataclass(frozen=True)
class Saved:
    """One saved database.

    file:       the file; size: its bytes; sha256: hex
    documents, leaves, tombstones: of the database as it was saved
    update_seq: opaque; another one means that somebody wrote since
    """

    file: str
    size: int
    sha256: str
    documents: int
    leaves: int
    tombstones: int
    update_seq: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Saved:
        """What :meth:`as_dict` gave. Raises WMAgentError."""
        try:
            return cls(**data)
        except TypeError:
            raise WMAgentError("the journal tells of a saved database in a way that is not this version's") from None


def file_name(database: str) -> str:
    """Name of the file for a database, whose own may hold slashes."""
    return f"{quote(database, safe='')}.json.gz"


def save(client: CouchClient, database: str, folder: Path) -> Saved:
    """Save a database that nobody writes to, and read it back. Raises WMAgentError, also where somebody wrote."""
    before = read_database(client, database)
    head = {
        "format": FORMAT,
        "database": database,
        "security": client.get(path_of(database, "_security")),
        "limits": {"_revs_limit": before.revs_limit, "_purged_infos_limit": before.purged_infos_limit},
    }
    file = folder / file_name(database)
    partial = file.with_name(f".{file.name}.part")
    try:
        total = _write(client, database, head, before.revs_limit, partial)
    except OSError as error:
        raise WMAgentError(f"{partial} cannot be written ({error.strerror}); is its disk full?") from None
    after = read_database(client, database)
    if (before.update_seq, before.purge_seq) != (after.update_seq, after.purge_seq):
        raise WMAgentError(f"{database} was written to while it was saved; stop who does that, and run again")
    if before.documents != total.documents:
        raise WMAgentError(f"{database} tells of {before.documents} documents and showed {total.documents}; run again")
    if tally_of_file(partial) != total:
        raise WMAgentError(f"{partial} does not hold what was written into it; look at the disk's health")
    partial.rename(file)
    return Saved(
        str(file),
        file.stat().st_size,
        digest_of(file),
        total.documents,
        total.leaves,
        before.tombstones,
        before.update_seq,
    )


def _write(client: CouchClient, database: str, head: Mapping[str, Any], revs_limit: int, file: Path) -> Tally:
    total = Tally()
    batches = Batches(_FIRST_GUESS)
    with private_file(file) as raw:
        with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=_LEVEL, mtime=0) as packed:
            packed.write(_line(head))
            for page in leaves.read_names(client, database):
                start = 0
                while start < len(page):
                    names = page[start : start + batches.documents]
                    start += len(names)
                    documents = leaves.read_leaves(client, database, names)
                    tally = leaves.tally_of(documents, revs_limit)
                    batches.saw(tally)
                    total += tally
                    for name, found in documents.items():
                        packed.write(_line([name, found]))
            for name, body in rotation_copy.read_locals(client, database).items():
                packed.write(_line({"local": name, "body": body}))
            packed.write(_line({"end": total.as_note()}))
        raw.flush()
        os.fsync(raw.fileno())
    return total


def _line(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"


def read_lines(file: Path) -> Iterator[Any]:
    """The head, then everything else. Raises WMAgentError for a file that is not whole."""
    last: Any = None
    try:
        with gzip.open(file, "rb") as lines:
            for number, line in enumerate(lines):
                last = json.loads(line)
                if number == 0 and (not isinstance(last, dict) or last.get("format") != FORMAT):
                    raise WMAgentError(f"{file} holds no database saved by this version")
                yield last
    except (OSError, EOFError, ValueError) as error:
        raise WMAgentError(f"{file} cannot be read ({error}); use another copy of it") from None
    if not isinstance(last, dict) or "end" not in last:
        raise WMAgentError(f"{file} ends too early; use another copy of it")


def tally_of_file(file: Path) -> Tally:
    """What a file holds, and that it says so itself. Raises WMAgentError."""
    total, told, revs_limit = Tally(), None, 0
    for line in read_lines(file):
        if isinstance(line, list):
            total += leaves.tally_of({line[0]: line[1]}, revs_limit)
        elif "limits" in line:
            revs_limit = int(line["limits"]["_revs_limit"])
        elif "end" in line:
            told = Tally.from_note(line["end"])
    if told != total:
        raise WMAgentError(f"{file} holds other documents than it tells of; use another copy of it")
    return total


def restore(client: CouchClient, file: Path, database: str = "") -> tuple[str, Tally]:
    """Bring a database back, beside what is there under no name yet. Its name and what it holds.

    database: another name than its own. Raises WMAgentError, also where one of that name is there.
    """
    lines = read_lines(file)
    head = next(lines)
    name = database or str(head["database"])
    total = tally_of_file(file)
    if rotation_copy.exists(client, name):
        raise WMAgentError(f"{client.settings.where} has a database {name}; remove it first, or give another name")
    client.put(path_of(name))
    client.put(path_of(name, "_security"), head["security"])
    for limit, number in head["limits"].items():
        client.put(path_of(name, limit), number)
    _write_back(client, name, lines)
    revs_limit = int(head["limits"]["_revs_limit"])
    there = leaves.tally_database(client, name, revs_limit, Batches(_FIRST_GUESS), _IN_FLIGHT)
    if there != total:
        raise WMAgentError(
            f"{name} holds {there.documents} documents after it was brought back from {file}, not {total.documents} "
            "with the same contents; remove it, and run again"
        )
    return name, total


def is_as_saved(client: CouchClient, database: str, file: Path) -> bool:
    """Whether a database holds exactly what a file does. Raises WMAgentError."""
    revs_limit = int(next(read_lines(file))["limits"]["_revs_limit"])
    return leaves.tally_database(client, database, revs_limit, Batches(_FIRST_GUESS), _IN_FLIGHT) == tally_of_file(file)


def _write_back(client: CouchClient, name: str, lines: Iterator[Any]) -> None:
    # Design documents come last, since CouchDB begins with an index as soon as it has its design document.
    waiting: dict[str, Leaves] = {}
    designs: dict[str, Leaves] = {}
    size = 0
    for line in lines:
        if isinstance(line, list):
            target = designs if line[0].startswith(leaves.DESIGN) else waiting
            target[line[0]] = line[1]
            size += 1 if target is designs else len(json.dumps(line[1]))
        elif "local" in line:
            short = quote(str(line["local"]).removeprefix("_local/"), safe="")
            client.put(path_of(name, "_local", short), line["body"])
        if size > leaves.BATCH_BYTES:
            leaves.write_leaves(client, name, waiting)
            waiting, size = {}, 0
    leaves.write_leaves(client, name, waiting)
    leaves.write_leaves(client, name, designs)


def changes_since_saved(saved: Mapping[str, Saved], live: Mapping[str, str], some_gone: bool) -> list[str]:
    """Which databases are not as they were saved, one line each. Pure.

    live: database -> update_seq, of the agent's databases that are there
    some_gone: a wipe was cut off, so some may be gone
    """
    lines = [f"{name} is new" for name in sorted(live.keys() - saved.keys())]
    if not some_gone:
        lines += [f"{name} is gone" for name in sorted(saved.keys() - live.keys())]
    lines += [
        f"{name} was written to" for name in sorted(live.keys() & saved.keys()) if live[name] != saved[name].update_seq
    ]
    return lines
