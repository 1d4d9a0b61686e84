"""The entries of a source in a worker, as a tree of the parts of their keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from svcdns.plugins.etcd.service import Entry

MAX_FOUND: Final = 1000
"""The most entries that one look-up returns. To answer from more of them would delay other queries."""


class Node:
    """A part of keys: the entry whose key ends here, and the nodes of longer keys."""

    __slots__ = ("below", "entry")

    def __init__(self) -> None:
        self.below: dict[str, Node] | None = None
        self.entry: Entry | None = None


class Tree:
    """All entries of a source. A path is the sequence of a key's parts, without an empty first part."""

    def __init__(self) -> None:
        self._root = Node()

    def put(self, entry: Entry) -> None:
        """Adds or replaces an entry."""
        node = self._root
        for part in parts(entry.key):
            if node.below is None:
                node.below = {}
            node = node.below.setdefault(part, Node())
        node.entry = entry

    def remove(self, key: str) -> None:
        """Removes the entry with this key, and nodes that are not needed any more."""
        way = [self._root]
        path = parts(key)
        for part in path:
            node = (way[-1].below or {}).get(part)
            if node is None:
                return
            way.append(node)
        way[-1].entry = None
        for part in reversed(path):
            node = way.pop()
            if node.entry is not None or node.below:
                return
            below = way[-1].below
            assert below is not None
            del below[part]

    def exact(self, path: Iterable[str]) -> Entry | None:
        """Returns the entry at a path."""
        node = self._node(path)
        return None if node is None else node.entry

    def below(self, path: Iterable[str]) -> list[Entry]:
        """Returns the entries below a path, in the order of their keys; at most MAX_FOUND of them."""
        node = self._node(path)
        found: list[Entry] = []
        if node is not None:
            for entry in _entries(node):
                found.append(entry)
                if len(found) == MAX_FOUND:
                    break
        found.sort(key=lambda entry: entry.key)
        return found

    def _node(self, path: Iterable[str]) -> Node | None:
        node: Node | None = self._root
        for part in path:
            node = (node.below or {}).get(part) if node is not None else None
        return node


def _entries(node: Node) -> Iterator[Entry]:
    waiting = list((node.below or {}).values())
    while waiting:
        one = waiting.pop()
        if one.entry is not None:
            yield one.entry
        if one.below:
            waiting += one.below.values()


def parts(key: str) -> Sequence[str]:
    """Returns the parts of a key between its slashes."""
    return key.removeprefix("/").split("/")
