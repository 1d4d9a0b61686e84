"""An event loop whose waiting answers DNS: datagrams are drained inside the selector, so that a wake-up does not pass through asyncio.

A drain that did nothing but send compiled replies leaves nothing for the event loop to do, and the selector waits on. Anything else
(another descriptor, a timer that is due, a question that went into a chain) hands control back at once.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

Drain = Callable[[], bool]
"""Reads a socket; whether it did more than send compiled replies."""


class DrainingSelector(selectors.DefaultSelector):
    """The platform's selector, with descriptors that are drained while it waits.

    The event loop may wait for a drained descriptor to become writable: its registrations carry a pair of handles, for reading and for
    writing, of which the first is missing here.
    """

    def __init__(self) -> None:
        super().__init__()
        self._drains: dict[int, Drain] = {}

    def add(self, fd: int, drain: Drain) -> None:
        """Drains this descriptor whenever it is readable."""
        self._drains[fd] = drain
        key = self.get_map().get(fd)
        if key is None:
            self.register(fd, selectors.EVENT_READ, (None, None))
        else:
            self.modify(fd, key.events | selectors.EVENT_READ, (None, key.data[1]))

    def remove(self, fd: int) -> None:
        """Leaves the descriptor alone."""
        key = self.get_map().get(fd)
        if self._drains.pop(fd, None) is None or key is None:
            return
        if key.events & selectors.EVENT_WRITE:
            self.modify(fd, selectors.EVENT_WRITE, key.data)
        else:
            self.unregister(fd)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Whoever closes a descriptor ends its drain too."""
        key = super().unregister(fileobj)
        self._drains.pop(key.fd, None)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready besides what is drained; waits at most `timeout` seconds, for ever if None, not at all if 0 or less."""
        ends = monotonic() + timeout if timeout is not None and timeout > 0 else None
        while True:
            ready, busy = [], False
            events = super().select(timeout)
            for key, mask in events:
                drain = self._drains.get(key.fd)
                if drain is None:
                    ready.append((key, mask))
                    continue
                if mask & selectors.EVENT_READ and drain():
                    busy = True
                if mask & selectors.EVENT_WRITE:
                    ready.append((key, selectors.EVENT_WRITE))
            if ready or busy or not events or (timeout is not None and timeout <= 0):
                return ready
            if ends is not None:
                timeout = ends - monotonic()
                if timeout <= 0:
                    return ready


class DrainingLoop(asyncio.SelectorEventLoop):
    """An event loop on such a selector."""

    def __init__(self) -> None:
        self.draining = DrainingSelector()
        super().__init__(self.draining)


def add_drain(loop: asyncio.AbstractEventLoop, sock: socket.socket, drain: Callable[[], Any]) -> None:
    """Drains the socket on whatever loop this is: inside its selector where it can, else as one of its readers."""
    if isinstance(loop, DrainingLoop):
        loop.draining.add(sock.fileno(), drain)
    else:
        loop.add_reader(sock, drain)


def remove_drain(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Leaves the socket alone."""
    if isinstance(loop, DrainingLoop):
        loop.draining.remove(sock.fileno())
    else:
        loop.remove_reader(sock)
