# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests with a real CouchDB's answers, asked of a server again, and what may differ between the two answers."""

from __future__ import annotations

import base64
import http.client
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "unit" / "lab" / "data"
SEQUENCE = re.compile(r"\d+-g1AAAA[\w-]+")
# Sequences whose number counts; elsewhere it depends on how a cluster's shards were read.
COUNTED = ("update_seq", "purge_seq")
# What is a server's own: hashes, dates, names of sessions, and what it says that it is.
OWN = {"uuid", "git_sha", "features", "vendor", "version", "instance_start_time", "ref", "signature", "bookmark"} | {
    "session_id",
    "start_time",
    "end_time",
}
RAW_BODIES = ("", "{", "{}")
SIZES = ("file", "external", "active")
CLOSE = 0.08
"""Sizes that differ by less than this share count as equal."""


@dataclass
class Step:
    """One request, the recorded answer and the answer of now. ``failure``: why there is none."""

    name: str
    database: str
    recorded: Any
    recorded_status: int
    status: int = 0
    body: Any = None
    failure: str = ""


def load(version: str) -> list[dict[str, Any]]:
    """The transcript of one CouchDB version."""
    text = (DATA / f"couchdb-{version}.json").read_text(encoding="utf-8")
    return json.loads(text)


def replay(version: str, port: int, user: str, password: str) -> list[Step]:
    """Ask everything again, in order; sequences of the recording are replaced by those that were answered here."""
    sequences: dict[str, str] = {}
    steps = []
    for entry in load(version):
        asked, answered = entry["request"], entry["response"]
        step = Step(entry["step"], asked["path"].split("/")[1], answered["body"], answered["status"])
        text = json.dumps([asked["path"], asked["body"]])
        text = SEQUENCE.sub(lambda found: sequences.get(found[0], found[0]), text)
        path, body = json.loads(text.replace("USER:PASS", f"{user}:{password}").replace("PORT", str(port)))
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {token}"} if asked["authorized"] else {}
        if asked["content_type"]:
            headers["Content-Type"] = asked["content_type"]
        try:
            step.status, step.body = ask(port, asked["method"], path, body, headers)
            _pair(step.recorded, step.body, sequences)
        except (OSError, ValueError, http.client.HTTPException) as error:
            step.failure = repr(error)
        steps.append(step)
    return steps


def ask(port: int, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
    """Status and JSON of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        raw = None if body is None else (body if body in RAW_BODIES else json.dumps(body)).encode()
        connection.request(method, path, raw, {"Accept": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def _pair(recorded: Any, body: Any, sequences: dict[str, str]) -> None:
    """Remember which sequence of now stands for which of the recording."""
    if isinstance(recorded, dict) and isinstance(body, dict):
        for key in recorded.keys() & body.keys():
            _pair(recorded[key], body[key], sequences)
    elif isinstance(recorded, list) and isinstance(body, list):
        for one, other in zip(recorded, body, strict=False):
            _pair(one, other, sequences)
    elif isinstance(recorded, str) and isinstance(body, str) and SEQUENCE.fullmatch(recorded):
        sequences[recorded] = body


def normal(body: Any, port: int) -> Any:
    """An answer without what may differ."""
    if isinstance(body, str):
        return body.replace(f"127.0.0.1:{port}", "127.0.0.1:PORT")
    if isinstance(body, list):
        return [normal(item, port) for item in body]
    if not isinstance(body, dict):
        return body
    kept = {key: _member(key, value, port) for key, value in body.items() if key != "sizes"}
    if "results" in kept and "pending" in kept:
        return _changes(kept)
    if "purged_infos" in kept:
        kept["purged_infos"] = sorted(kept["purged_infos"], key=json.dumps)
    return kept


def _member(key: str, value: Any, port: int) -> Any:
    if isinstance(value, str) and SEQUENCE.fullmatch(value):
        return f"{value.split('-')[0]}-sequence" if key in COUNTED else "sequence"
    return f"any {key}" if key in OWN else normal(value, port)


def _changes(body: Any) -> Any:
    """All changes in the order of their ids; of a page only how many, since which come first is up to the shards."""
    rows = sorted(body["results"], key=lambda row: row["id"])
    return {**body, "results": len(rows) if body["pending"] else rows}


def sizes(body: Any) -> dict[str, int] | None:
    """The sizes that an answer tells of."""
    if not isinstance(body, dict):
        return None
    return body.get("sizes") or body.get("view_index", {}).get("sizes")


def sign(one: float, other: float) -> int:
    """-1, 0 or 1: whether the first is clearly smaller, about equal, clearly larger."""
    if abs(one - other) <= CLOSE * max(one, other):
        return 0
    return 1 if one > other else -1
