# SPDX-License-Identifier: GPL-3.0-or-later
"""The revisions of one document: a tree with a leaf for each conflicting edit, as CouchDB keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .couch_errors import Document


@dataclass(slots=True)
class Node:
    """One revision.

    parent: the revision it follows, None at a root
    body:   what the document says, None where this is not kept (any more)
    size:   bytes of the body as JSON
    """

    parent: str | None
    deleted: bool = False
    body: Document | None = None
    size: int = 0


def generation(revision: str) -> int:
    """The number before the dash."""
    return int(revision.partition("-")[0])


def order(revision: str) -> tuple[int, str]:
    """Key that sorts revisions as CouchDB does."""
    number, _, digest = revision.partition("-")
    return int(number), digest


class RevisionTree:
    """Revisions by name."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.leaves: set[str] = set()

    def winner(self) -> str:
        """The leaf that a plain reading gets: live before deleted, then the longest history, then the larger name."""
        if len(self.leaves) == 1:
            return next(iter(self.leaves))
        return max(self.leaves, key=self._rank)

    def ranked(self) -> list[str]:
        """All leaves, the winner first."""
        return sorted(self.leaves, key=self._rank, reverse=True)

    def ordered(self) -> list[str]:
        """All leaves in the order of their histories, as ``open_revs=all`` lists them."""
        return sorted(self.leaves, key=lambda leaf: [order(item) for item in reversed(self.history(leaf))])

    def _rank(self, leaf: str) -> tuple[bool, int, str]:
        return (not self.nodes[leaf].deleted, *order(leaf))

    def deleted(self) -> bool:
        """Whether every leaf is a deletion."""
        return self.nodes[self.winner()].deleted

    def history(self, revision: str) -> list[str]:
        """The revision and those it follows, newest first."""
        path: list[str] = []
        at: str | None = revision
        while at is not None:
            path.append(at)
            at = self.nodes[at].parent
        return path

    def add(self, path: Sequence[str], node: Node) -> bool:
        """Merge one leaf in; False where the revision is known already.

        path: the revision and those it follows, newest first; ``node.parent`` is set from it.
        """
        if path[0] in self.nodes:
            return False
        self._link(path)
        node.parent = self.nodes[path[0]].parent
        self.nodes[path[0]] = node
        if node.parent is not None:
            self.leaves.discard(node.parent)
        self.leaves.add(path[0])
        return True

    def _link(self, path: Sequence[str]) -> None:
        """Have every revision of the path in the tree, each with its parent."""
        for revision, parent in zip(path, [*path[1:], None], strict=True):
            known = self.nodes.get(revision)
            if known is None:
                self.nodes[revision] = Node(parent)
            elif known.parent is None and parent is not None:
                known.parent = parent
            else:
                return

    def stem(self, limit: int) -> None:
        """Forget the revisions that are further back than ``limit`` from every leaf."""
        if len(self.nodes) <= limit:
            return
        kept: set[str] = set()
        for leaf in self.leaves:
            kept.update(self.history(leaf)[:limit])
        self._keep(kept)

    def remove_leaves(self, revisions: Iterable[str]) -> list[str]:
        """Purge: take these leaves away with what only they follow; returns those that were leaves.

        A revision that is no leaf stays, and what a removed leaf followed does not become one.
        """
        removed = [revision for revision in dict.fromkeys(revisions) if revision in self.leaves]
        self.leaves.difference_update(removed)
        kept: set[str] = set()
        if removed:
            for leaf in self.leaves:
                kept.update(self.history(leaf))
            self._keep(kept)
        return removed

    def _keep(self, kept: set[str]) -> None:
        self.nodes = {name: node for name, node in self.nodes.items() if name in kept}
        for node in self.nodes.values():
            if node.parent not in kept:
                node.parent = None

    def forget_old_bodies(self) -> None:
        """Compaction: only leaves keep their bodies."""
        for name, node in self.nodes.items():
            if name not in self.leaves:
                node.body = None

    def state(self) -> list[list[Any]]:
        """For JSON."""
        return [[name, node.parent, node.deleted, node.body, node.size] for name, node in self.nodes.items()]

    @classmethod
    def from_state(cls, state: Iterable[Sequence[Any]]) -> RevisionTree:
        """What ``state`` gave."""
        tree = cls()
        for name, *fields in state:
            tree.nodes[name] = Node(*fields)
        tree.leaves = tree.nodes.keys() - {node.parent for node in tree.nodes.values()}
        return tree
