# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of a rebuild: definitions taken apart and put together under other names. Pure text, MariaDB's.

A rebuilt table ``t`` is made as ``t__new``; the one that it replaces is called ``t__old`` for a
moment. InnoDB renames foreign keys that it named itself (``t_ibfk_1``) together with their table; the others get a name
of their own until the old table, whose names they take, is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ansible_collections.dmwm.wmagent.plugins.module_utils._dbsbuffer.tables import CHILDREN, FILE
from ansible_collections.dmwm.wmagent.plugins.module_utils._errors import WMAgentError

REBUILT = (FILE, *(table for table, _ in CHILDREN))
"""The tables that are rebuilt, parents first."""

COLUMNS = {FILE: ("id",), **dict(CHILDREN)}
"""The columns of each that name a file."""

NEW = "__new"
OLD = "__old"
UNNAMED = "__rebuild"
"""Ends the name that a foreign key has as long as the old table has its own."""

LONGEST_NAME = 64
"""Characters that MariaDB allows in a name."""

_NAME = r"`(?:[^`]|``)+`"
_COLUMN = re.compile(rf"  (?P<name>{_NAME}) (?P<type>\w+)")
_PRIMARY = re.compile(r"  PRIMARY KEY \((?P<columns>[^)]*)\)")
_KEY = re.compile(rf"  (?:(?:UNIQUE|FULLTEXT|SPATIAL) )?KEY (?P<name>{_NAME}) \((?P<columns>.*)\)")
_FOREIGN = re.compile(
    rf"  CONSTRAINT (?P<name>{_NAME}) (?P<columns>FOREIGN KEY \(.*?\)) "
    rf"REFERENCES (?P<target>(?:{_NAME}\.)?{_NAME}) (?P<rest>.*)"
)
_NEXT_ID = re.compile(r" AUTO_INCREMENT=\d+")
_CHECK = re.compile(rf"  CONSTRAINT {_NAME} CHECK ")


@dataclass(frozen=True)
class ForeignKey:
    """One foreign key: its name, ``FOREIGN KEY (…)``, the table it refers to, what follows."""

    name: str
    columns: str
    target: str
    rest: str

    @property
    def text(self) -> str:
        """As SHOW CREATE TABLE writes it."""
        return f"CONSTRAINT {quoted(self.name)} {self.columns} REFERENCES {quoted(self.target)} {self.rest}"


@dataclass(frozen=True)
class Definition:
    """One table as SHOW CREATE TABLE writes it.

    columns: name -> type in one word, such as ``varchar``
    body:    the lines of columns, primary key and checks, without commas
    primary: the primary key's columns in their order
    keys:    the other keys' lines
    first:   key -> its first column
    options: from the closing bracket on
    """

    table: str
    columns: Mapping[str, str]
    body: tuple[str, ...]
    primary: tuple[str, ...]
    keys: tuple[str, ...]
    first: Mapping[str, str]
    foreign: frozenset[ForeignKey]
    options: str


def take_apart(table: str, text: str) -> Definition:
    """A definition out of what SHOW CREATE TABLE says. Raises WMAgentError where that holds what is not known here."""
    lines = text.split("\n")
    if lines[0] != f"CREATE TABLE {quoted(table)} (" or not lines[-1].startswith(") ENGINE=InnoDB"):
        raise _unknown(table, lines[0] if lines[-1].startswith(") ENGINE=InnoDB") else lines[-1])
    columns, body, keys, first, foreign = {}, [], [], {}, []
    primary: tuple[str, ...] = ()
    for line in (line.removesuffix(",") for line in lines[1:-1]):
        if match := _FOREIGN.fullmatch(line):
            foreign.append(_foreign_key(table, line, match))
        elif match := _KEY.match(line):
            keys.append(line)
            first[_plain(match["name"])] = _names(match["columns"])[0]
        elif (match := _COLUMN.match(line)) and "GENERATED" not in line:
            columns[_plain(match["name"])] = match["type"]
            body.append(line)
        elif match := _PRIMARY.match(line):
            primary = tuple(_names(match["columns"]))
            body.append(line)
        elif _CHECK.match(line):
            body.append(line)
        else:
            raise _unknown(table, line)
    return Definition(table, columns, tuple(body), primary, tuple(keys), first, frozenset(foreign), lines[-1])


def _foreign_key(table: str, line: str, match: re.Match[str]) -> ForeignKey:
    if "`.`" in match["target"]:  # another database
        raise _unknown(table, line)
    return ForeignKey(_plain(match["name"]), match["columns"], _plain(match["target"]), match["rest"])


def _unknown(table: str, line: str) -> WMAgentError:
    return WMAgentError(
        f"table {table} has a definition that a rebuild does not know ({line.strip()[:120]}); use another method"
    )


def _names(text: str) -> list[str]:
    return [_plain(name) for name in re.findall(_NAME, text)]


def quoted(name: str) -> str:
    """A name as statements take it."""
    return "`" + name.replace("`", "``") + "`"


def _plain(name: str) -> str:
    return name[1:-1].replace("``", "`")


def renamed(definition: Definition) -> Definition:
    """The same as ``t__new``, its foreign keys named for that and referring to the other new tables."""
    foreign = frozenset(
        ForeignKey(
            new_name(definition.table, key.name),
            key.columns,
            key.target + NEW if key.target in REBUILT else key.target,
            key.rest,
        )
        for key in definition.foreign
    )
    return replace(definition, table=definition.table + NEW, foreign=foreign)


def same_but_for_ids(one: Definition, two: Definition) -> bool:
    """Whether two definitions are the same apart from the next id, which a writer may have moved."""
    first, second = (replace(each, options=_NEXT_ID.sub("", each.options)) for each in (one, two))
    return first == second


def new_name(table: str, key: str) -> str:
    """What a foreign key is called until the old table is gone: a name that InnoDB gave follows the table's."""
    if re.fullmatch(re.escape(table) + r"_ibfk_\d+", key):
        return table + NEW + key.removeprefix(table)
    return key + UNNAMED


def create_bare(new: Definition) -> str:
    """Make a table with its primary key alone: rows go in faster, and keys are quicker made of all of them."""
    lines = ",\n".join(new.body)
    return f"CREATE TABLE {quoted(new.table)} (\n{lines}\n{new.options}"


def add_keys(new: Definition) -> str:
    """Give such a table its other keys in their old order; ``''`` where there are none."""
    # A foreign key that finds no key for itself makes one, so it comes after them.
    parts = [f"ADD {line.strip()}" for line in new.keys]
    parts += [f"ADD {key.text}" for key in sorted(new.foreign, key=lambda key: key.name)]
    return f"ALTER TABLE {quoted(new.table)} {', '.join(parts)}" if parts else ""


def names_to_restore(definition: Definition) -> list[tuple[ForeignKey, str]]:
    """Foreign keys that still have the name for the meantime, each with its own."""
    return [
        (key, key.name.removesuffix(UNNAMED))
        for key in sorted(definition.foreign, key=lambda key: key.name)
        if key.name.endswith(UNNAMED)
    ]


def restore_names(definition: Definition) -> str:
    """Give foreign keys their own names back; ``''`` where all have them."""
    parts = []
    for key, name in names_to_restore(definition):
        parts.append(f"DROP FOREIGN KEY {quoted(key.name)}")
        parts.append(f"ADD {ForeignKey(name, key.columns, key.target, key.rest).text}")
    return f"ALTER TABLE {quoted(definition.table)} {', '.join(parts)}" if parts else ""


def swap() -> str:
    """All tables in one statement: the server does all of it or nothing, whenever it is killed."""
    return "RENAME TABLE " + ", ".join(f"{table} TO {table}{OLD}, {table}{NEW} TO {table}" for table in REBUILT)


def drop(suffix: str, tables: Iterable[str] = REBUILT) -> list[str]:
    """Drop old or new tables, children first, so that as long as any is left the files are."""
    found = [table for table in reversed(REBUILT) if table in set(tables)]
    return [f"SET STATEMENT foreign_key_checks = 0 FOR DROP TABLE {table}{suffix}" for table in found]


def entry(definition: Definition) -> str:
    """The key by which a table's rows are found for a file: the primary one, where it begins with the file.

    Raises WMAgentError where there is none.
    """
    column = COLUMNS[definition.table][0]
    if definition.primary[:1] == (column,):
        return "PRIMARY"
    for key, first in definition.first.items():
        if first == column:
            return key
    raise WMAgentError(f"table {definition.table} has no key on {column}; use another method")
