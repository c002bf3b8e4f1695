# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of CouchDB 1 and 2 that CouchDB 3 does not read any more, and what they are called now; no server here.

Each rule is CouchDB's own: its release notes ("What's new"), the guide "Compaction" in its documentation, or, where
these are silent, what the sources of 3.2.2 and 3.5.0 ask their configuration for. Not listed, since 3.5.0 still reads
them: ``[database_compaction]``, ``[view_compaction]``, ``[vhosts]``, ``[couch_httpd_auth] authentication_db``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HIDDEN = "(not shown)"
_SECRET = re.compile(r"secret|passw|token|oauth|key_file", re.IGNORECASE)

DEAD = "dead"
FALLBACK = "read where the new one is missing"

Config = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Obsolete:
    """One setting. state: DEAD or FALLBACK; value: as it is in the configuration, HIDDEN where it may be secret."""

    section: str
    key: str
    value: str
    state: str
    translation: str


# Sections of which nothing is read, and what took their place.
_SECTIONS = {
    "httpd_global_handlers": "none: handlers are built in since 2.3",
    "httpd_db_handlers": "none: handlers are built in since 2.3",
    "httpd_design_handlers": "none: handlers are built in since 2.3",
    "update_notification": "none: removed in 2.2; follow /{db}/_changes or /_db_updates",
    "external": "none: removed in 3.0; put a reverse proxy in front",
    "os_daemons": "none: removed in 2.3; use the system's own services",
    "couch_httpd_oauth": "none: OAuth 1 was removed in 2.1",
    "oauth_token_users": "none: OAuth 1 was removed in 2.1",
    "oauth_token_secrets": "none: OAuth 1 was removed in 2.1",
    "oauth_consumer_secrets": "none: OAuth 1 was removed in 2.1",
    "log_level_by_module": "[log] level, for all modules",
}
# Single keys of sections that live on.
_KEYS = {
    ("couchdb", "delayed_commits"): "none: every write is a full commit since 3.0",
    ("couchdb", "fsync_options"): "none: every write is a full commit since 3.0",
    ("couchdb", "max_attachment_chunk_size"): "none",
    ("replicator", "db"): "none: since 2.0 every database whose name ends with _replicator is one",
    ("log", "include_sasl"): "none",
    ("httpd", "log_max_chunk_size"): "none",
    ("httpd", "default_handler"): "none: handlers are built in since 2.3",
    ("httpd", "vhost_global_handlers"): "none: handlers are built in since 2.3",
    ("compaction_daemon", "check_interval"): "none: smoosh goes by events, not by intervals",
    ("compaction_daemon", "snooze_period"): "none: smoosh goes by events, not by intervals",
    ("compaction_daemon", "snooze_period_ms"): "none: smoosh goes by events, not by intervals",
}
# Read by CouchDB 3.2 and later from the new section, and from the old one where the new one lacks them.
_MOVED = {
    "httpd": (
        "chttpd",
        "allow_jsonp changes_timeout config_whitelist enable_cors enable_xframe_options max_http_request_size "
        "max_uri_length rewrite_limit secure_rewrites x_forwarded_host x_forwarded_proto x_forwarded_ssl "
        "WWW-Authenticate",
    ),
    "couch_httpd_auth": (
        "chttpd_auth",
        "allow_persistent_cookies authentication_redirect cookie_domain iterations max_iterations min_iterations "
        "password_regexp password_scheme proxy_use_secret public_fields same_site secret timeout users_db_public "
        "x_auth_roles x_auth_token x_auth_username",
    ),
}
# CouchDB 3 has no server on the old port unless [httpd] enable is set. What default.ini holds is no one's wish.
_BACKEND = {"port": "5986", "bind_address": "127.0.0.1", "authentication_handlers": ""}

_RULE = re.compile(r"\{\s*(\w+)\s*,\s*\"?([^\"}]*?)\"?\s*\}")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%?")


def obsolete_settings(config: Config) -> list[Obsolete]:
    """What of a configuration, as ``/_node/_local/_config`` tells it, has no effect or an old name."""
    found = [*_whole_sections(config), *_single_keys(config), *_moved(config), *_compactions(config)]
    return sorted(found, key=lambda one: (one.section, one.key))


def shown(section: str, key: str, value: str) -> str:
    """A value that may be told: HIDDEN where it is or may be a secret."""
    return HIDDEN if section == "admins" or _SECRET.search(f"{section} {key}") else value


def compaction_rule(text: str) -> dict[str, str]:
    """What a rule of ``[compactions]``, a list of Erlang pairs, says: name → value; empty where it is none."""
    return {name: value.strip() for name, value in _RULE.findall(text)}


def translated_rule(database: str, text: str) -> str:
    """What a rule of ``[compactions]`` is in smoosh's words.

    From CouchDB's guide: a fragmentation of F percent is a ratio channel with ``min_priority`` 1 / (1 - F/100). The
    old daemon went by the server's own time; smoosh goes by UTC.
    """
    rule = compaction_rule(text)
    if not rule:
        return "not understood; see the migration guide in CouchDB's documentation of compaction"
    said = []
    for name, channel in (("db_fragmentation", "ratio_dbs"), ("view_fragmentation", "ratio_views")):
        percent = _PERCENT.fullmatch(rule.get(name, ""))
        if percent and float(percent[1]) < 100:
            said.append(f"[smoosh.{channel}] min_priority = {min_priority(float(percent[1])):.2f}")
    window = [f"{name} = {rule[name]}" for name in ("from", "to", "strict_window") if name in rule]
    if window:
        said.append(f"in both channels {', '.join(window)} (in UTC, where the old daemon took local time)")
    if rule.get("parallel_view_compaction") == "true":
        said.append("[smoosh.ratio_views] concurrency = 2")
    if database != "_default":
        said.append("smoosh has no rules for one database; [smoosh.ignore] leaves one out")
    return "; ".join(said) or "none"


def min_priority(percent: float) -> float:
    """A ratio channel's ``min_priority``, file by live bytes, at a fragmentation in percent below 100."""
    return 1 / (1 - percent / 100)


def _whole_sections(config: Config) -> Iterator[Obsolete]:
    for section, instead in _SECTIONS.items():
        for key, value in config.get(section, {}).items():
            yield Obsolete(section, key, shown(section, key, value), DEAD, instead)
    for key, value in config.get("daemons", {}).items():
        if key == "httpsd":
            read = value.strip() == "{chttpd, start_link, [https]}"
            yield Obsolete("daemons", key, value, FALLBACK if read else DEAD, "[ssl] enable = true")
        else:
            yield Obsolete("daemons", key, value, DEAD, "none: what CouchDB starts is built in")
    for key, value in config.get("query_servers", {}).items():
        yield Obsolete(
            "query_servers", key, value, DEAD, f"environment variable COUCHDB_QUERY_SERVER_{key.upper()} of the server"
        )
    for key, value in config.get("native_query_servers", {}).items():
        if key == "erlang":
            read = value == "{couch_native_process, start_link, []}"
            state = FALLBACK if read else DEAD
            yield Obsolete("native_query_servers", key, value, state, "enable_erlang_query_server = true")
        elif key != "enable_erlang_query_server":
            variable = f"environment variable COUCHDB_NATIVE_QUERY_SERVER_{key.upper()} of the server"
            yield Obsolete("native_query_servers", key, value, DEAD, variable)


def _single_keys(config: Config) -> Iterator[Obsolete]:
    for (section, key), instead in _KEYS.items():
        if key in config.get(section, {}):
            yield Obsolete(section, key, shown(section, key, config[section][key]), DEAD, instead)
    httpd = config.get("httpd", {})
    if httpd.get("enable") != "true":
        for key, default in _BACKEND.items():
            if httpd.get(key, default) != default:
                yield Obsolete("httpd", key, httpd[key], DEAD, f"[chttpd] {key}")
    sizes = config.get("couch_httpd_auth", {})
    if "auth_cache_size" in sizes:
        yield Obsolete(
            "couch_httpd_auth", "auth_cache_size", sizes["auth_cache_size"], DEAD, "[chttpd_auth_cache] max_objects"
        )


def _moved(config: Config) -> Iterator[Obsolete]:
    for section, (new, keys) in _MOVED.items():
        for key in keys.split():
            if key in config.get(section, {}):
                state = DEAD if key in config.get(new, {}) else FALLBACK
                yield Obsolete(section, key, shown(section, key, config[section][key]), state, f"[{new}] {key}")
    # Whether one has to log in is asked of [chttpd] alone; the old section changes a header at most.
    old = config.get("couch_httpd_auth", {})
    if "require_valid_user" in old:
        yield Obsolete(
            "couch_httpd_auth", "require_valid_user", old["require_valid_user"], DEAD, "[chttpd] require_valid_user"
        )


def _compactions(config: Config) -> Iterator[Obsolete]:
    for database, text in config.get("compactions", {}).items():
        yield Obsolete("compactions", database, text, DEAD, translated_rule(database, text))
    daemon = config.get("compaction_daemon", {})
    if "min_file_size" in daemon:
        size = daemon["min_file_size"]
        text = f"[smoosh.ratio_dbs] min_size = {size}; [smoosh.ratio_views] min_size = {size}"
        yield Obsolete("compaction_daemon", "min_file_size", size, DEAD, text)
