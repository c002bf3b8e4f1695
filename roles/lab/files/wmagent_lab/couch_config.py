# SPDX-License-Identifier: GPL-3.0-or-later
"""``/_node/<node>/_config``: settings in sections, kept but without any effect on the stand-in."""

from __future__ import annotations

from .couch_errors import Answer, bad_request, missing, not_allowed, not_modelled
from .couch_server import NODE, Request, Server

DEFAULTS = {
    "couchdb": {"single_node": "true", "database_dir": "./data", "view_index_dir": "./data"},
    "cluster": {"q": "2", "n": "1"},
    "smoosh": {"state_dir": "./data"},
    "log": {"writer": "stand-in"},
}


def node(server: Server, request: Request) -> Answer:
    """``/_node/<name>`` and what is below."""
    words = request.words
    if len(words) < 2 or words[1] not in ("_local", NODE):
        raise missing(f"no such node: {words[1] if len(words) > 1 else ''}")
    if len(words) == 2:
        return 200, {"name": NODE}
    if words[2] != "_config":
        raise not_modelled("/".join(words))
    return config(server, request, words[3:])


def config(server: Server, request: Request, words: list[str]) -> Answer:
    """The settings, one section, or one key."""
    current = {
        section: {**DEFAULTS.get(section, {}), **server.store.config.get(section, {})} for section in _names(server)
    }
    if len(words) < 2:
        if request.method != "GET":
            raise not_allowed("GET")
        return 200, current if not words else current.get(words[0], {})
    section, key = words[0], "/".join(words[1:])
    present = current.get(section, {}).get(key)
    if request.method == "PUT":
        if not isinstance(request.body, str):
            raise bad_request("a JSON string expected")
        server.store.config.setdefault(section, {})[key] = request.body
        return 200, present or ""
    if present is None:
        raise missing("unknown_config_value")
    if request.method == "DELETE":
        server.store.config.get(section, {}).pop(key, None)
    return 200, present


def _names(server: Server) -> list[str]:
    return sorted(DEFAULTS.keys() | {name for name, keys in server.store.config.items() if keys})
