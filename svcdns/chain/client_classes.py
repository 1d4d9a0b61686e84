"""Client classes: clients that every plugin of a listener treats alike are in one class, and may get the same replies.

A plugin whose replies depend on the client returns a class for each address (`Plugin.client_class`). A listener
combines the classes of all its plugins. A class that depends on cluster data is determined again when the data change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.reuse import blame

MAX_KNOWN: Final = 65_536
"""The most addresses whose class is remembered; when there are more, all are forgotten."""
MAX_NUMBERED: Final = 65_536
"""The most classes whose identifier is remembered; when there are more, all are forgotten.

A class such as the namespace of a Pod may be one of many over time. A forgotten class gets a new identifier, so stored
replies for its earlier identifier are not used again.
"""
_IDENTIFIERS: Final = 1 << 32


class Classes:
    """The client classes of one listener. Clients that every plugin treats alike are in one class."""

    def __init__(self, handlers: Sequence[Plugin]) -> None:
        """`handlers` are plugins that override `client_class`."""
        self._handlers = handlers
        self._kinds = frozenset(kind for handler in handlers for kind in handler.client_class_dependencies)
        self._known: dict[str, bytes] = {}
        self._numbers: dict[tuple[str, ...], bytes] = {}
        self._next = 0

    def of(self, address: str) -> bytes:
        """Returns the client class of `address` as four octets, which are valid only in this process.

        Exceptions of plugins pass through.
        """
        found = self._known.get(address)
        if found is None:
            names = tuple([_class_by(handler, address) for handler in self._handlers])
            found = self._numbers.get(names) or self._numbered(names)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[address] = found
        return found

    def _numbered(self, names: tuple[str, ...]) -> bytes:
        if len(self._numbers) >= MAX_NUMBERED:
            self._numbers.clear()
            self._known.clear()
        found = self._numbers[names] = self._next.to_bytes(4, "big")
        self._next = (self._next + 1) % _IDENTIFIERS
        return found

    def invalidate(self, dependencies: Iterable[Dependency]) -> None:
        """Discards all classes if one of them depends on a kind of object in `dependencies`, such as `pod`."""
        if self._known and any(dependency[0] in self._kinds for dependency in dependencies):
            self._known.clear()


def _class_by(handler: Plugin, address: str) -> str:
    try:
        return handler.client_class(address)
    except Exception as error:
        blame(error, handler.name)
        raise
