# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of keys in views: null, false, true, numbers, strings, arrays, objects; strings as ICU sorts them."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

# Taken from a real CouchDB; digits follow, then letters.
_PUNCTUATION = " _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$"
_PLACES = {character: place for place, character in enumerate(_PUNCTUATION)}


def collate(value: Any) -> tuple[Any, ...]:
    """A key that sorts as CouchDB sorts the value."""
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return (2,) if value else (1,)
    if isinstance(value, int | float):
        return (3, value)
    if isinstance(value, str):
        return (4, _text(value))
    if isinstance(value, list | tuple):
        return (5, tuple(collate(item) for item in value))
    return (6, tuple((_text(key), collate(item)) for key, item in value.items()))


@lru_cache(maxsize=65536)
def _text(text: str) -> tuple[Any, ...]:
    """Letters first, then accents, then lower before upper case."""
    plain: list[tuple[int, int]] = []
    accents: list[tuple[int, int]] = []
    cases: list[bool] = []
    for character in unicodedata.normalize("NFKD", text):
        if unicodedata.combining(character):
            accents.append((len(plain), ord(character)))
            continue
        for folded in character.casefold():
            plain.append(_place(folded))
            cases.append(character != folded and character.isupper())
    return tuple(plain), tuple(accents), tuple(cases), text


def _place(character: str) -> tuple[int, int]:
    if character in _PLACES:
        return 0, _PLACES[character]
    if character.isdigit():
        return 2, ord(character)
    return (3 if character.isalpha() else 1), ord(character)
