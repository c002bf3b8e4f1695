# SPDX-License-Identifier: GPL-3.0-or-later
"""Mango selectors: which documents ``_find``, filtered changes and replications take."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .couch_collation import collate
from .couch_errors import Document, bad_request

ABSENT = object()
Match = Callable[[Any], bool]
_TYPES: dict[str, type | tuple[type, ...]] = {
    "null": type(None),
    "boolean": bool,
    "string": str,
    "array": list,
    "object": dict,
}


def compile_selector(selector: Any) -> Match:
    """A function that says whether a document fits. Raises StoreError 400."""
    if not isinstance(selector, dict):
        raise bad_request("Selector must be a JSON object")
    return _object(selector)


def field(document: Any, path: str) -> Any:
    """A member by its dotted path (``\\.`` is a dot of the name), ``ABSENT`` where there is none."""
    for word in re.split(r"(?<!\\)\.", path):
        name = word.replace("\\.", ".")
        if not isinstance(document, dict) or name not in document:
            return ABSENT
        document = document[name]
    return document


def _object(selector: Document) -> Match:
    parts = [_part(key, value) for key, value in selector.items()]
    return lambda value: all(part(value) for part in parts)


def _part(key: str, argument: Any) -> Match:
    if key.startswith("$"):
        return _operator(key, argument)
    inner = _condition(argument)
    return lambda value: inner(field(value, key))


def _condition(argument: Any) -> Match:
    if isinstance(argument, dict) and argument:
        return _object(argument)
    return _operator("$eq", argument)


_OPPOSITES = {
    "$eq": "$ne",
    "$ne": "$eq",
    "$gt": "$lte",
    "$lte": "$gt",
    "$lt": "$gte",
    "$gte": "$lt",
    "$in": "$nin",
    "$nin": "$in",
}


def _negated(argument: Any) -> Document:
    """The opposite, put as far inside as can be: what is not there fits neither a condition nor its opposite."""
    if not isinstance(argument, dict) or not argument:
        return {"$ne": argument}
    if len(argument) > 1:
        return {"$or": [_negated({key: value}) for key, value in argument.items()]}
    [(key, value)] = argument.items()
    if key in _OPPOSITES:
        return {_OPPOSITES[key]: value}
    if key in ("$and", "$or"):
        return {"$or" if key == "$and" else "$and": [_negated(item) for item in value]}
    if key == "$nor":
        return {"$or": value}
    if key == "$exists":
        return {"$exists": not value}
    if key == "$not":
        return value if isinstance(value, dict) else {"$eq": value}
    return {"$opposite": argument} if key.startswith("$") else {key: _negated(value)}


def _operator(name: str, argument: Any) -> Match:
    if name in ("$and", "$or", "$nor"):
        if not isinstance(argument, list):
            raise bad_request(f"Invalid argument for operator {name}: {argument}")
        inner = [_condition(_negated(item) if name == "$nor" else item) for item in argument]
        some = any if name == "$or" else all
        return lambda value: some(match(value) for match in inner)
    if name == "$not":
        return _condition(_negated(argument))
    if name == "$opposite":
        match = _condition(argument)
        return lambda value: value is not ABSENT and not match(value)
    if name == "$exists":
        return lambda value: (value is not ABSENT) == bool(argument)
    if name in ("$elemMatch", "$allMatch"):
        each = _condition(argument)
        some = any if name == "$elemMatch" else all
        return lambda value: isinstance(value, list) and bool(value) and some(each(item) for item in value)
    test = _SIMPLE.get(name)
    if test is None:
        raise bad_request(f"Invalid operator: {name}")
    return lambda value: value is not ABSENT and bool(test(value, argument))


def _is_type(value: Any, name: str) -> bool:
    if name == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return name in _TYPES and isinstance(value, _TYPES[name])


def _modulo(value: Any, argument: list[int]) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value % argument[0] == argument[1]


_SIMPLE: dict[str, Callable[[Any, Any], Any]] = {
    "$eq": lambda value, argument: collate(value) == collate(argument),
    "$ne": lambda value, argument: collate(value) != collate(argument),
    "$gt": lambda value, argument: collate(value) > collate(argument),
    "$gte": lambda value, argument: collate(value) >= collate(argument),
    "$lt": lambda value, argument: collate(value) < collate(argument),
    "$lte": lambda value, argument: collate(value) <= collate(argument),
    "$in": lambda value, argument: any(_inside(value, item) for item in argument),
    "$nin": lambda value, argument: not any(_inside(value, item) for item in argument),
    "$all": lambda value, argument: isinstance(value, list) and all(item in value for item in argument),
    "$size": lambda value, argument: isinstance(value, list) and len(value) == argument,
    "$regex": lambda value, argument: isinstance(value, str) and re.search(argument, value),
    "$beginsWith": lambda value, argument: isinstance(value, str) and value.startswith(argument),
    "$type": _is_type,
    "$mod": _modulo,
}


def _inside(value: Any, item: Any) -> bool:
    return item in value if isinstance(value, list) else collate(value) == collate(item)
