# SPDX-License-Identifier: GPL-3.0-or-later
"""The revision tree against a simple model: a set of histories, of which leaves, winner and purges follow."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from support.agent import processes  # noqa: F401 - makes the lab's package importable
from wmagent_lab.couch_revisions import Node, RevisionTree, order

DIGESTS = st.text("0123456789abcdef", min_size=32, max_size=32)


class Model:
    """Histories of the leaves, newest first, and which of them are deletions."""

    def __init__(self):
        self.histories = {}
        self.deleted = {}

    def add(self, path, deleted):
        known = {revision for history in self.histories.values() for revision in history}
        if path[0] in known:
            return False
        longest = next((history for history in self.histories.values() if path[1:2] == history[:1]), None)
        if longest is not None:
            del self.histories[longest[0]]
        through = next(
            (history[history.index(path[1]) :] for history in self.everything() if path[1:] and path[1] in history),
            None,
        )
        self.histories[path[0]] = (path[0], *(longest or through or path[1:]))
        self.deleted[path[0]] = deleted
        return True

    def everything(self):
        return list(self.histories.values())

    def winner(self):
        return max(self.histories, key=lambda leaf: (not self.deleted[leaf], *order(leaf)))


class Trees(RuleBasedStateMachine):
    """Edits, replicated edits and purges of one document."""

    revisions = Bundle("revisions")

    def __init__(self):
        super().__init__()
        self.tree, self.model = RevisionTree(), Model()

    @initialize(target=revisions, digest=DIGESTS, deleted=st.booleans())
    def first(self, digest, deleted):
        return self.added([f"1-{digest}"], deleted)

    def added(self, path, deleted):
        assert self.tree.add(path, Node(None, deleted, {})) == self.model.add(tuple(path), deleted)
        return path[0]

    @rule(target=revisions, parent=revisions, digest=DIGESTS, deleted=st.booleans())
    def follow(self, parent, digest, deleted):
        """An edit of any revision that is there: of a leaf it goes on, of another it is a conflict."""
        if parent not in self.tree.nodes:
            return multiple()
        number = order(parent)[0] + 1
        return self.added([f"{number}-{digest}", *self.tree.history(parent)], deleted)

    @rule(target=revisions, digests=st.lists(DIGESTS, min_size=1, max_size=4, unique=True), deleted=st.booleans())
    def replicate(self, digests, deleted):
        """A history that has nothing to do with this one."""
        return self.added([f"{len(digests) - at}-{digest}" for at, digest in enumerate(digests)], deleted)

    @rule(asked=st.lists(revisions, min_size=1, max_size=3))
    def purge(self, asked):
        wanted = [revision for revision in dict.fromkeys(asked) if revision in self.model.histories]
        assert self.tree.remove_leaves(asked) == wanted
        for revision in wanted:
            del self.model.histories[revision]

    @rule(revision=revisions)
    def again(self, revision):
        """What is there already changes nothing."""
        if revision in self.tree.nodes:
            assert not self.tree.add(self.tree.history(revision), Node(None))

    @invariant()
    def leaves_histories_and_winner_are_the_models(self):
        assert self.tree.leaves == set(self.model.histories)
        for leaf, history in self.model.histories.items():
            assert tuple(self.tree.history(leaf)) == history
            assert self.tree.nodes[leaf].deleted == self.model.deleted[leaf]
        assert set(self.tree.nodes) == {revision for history in self.model.everything() for revision in history}
        if self.model.histories:
            assert self.tree.winner() == self.model.winner() == self.tree.ranked()[0]
            assert self.tree.deleted() == all(self.model.deleted[leaf] for leaf in self.model.histories)

    @invariant()
    def a_restart_changes_nothing(self):
        again = RevisionTree.from_state(self.tree.state())
        assert (again.nodes, again.leaves) == (self.tree.nodes, self.tree.leaves)


Trees.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestTrees = Trees.TestCase


@given(st.integers(2, 12), st.integers(1, 12), st.integers(1, 11))
def test_stemming_keeps_the_newest_of_each_history(length, limit, fork):
    tree = RevisionTree()
    path: list[str] = []
    for number in range(1, length + 1):
        path.insert(0, f"{number}-{number:032x}")
        tree.add(path, Node(None, False, {}))
    alone = RevisionTree.from_state(tree.state())
    alone.stem(limit)
    assert alone.history(path[0]) == path[:limit]
    # With a second leaf each history keeps at least as much, and nothing that is in neither.
    below = path[-min(fork, length - 1) :]
    other = [f"{order(below[0])[0] + 1}-{'f' * 32}", *below]
    tree.add(other, Node(None, False, {}))
    tree.stem(limit)
    assert tree.history(path[0])[:limit] == path[:limit]
    assert tree.history(other[0])[:limit] == other[:limit]
    assert set(tree.nodes) == {*path[:limit], *other[:limit]}
