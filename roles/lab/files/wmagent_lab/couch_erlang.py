# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of revisions as CouchDB makes them: the MD5 of an Erlang term in external format.

So equal edits get equal names here and in CouchDB, and the same leaf wins in both.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Any

_LARGEST_SMALL_BIG = 255


def revision_digest(
    deleted: bool, generation: int, parent: str, body: dict[str, Any], attachments: Sequence[tuple[str, str, bytes]]
) -> str:
    """32 hexadecimal digits.

    generation, parent: of the revision that this one follows; 0 and "" where there is none
    attachments: name, content type and MD5 of each
    """
    old: Any = revision_bytes(parent) if parent else 0
    term = b"".join(
        (
            b"\x83l",
            struct.pack(">I", 5),
            _atom("true" if deleted else "false"),
            _term(generation),
            _term(old),
            _term(body),
            _attachments(attachments),
            b"j",
        )
    )
    return hashlib.md5(term, usedforsecurity=False).hexdigest()


def revision_bytes(digest: str) -> bytes:
    """The part after the dash as CouchDB keeps it, which is how it sorts."""
    try:
        return bytes.fromhex(digest) if len(digest) == 32 else digest.encode()
    except ValueError:
        return digest.encode()


def _attachments(attachments: Sequence[tuple[str, str, bytes]]) -> bytes:
    if not attachments:
        return b"j"
    parts = [
        b"h\x03" + _binary(name.encode()) + _binary(kind.encode()) + _binary(md5) for name, kind, md5 in attachments
    ]
    return b"l" + struct.pack(">I", len(parts)) + b"".join(parts) + b"j"


def _atom(word: str) -> bytes:
    return b"d" + struct.pack(">H", len(word)) + word.encode()


def _binary(data: bytes) -> bytes:
    return b"m" + struct.pack(">I", len(data)) + data


def _term(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return _atom({None: "null", True: "true", False: "false"}[value])
    if isinstance(value, bytes):
        return _binary(value)
    if isinstance(value, str):
        return _binary(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"F" + struct.pack(">d", value)
    if isinstance(value, dict):
        pairs = [b"h\x02" + _term(key) + _term(item) for key, item in value.items()]
        return b"h\x01" + _list(pairs)
    if value and len(value) < 65536 and all(type(item) is int and 0 <= item < 256 for item in value):
        # Erlang takes a list of bytes for a string.
        return b"k" + struct.pack(">H", len(value)) + bytes(value)
    return _list([_term(item) for item in value])


def _list(parts: Sequence[bytes]) -> bytes:
    return b"l" + struct.pack(">I", len(parts)) + b"".join(parts) + b"j" if parts else b"j"


def _integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"a" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"b" + struct.pack(">i", value)
    size = (abs(value).bit_length() + 7) // 8
    head = b"n" + bytes([size]) if size <= _LARGEST_SMALL_BIG else b"o" + struct.pack(">I", size)
    return head + bytes([value < 0]) + abs(value).to_bytes(size, "little")
