"""Classes of clients: two clients whom every plugin of a listener treats alike are in the same class, and may be given the same replies.

A plugin that looks at who asks names the class of an address (`scope`); the listener's class is all of those together. A class is
itself a fact: where it rests on the cluster (the Pod that has an address), it is asked for anew when that changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from svcdns.cluster.changes import Dependency

MAX_KNOWN: Final = 65_536
"""Addresses whose class is remembered; beyond that all are asked for anew."""


class Classes:
    """The audience classes of one listener."""

    def __init__(self, handlers: Sequence[Any]) -> None:
        """`handlers` have `audience(address) -> str`, and `client_class_dependencies` where a class rests on facts of these kinds."""
        self._class_functions: list[Callable[[str], str]] = [handler.client_class for handler in handlers]
        self._facts = frozenset(fact for handler in handlers for fact in getattr(handler, "client_class_dependencies", ()))
        self._known: dict[str, bytes] = {}
        self._numbers: dict[tuple[str, ...], bytes] = {}

    def of(self, address: str) -> bytes:
        """The class of an address, as octets of a fixed length that stand for it in this process."""
        found = self._known.get(address)
        if found is None:
            names = tuple(scope(address) for scope in self._class_functions)
            found = self._numbers.setdefault(names, len(self._numbers).to_bytes(4, "big"))
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[address] = found
        return found

    def invalidate(self, dependencies: Iterable[Dependency]) -> None:
        """Facts have changed: what rests on one of their kind is asked for anew."""
        if self._known and any(owner[0] in self._facts for owner in dependencies):
            self._known.clear()
