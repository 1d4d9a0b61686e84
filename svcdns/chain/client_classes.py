"""Client classes: clients that every plugin of a listener treats alike are in one class, and may get the same replies.

A plugin whose replies depend on the client returns a class for each address (`Plugin.client_class`). A listener
combines the classes of all its plugins into one class. A class may depend on the cluster, for example on the Pod with
that address. Such a class is determined again when the cluster changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.reuse import blame

MAX_KNOWN: Final = 65_536
"""The most addresses whose class is remembered; when there are more, all are forgotten."""


class Classes:
    """The client classes of one listener."""

    def __init__(self, handlers: Sequence[Plugin]) -> None:
        """`handlers` are plugins that override `client_class`."""
        self._handlers = handlers
        self._kinds = frozenset(kind for handler in handlers for kind in handler.client_class_dependencies)
        self._known: dict[str, bytes] = {}
        self._numbers: dict[tuple[str, ...], bytes] = {}

    def of(self, address: str) -> bytes:
        """Returns the client class of `address`, as an identifier of four octets that is valid only in this process.

        Exceptions of plugins pass through.
        """
        found = self._known.get(address)
        if found is None:
            names = tuple([_class_by(handler, address) for handler in self._handlers])
            found = self._numbers.setdefault(names, len(self._numbers).to_bytes(4, "big"))
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[address] = found
        return found

    def invalidate(self, dependencies: Iterable[Dependency]) -> None:
        """Forgets all classes if a changed dependency is of a kind that the classes depend on, such as `pod`."""
        if self._known and any(dependency[0] in self._kinds for dependency in dependencies):
            self._known.clear()


def _class_by(handler: Plugin, address: str) -> str:
    try:
        return handler.client_class(address)
    except Exception as error:
        blame(error, handler.name)
        raise
