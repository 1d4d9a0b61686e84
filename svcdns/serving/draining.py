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
    """The platform's selector, with sockets that are drained while it waits."""

    def __init__(self) -> None:
        super().__init__()
        self._drains: dict[int, Drain] = {}

    def add(self, sock: socket.socket, drain: Drain) -> None:
        """Drains this socket whenever it is readable."""
        self.register(sock, selectors.EVENT_READ)
        self._drains[sock.fileno()] = drain

    def remove(self, sock: socket.socket) -> None:
        """Leaves the socket alone."""
        del self._drains[sock.fileno()]
        self.unregister(sock)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready besides the drained sockets; waits at most `timeout` seconds, for ever if None, not at all if 0 or less."""
        ends = monotonic() + timeout if timeout is not None and timeout > 0 else None
        while True:
            ready, busy = [], False
            events = super().select(timeout)
            for event in events:
                drain = self._drains.get(event[0].fd)
                if drain is None:
                    ready.append(event)
                elif drain():
                    busy = True
            if ready or busy or not events or (timeout is not None and timeout <= 0):
                return ready
            if ends is not None:
                timeout = ends - monotonic()
                if timeout <= 0:
                    return ready


class DrainingLoop(asyncio.SelectorEventLoop):
    """An event loop on such a selector."""

    def __init__(self) -> None:
        self._draining = DrainingSelector()
        super().__init__(self._draining)

    def add_drain(self, sock: socket.socket, drain: Drain) -> None:
        """Drains this socket whenever it is readable."""
        self._draining.add(sock, drain)

    def remove_drain(self, sock: socket.socket) -> None:
        """Leaves the socket alone."""
        self._draining.remove(sock)


def add_drain(loop: asyncio.AbstractEventLoop, sock: socket.socket, drain: Callable[[], Any]) -> None:
    """Drains the socket on whatever loop this is: inside its selector where it can, else as one of its readers."""
    if isinstance(loop, DrainingLoop):
        loop.add_drain(sock, drain)
    else:
        loop.add_reader(sock, drain)


def remove_drain(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Leaves the socket alone."""
    if isinstance(loop, DrainingLoop):
        loop.remove_drain(sock)
    else:
        loop.remove_reader(sock)
