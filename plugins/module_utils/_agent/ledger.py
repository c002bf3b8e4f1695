# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent's own append-only record: one JSON object a line in ``.deploy/ledger.jsonl``."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError


def now_iso() -> str:
    """UTC, seconds, e.g. ``2026-11-23T06:33:00Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def append(ledger: Path, action: str, **details: Any) -> dict[str, Any]:
    """Append one entry and have it on disk before returning it.

    A line cut short by a crash is closed first, so that it can never swallow the new entry.
    """
    entry = {"time": now_iso(), "action": action, **details}
    ledger.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(ledger, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        cut_short = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        line = json.dumps(entry, sort_keys=True, default=str) + "\n"
        os.write(descriptor, (("\n" if cut_short else "") + line).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return entry


def read(ledger: Path) -> list[dict[str, Any]]:
    """All entries, oldest first; lines that a crash cut short are left out.

    Raises WMAgentError where the file cannot be read.
    """
    try:
        lines = ledger.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise WMAgentError(f"ledger {ledger} cannot be read ({error}); fix its owner and mode") from None
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


_SWITCHING = {"adopt", "upgrade", "rollback", "redeploy"}


def release_order(entries: list[dict[str, Any]]) -> list[str]:
    """Release folder names in the order in which they became current, oldest first, without repeats in a row."""
    order: list[str] = []
    for entry in entries:
        name = entry.get("to")
        if entry.get("action") in _SWITCHING and isinstance(name, str) and (not order or order[-1] != name):
            order.append(name)
    return order


def went_back(entries: list[dict[str, Any]], rollout: str, current: str) -> bool:
    """True where this very rollout has taken the agent back to ``current`` already."""
    moves = [entry for entry in entries if entry.get("action") in _SWITCHING]
    last = moves[-1] if moves else {}
    return last.get("action") == "rollback" and last.get("rollout") == rollout and last.get("to") == current


def previous_release(entries: list[dict[str, Any]], current: str) -> str | None:
    """The release that was current before ``current`` became so; None where the ledger does not know one."""
    order = release_order(entries)
    while order and order[-1] != current:
        order.pop()
    while order and order[-1] == current:
        order.pop()
    return order[-1] if order else None
