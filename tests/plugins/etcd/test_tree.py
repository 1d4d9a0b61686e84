"""The tree of entries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.plugins.etcd import tree as module
from svcdns.plugins.etcd.service import Entry, Service
from svcdns.plugins.etcd.tree import Node, Tree, parts

PARTS = st.sampled_from(["", "a", "b", "a-b"])
KEYS = st.lists(PARTS, min_size=1, max_size=4).map(lambda some: "/" + "/".join(some))


def size(node: Node) -> int:
    return 1 + sum(size(one) for one in (node.below or {}).values())


@given(st.sets(KEYS), st.sets(KEYS), KEYS)
def test_a_tree_is_like_a_sorted_list_of_keys(keys: set[str], removed: set[str], path: str) -> None:
    """`below` finds the keys that begin with the path and a slash, and `exact` the key itself."""
    tree = Tree()
    for key in keys:
        tree.put(Entry(key, Service()))
    for key in removed:
        tree.remove(key)
    left = keys - removed
    assert [entry.key for entry in tree.below(parts(path))] == sorted(key for key in left if key.startswith(path + "/"))
    found = tree.exact(parts(path))
    assert (found.key if found else None) == (path if path in left else None)
    for key in left:
        tree.remove(key)
    assert size(tree._root) == 1, "nothing remains of removed keys"


def test_a_replaced_entry() -> None:
    tree = Tree()
    tree.put(Entry("/a/b", Service("one")))
    tree.put(Entry("/a/b", Service("two")))
    assert tree.below(["a"]) == [Entry("/a/b", Service("two"))]


def test_a_look_up_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FOUND", 3)
    tree = Tree()
    for number in range(9):
        tree.put(Entry(f"/a/{number}", Service()))
    assert len(tree.below(["a"])) == 3
