# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret in a report: whatever looks like one is blotted out where the model comes in. Pure.

No agent should ever tell one. But a ledger's details and a reason quote what other programs said, and a page is passed
on.
"""

from __future__ import annotations

import re
from typing import Any

BLOT = "[redacted]"

# MDB_PASS, couchPassword, AMQ_CREDENTIALS, access_token; but not "passed", "bypass", or the path in "secrets".
_NAME = (
    r"(?:[\w-]*(?:password|passwd|passphrase|credentials?|api[_-]?key|private[_-]?key|access[_-]?key|token|secret|cookie)"
    r"|(?:[a-z0-9]+[_-])*(?:pass|pwd))"
)
_SECRET_NAME = re.compile(rf"(?:(?<![a-z0-9]){_NAME}(?:[_-](?:value|id|key))?|authorization)$", re.IGNORECASE)
_PATTERNS = (
    # Private keys, and what is left of one that was cut off.
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), BLOT),
    # scheme://user:password@host, greedy up to the last @ before a slash since passwords hold @ too.
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/\"'<>]+@", re.IGNORECASE), rf"\1{BLOT}@"),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/_.~=-]{6,}", re.IGNORECASE), rf"\1 {BLOT}"),
    # password=…, "MDB_PASS": "…", --token …; a quoted value whole, another up to the next blank or separator.
    (
        re.compile(
            rf"((?<![A-Za-z0-9]){_NAME}(?:[_-](?:value|id|key))?[\"']?\s*[=:]\s*)"
            rf"(?!\[redacted\])(?:\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?|[^\s,;&)\]}}\"'<>]+)",
            re.IGNORECASE,
        ),
        rf"\1{BLOT}",
    ),
    (re.compile(r"(--(?:password|passwd|token|secret)[ =])(?!\[redacted\])\S+", re.IGNORECASE), rf"\1{BLOT}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"), BLOT),  # JSON Web Token
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}|\bglpat-[A-Za-z0-9_-]{16,}"), BLOT),
    # Oracle's user/password@service.
    (re.compile(r"(?<![\w./:-])([A-Za-z][\w$#]*)/[^\s/@]+@(?=[A-Za-z0-9(])"), rf"\1/{BLOT}@"),
)


def redacted(value: Any) -> Any:
    """``value``, plain data, with :data:`BLOT` for what looks like a secret; everything else as it was.

    A whole value goes where its key has the name of a secret; in texts, only the secret itself.
    """
    if isinstance(value, dict):
        return {
            redacted_text(key) if isinstance(key, str) else key: BLOT if _holds_secret(key, one) else redacted(one)
            for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redacted(one) for one in value]
    return redacted_text(value) if isinstance(value, str) else value


def redacted_text(text: str) -> str:
    """``text`` with :data:`BLOT` for each part that looks like a secret."""
    for pattern, put in _PATTERNS:
        text = pattern.sub(put, text)
    return text


def _holds_secret(key: Any, value: Any) -> bool:
    # A name alone gives nothing away of a count, a flag, or nothing.
    return (
        isinstance(key, str)
        and bool(_SECRET_NAME.search(key))
        and not isinstance(value, (bool, int, float, type(None)))
    )
