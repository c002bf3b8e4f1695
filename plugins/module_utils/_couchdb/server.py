# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent's CouchDB holds, seen for whether any document in any of its databases was changed."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import (
    CouchClient,
    CouchSettings,
    settings_from_secrets,
)
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

__all__ = ["CouchSettings", "compare_databases", "describe", "read_databases", "settings_from_secrets"]

_BATCH = 100  # the server's own default for max_db_number_for_dbs_info_req
_NOT_RECORDS = frozenset(["_global_changes"])  # CouchDB's own notes about changes elsewhere
_COMPARED = {
    "created": "was deleted and made anew",
    "seq": "was written",
    "purges": "was purged",
    "docs": "has another number of documents",
    "deleted": "has another number of deleted documents",
    "state": "has another update sequence",
}

Databases = dict[str, Any]


def read_databases(settings: CouchSettings, timeout: float = 30) -> Databases:
    """A reading of all databases of a server::

        {"server": "<uuid>", "version": "3.5.0", "databases": {"workqueue": {"seq": 12, "docs": 3, …}},
         "replicated": ["workqueue_inbox"]}

    replicated: databases that CouchDB itself keeps filling by a replication, the agent stopped or not.
    timeout:    seconds for each request.

    Raises WMAgentError: unreachable, refused, or an answer that is not CouchDB's.
    """
    client = CouchClient(settings, timeout)
    welcome = client.get("/")
    if not isinstance(welcome, dict) or welcome.get("couchdb") != "Welcome":
        raise WMAgentError(f"{settings.where} is no CouchDB; do COUCH_HOST and COUCH_PORT name the right one?")
    # Asked for before the sequences: a replication that ends in between still counts.
    replicated = _replication_targets(client)
    names = _expect(client.get("/_all_dbs"), list, settings, "/_all_dbs")
    databases: dict[str, Any] = {}
    wanted = [name for name in names if name not in _NOT_RECORDS]
    for start in range(0, len(wanted), _BATCH):
        databases |= _read_batch(client, wanted[start : start + _BATCH])
    return {
        "server": str(welcome.get("uuid", "")),
        "version": str(welcome.get("version", "")),
        "databases": databases,
        "replicated": sorted(replicated & databases.keys()),
    }


def _read_batch(client: CouchClient, names: Sequence[str]) -> dict[str, Any]:
    answer = _expect(client.post("/_dbs_info", {"keys": list(names)}), list, client.settings, "/_dbs_info")
    databases = {}
    for entry in answer:
        info = entry.get("info") if isinstance(entry, dict) else None
        if not isinstance(info, dict):
            raise WMAgentError(f"{client.settings.where} cannot tell about database {entry!r:.120}; try again")
        databases[str(entry["key"])] = _state(info, client.settings)
    if missing := sorted(set(names) - databases.keys()):
        raise WMAgentError(f"{client.settings.where} left out database {missing[0]} from its answer; try again")
    return databases


def _state(info: Mapping[str, Any], settings: CouchSettings) -> dict[str, Any]:
    try:
        return {
            "seq": _number(info["update_seq"]),
            "state": hashlib.sha256(str(info["update_seq"]).encode()).hexdigest()[:16],
            "purges": _number(info.get("purge_seq", 0)),
            "docs": int(info["doc_count"]),
            "deleted": int(info["doc_del_count"]),
            "created": str(info.get("instance_start_time", "")),
        }
    except (KeyError, ValueError, TypeError):
        raise WMAgentError(
            f"{settings.where} tells no update_seq of {info.get('db_name')}; is it a CouchDB 2 or 3?"
        ) from None


def _number(sequence: Any) -> int:
    """The number before the dash: how many changes a database has seen."""
    return int(str(sequence).partition("-")[0])


def _expect(answer: Any, kind: type, settings: CouchSettings, path: str) -> Any:
    if not isinstance(answer, kind):
        raise WMAgentError(f"{settings.where} answered {path} with no {kind.__name__}; is it a CouchDB 2.2 or later?")
    return answer


def _replication_targets(client: CouchClient) -> set[str]:
    jobs = _expect(client.get("/_scheduler/jobs?limit=10000"), dict, client.settings, "/_scheduler/jobs")
    tasks = _expect(client.get("/_active_tasks"), list, client.settings, "/_active_tasks")
    running = [*_expect(jobs.get("jobs"), list, client.settings, "/_scheduler/jobs")]
    running += [task for task in tasks if task.get("type") == "replication"]
    targets = (local_database(job.get("target"), client.settings) for job in running)
    return {target for target in targets if target}


def local_database(target: Any, settings: CouchSettings) -> str | None:
    """The local database that a replication writes into, or None where it writes to another server.

    target: a database name or a URL, with or without credentials.
    """
    if isinstance(target, dict):
        target = target.get("url")
    if not isinstance(target, str) or not target:
        return None
    if "://" not in target:
        return unquote(target.strip("/"))
    url = urlsplit(target)
    port = url.port or (443 if url.scheme == "https" else 80)
    if port != settings.port or not _is_this_host(url.hostname or "", settings.host):
        return None
    return unquote(url.path.strip("/"))


def _is_this_host(name: str, host: str) -> bool:
    names = {host.lower(), "localhost", socket.gethostname().lower(), socket.getfqdn().lower()}
    if name.lower() in names:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def compare_databases(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What was changed between two readings, one line each; databases under replication are left out. Pure.

    Raises WMAgentError where one of them is no reading.
    """
    for reading in (before, after):
        if not isinstance(reading, Mapping) or not all(key in reading for key in ("server", "databases", "replicated")):
            raise WMAgentError("this is no reading of a CouchDB; take it with records_info")
    if before["server"] != after["server"]:
        return [f"the readings are of different CouchDB servers: {before['server']} and {after['server']}"]
    one, two = before["databases"], after["databases"]
    left_out = {*before["replicated"], *after["replicated"]}
    lines = []
    for name in sorted((one.keys() | two.keys()) - left_out):
        if name not in one or name not in two:
            lines.append(f"{name}: was {'created' if name not in one else 'deleted'}")
            continue
        said = next((text for key, text in _COMPARED.items() if one[name].get(key) != two[name].get(key)), None)
        if said:
            lines.append(f"{name}: {said}")
    return lines


def describe(reading: Mapping[str, Any]) -> str:
    """How much was read, in words: ``8 CouchDB databases (workqueue_inbox under replication left out)``."""
    text = f"{len(reading['databases']) - len(reading['replicated'])} CouchDB databases"
    if reading["replicated"]:
        text += f" ({', '.join(reading['replicated'])} under replication left out)"
    return text
