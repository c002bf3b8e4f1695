# SPDX-License-Identifier: GPL-3.0-or-later
"""A database with everything that a rotation has to keep, and what it holds, read without the code under test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient, CouchError, CouchSettings
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.compaction_plan import DATABASES, Disks
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_copy import Pace
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_marker import copied_database, read_marker
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.rotation_run import Rules, Run
from ansible_collections.dmwm.wmagent.plugins.module_utils._limits import Limits
from support.couch_servers import couch_database, delete, write

ROOM = Disks({DATABASES: "disk"}, {"disk": 1 << 40})
RULES = Rules(components_stopped=True, observation=0, minimum_share=0.5, minimum_tombstones=20)
SMALL = Pace(in_flight=2, batch_bytes=4000)
NO_LIMIT = Limits(None, None, None)
SECURITY = {"admins": {"roles": ["_admin"]}, "members": {"names": ["reader"], "roles": ["wmagent"]}}
VIEW = {"language": "javascript", "views": {"all": {"map": "function (doc) { emit(doc.workflow, 1); }"}}}
ODD_NAMES = ["a/b", "c d", "ü-ß-日本", "e?f&g=h#i", '"quoted"', "%2F", "+plus", "\U0001f600"]


def make_run(client: CouchClient, *databases: str, **more: Any) -> Run:
    """A run over some databases, its limits those of a test."""
    words = {"rules": RULES, "limits": NO_LIMIT, "disks": lambda: ROOM, "pace": SMALL} | more
    return Run(client, databases, **words)


def rotate(client: CouchClient, *databases: str, **more: Any) -> Run:
    """A run, done."""
    run = make_run(client, *databases, **more)
    run.look()
    run.run()
    return run


@contextmanager
def rotating(settings: CouchSettings, live: int = 6, gone: int = 80) -> Iterator[str]:
    """A database to be rotated; its copies are dropped with it."""
    client = CouchClient(settings)
    with couch_database(settings) as name:
        try:
            fill(client, name, live, gone)
            yield name
        finally:
            for copy in copies_of(client, name):
                client.delete(path_of(copy))
            if client.find(path_of(name)) is None:
                client.put(path_of(name))


def fill(client: CouchClient, name: str, live: int, gone: int) -> None:
    """Live documents of all kinds, tombstones, settings."""
    client.put(path_of(name, "_security"), SECURITY)
    client.put(path_of(name, "_revs_limit"), 50)
    client.put(path_of(name, "_purged_infos_limit"), 77)
    client.put(path_of(name, "_design/Jobs"), VIEW)
    file = {"content_type": "text/html", "data": "PGI+aGVsbG8gaGVsbG88L2I+"}
    client.put(path_of(name, "_design/couchapp"), {"filters": {"f": "function(){}"}, "_attachments": {"i.html": file}})
    client.put(path_of(name, "_local", quote("note/of agent", safe="")), {"at": [1, 2.5, None]})
    write(client, name, range(live + gone))
    delete(client, name, range(live, live + gone))
    odd = [{"_id": one, "is": "odd", "number": 10**20, "float": 1e-7} for one in ODD_NAMES]
    odd[0]["_attachments"] = {"log/out.txt": {"content_type": "text/plain", "data": "eHh4eHh4eHh4eHh4"}}
    client.post(path_of(name, "_bulk_docs"), {"docs": odd})
    # Edited, so that it has a history; then a losing live leaf, a losing deleted one; and a tombstone with two leaves.
    first = client.get(path_of(name, "0"))
    client.put(path_of(name, "0"), first | {"edited": True})
    foreign = [
        {"_id": "0", "_rev": "1-aa", "loser": 1},
        {"_id": "0", "_rev": "2-bb", "_deleted": True, "_revisions": {"start": 2, "ids": ["bb", "cc"]}, "was": "here"},
        {"_id": "1", "_rev": "1-ff", "loser": 2, "_attachments": {"a": {"content_type": "a/b", "data": "AAEC"}}},
        {"_id": "dead", "_rev": "1-aa", "_deleted": True},
        {"_id": "dead", "_rev": "1-bb", "_deleted": True},
    ]
    client.post(path_of(name, "_bulk_docs"), {"docs": foreign, "new_edits": False})


def copies_of(client: CouchClient, name: str) -> list[str]:
    """Databases that look like copies of this one."""
    return [one for one in client.get("/_all_dbs") if copied_database(one) == name]


def contents(client: CouchClient, name: str) -> dict[str, dict[str, Any]]:
    """Document -> leaf -> what it says, of all live documents."""
    found = {}
    for row in client.get(path_of(name, "_all_docs"))["rows"]:
        design, word = ("_design/", row["id"][8:]) if row["id"].startswith("_design/") else ("", row["id"])
        path = path_of(name, design + quote(word, safe=""))
        leaves = client.get(f"{path}?open_revs=all&revs=true&attachments=true")
        found[row["id"]] = {leaf["ok"]["_rev"]: json.dumps(leaf["ok"], sort_keys=True) for leaf in leaves}
    return found


def settings_of(client: CouchClient, name: str) -> dict[str, Any]:
    """What else a database has, but for its tombstones."""
    rows = client.get(path_of(name, "_local_docs?include_docs=true"))["rows"]
    return {
        "locals": {row["id"]: row["doc"].get("at") for row in rows if "dmwm.wmagent" not in row["id"]},
        "limits": [client.get(path_of(name, limit)) for limit in ("_revs_limit", "_purged_infos_limit")],
        "security": client.get(path_of(name, "_security")),
        "cluster": client.get(path_of(name))["cluster"],
    }


def complete_ones(client: CouchClient, name: str, wanted: dict[str, dict[str, Any]]) -> list[str]:
    """Databases that hold all these leaves and say that they are complete: the old one or a copy that was verified."""
    found = []
    for one in [name, *copies_of(client, name)]:
        try:
            there = contents(client, one)
            marker = None if one == name else read_marker(client, one)
        except CouchError as error:
            assert error.status == 404, error
            continue
        if all(there.get(key, {}).items() >= leaves.items() for key, leaves in wanted.items()) and (
            one == name or (marker and marker.stage.value != "copying")
        ):
            found.append(one)
    return found
