"""Client classes: clients that every plugin of a listener treats alike are in one class, and may be given the same
replies.

A plugin whose replies depend on the client names the class of an address (`Plugin.client_class`). The listener's class
of an address is the combination of these names. Where a class depends on the cluster (the Pod that has the address), it
is determined anew when that changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.reuse import blame

MAX_KNOWN: Final = 65_536
"""Addresses whose class is remembered; when there are more, all are forgotten."""


class Classes:
    """The client classes of one listener."""

    def __init__(self, handlers: Sequence[Plugin]) -> None:
        """`handlers` are plugins that override `client_class`."""
        self._handlers = handlers
        self._kinds = frozenset(kind for handler in handlers for kind in handler.client_class_dependencies)
        self._known: dict[str, bytes] = {}
        self._numbers: dict[tuple[str, ...], bytes] = {}

    def of(self, address: str) -> bytes:
        """The class of an address, as octets of a fixed length that stand for it in this process. Raises what a plugin
        raises.
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
        """These dependencies have changed: classes that depend on one of their kinds are determined anew."""
        if self._known and any(dependency[0] in self._kinds for dependency in dependencies):
            self._known.clear()


def _class_by(handler: Plugin, address: str) -> str:
    try:
        return handler.client_class(address)
    except Exception as error:
        blame(error, handler.name)
        raise
