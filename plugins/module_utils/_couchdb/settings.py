# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of databases and of the server: what is asked for, what differs, and writing only that.

Writing a database's limit raises its update sequence even where the limit stays the same, and every replication and
index then has something to do. So nothing is written that is there already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.client import CouchClient
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.databases import path_of
from ansible_collections.dmwm.wmagent.plugins.module_utils._couchdb.obsolete_settings import shown
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

LIMITS = ("revs_limit", "purged_infos_limit")
CONFIG = "/_node/_local/_config"

_TIME = re.compile(r"([01]?\d|2[0-3]):[0-5]\d")
_NAME = re.compile(r"[A-Za-z0-9_]+")
_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency", "none")


@dataclass(frozen=True)
class Wanted:
    """What is asked for. limits: of each database, name → number; server: section → key → text as CouchDB keeps it."""

    limits: Mapping[str, int]
    server: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Change:
    """One setting that differs. database: '' for one of the server; before: None where it is not set."""

    database: str
    section: str
    key: str
    before: str | None
    after: str

    @property
    def path(self) -> str:
        """Where it is written."""
        if self.database:
            return path_of(self.database, f"_{self.key}")
        return f"{CONFIG}/{quote(self.section, safe='')}/{quote(self.key, safe='')}"

    def __str__(self) -> str:
        return f"{self.database} {self.key}" if self.database else f"[{self.section}] {self.key}"


def _whole(least: int) -> Callable[[Any, str], str]:
    def check(value: Any, what: str) -> str:
        text = str(value).strip()
        if isinstance(value, bool) or not text.isascii() or not text.isdigit() or int(text) < least:
            raise WMAgentError(f"{what} is {value!r}; it is a whole number, {least} or more")
        return str(int(text))

    return check


def _number(value: Any, what: str) -> str:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 < number < float("inf"):
        raise WMAgentError(f"{what} is {value!r}; it is a number above 0")
    # CouchDB reads neither 1e9 nor 2. as a number.
    return str(int(number)) if number.is_integer() else f"{number:.6f}".rstrip("0")


def _or_infinity(check: Callable[[Any, str], str]) -> Callable[[Any, str], str]:
    return lambda value, what: "infinity" if value == "infinity" else check(value, what)


def _flag(value: Any, what: str) -> str:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise WMAgentError(f"{what} is {value!r}; it is true or false")
    return text


def _time(value: Any, what: str) -> str:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise WMAgentError(f"{what} is {value!r}; write a time of the day in UTC as 'HH:MM', in quotes")
    return value


def _channels(value: Any, what: str) -> str:
    names = value if isinstance(value, list) else re.split(r"\s*,\s*", str(value).strip())
    if not names or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise WMAgentError(f"{what} is {value!r}; it is a list of names of channels")
    return ",".join(names)


def _one_of(*choices: str) -> Callable[[Any, str], str]:
    def check(value: Any, what: str) -> str:
        if value not in choices:
            raise WMAgentError(f"{what} is {value!r}; it is one of {', '.join(choices)}")
        return str(value)

    return check


_PURGE = {"max_document_id_number": _whole(1), "max_revisions_number": _whole(1), "index_lag_warn_seconds": _whole(1)}
_SMOOSH = {
    "db_channels": _channels,
    "view_channels": _channels,
    "cleanup_channels": _channels,
    "staleness": _whole(0),
    "wait_secs": _whole(0),
    "cleanup_index_files": _flag,
    "persist": _flag,
    "compaction_log_level": _one_of(*_LEVELS),
}
_CHANNEL = {
    "priority": _one_of("ratio", "slack"),
    "min_priority": _number,
    "max_priority": _or_infinity(_number),
    "min_size": _whole(0),
    "max_size": _or_infinity(_whole(1)),
    "min_changes": _whole(0),
    "capacity": _whole(1),
    "concurrency": _whole(1),
    "from": _time,
    "to": _time,
    "strict_window": _flag,
}


def wanted_settings(params: Mapping[str, Any]) -> Wanted:
    """What the options ``revs_limit``, ``purged_infos_limit``, ``purge`` and ``smoosh`` ask for.

    Raises WMAgentError that names the option for a key that CouchDB does not have and a value that it would not take;
    CouchDB itself takes any text, and its compaction daemon then ends with an error.
    """
    limits = {name: int(_whole(1)(params[name], name)) for name in LIMITS if params[name] is not None}
    server: dict[str, dict[str, str]] = {}
    for key, value in (params["purge"] or {}).items():
        server.setdefault("purge", {})[key] = _checked(_PURGE, key, value, f"purge.{key}")
    for key, value in (params["smoosh"] or {}).items():
        if not isinstance(value, Mapping):
            server.setdefault("smoosh", {})[key] = _checked(_SMOOSH, key, value, f"smoosh.{key}")
            continue
        if not _NAME.fullmatch(str(key)):
            raise WMAgentError(f"smoosh has {key!r}, which is no name of a channel")
        for name, one in value.items():
            server.setdefault(f"smoosh.{key}", {})[name] = _checked(_CHANNEL, name, one, f"smoosh.{key}.{name}")
    return Wanted(limits, server)


def _checked(known: Mapping[str, Callable[[Any, str], str]], key: Any, value: Any, what: str) -> str:
    if key not in known:
        raise WMAgentError(f"{what} is no setting of CouchDB's; there are {', '.join(sorted(known))}")
    return known[key](value, what)


def differences(
    wanted: Wanted, config: Mapping[str, Mapping[str, str]], limits: Mapping[str, Mapping[str, int]]
) -> list[Change]:
    """What has to be written, in a fixed order.

    config: section → key → text, as the server has it
    limits: database → name → number, as it has them
    """
    changes = [
        Change("", section, key, config.get(section, {}).get(key), value)
        for section, keys in sorted(wanted.server.items())
        for key, value in sorted(keys.items())
        if not same(config.get(section, {}).get(key), value)
    ]
    for database in sorted(limits):
        for name, value in sorted(wanted.limits.items()):
            if limits[database][name] != value:
                changes.append(Change(database, "", name, str(limits[database][name]), str(value)))
    return changes


def same(there: str | None, wanted: str) -> bool:
    """Whether two texts mean the same: ``2`` and ``2.0``, ``a, b`` and ``a,b``."""
    if there is None:
        return False
    if re.split(r"\s*,\s*", there.strip()) == wanted.split(","):
        return True
    try:
        return float(there) == float(wanted)
    except ValueError:
        return False


def read_config(client: CouchClient) -> dict[str, dict[str, str]]:
    """The server's configuration, secrets included: not for telling. Raises WMAgentError, also for no admin."""
    config = client.get(CONFIG)
    if not isinstance(config, dict) or not all(isinstance(keys, dict) for keys in config.values()):
        raise WMAgentError(f"{client.settings.where} answered {CONFIG} with no settings; is a proxy in between?")
    return config


def read_limits(client: CouchClient, databases: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, int]]:
    """These limits of these databases. Raises WMAgentError."""
    return {
        database: {name: int(client.get(path_of(database, f"_{name}"))) for name in names} for database in databases
    }


def write_change(client: CouchClient, change: Change) -> None:
    """Write one and read it back. Raises WMAgentError, also where CouchDB has something else afterwards."""
    client.put(change.path, int(change.after) if change.database else change.after)
    there = client.get(change.path)
    if not same(str(there), change.after):
        raise WMAgentError(
            f"{client.settings.where} has {shown(change.section, change.key, str(there))!r} for {change} after "
            f"{change.after!r} was written; does something else change it at the same time?"
        )
