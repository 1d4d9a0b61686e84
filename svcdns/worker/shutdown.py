"""The end of a worker: at a stop, or when its successor has replaced it in an upgrade in place.

Rules:

1. A query that has arrived is answered.
2. A connection is closed after a reply, or after a time limit if it is idle.
3. The worker reads its UDP sockets until it stops. Before the end, the kernel refuses new datagrams.
4. A stop during a hand-over to the successor ends the hand-over.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from svcdns.eventloop.clock import Clock
from svcdns.serving.listeners import Listeners
from svcdns.worker.connection_handover import give

CLOSE_TIMEOUT: Final = 0.25
"""The seconds of a stop in which each connection is closed after a reply. Then UDP and other connections end too."""
HURRY_AFTER: Final = 0.15
"""The seconds of a stop after which connections that wait for a query are closed."""
DRAIN_TIMEOUT: Final = 5.0
"""The seconds that a stop takes, at most, because of queries in progress."""
HAND_OVER_TIMEOUT: Final = 8.0
"""The seconds that a replaced worker waits for queries in progress, and for connections that it can hand over."""
HAND_OVER_HURRY: Final = 2.0
"""The seconds of a hand-over after which TLS connections that wait for a query are closed."""
SERVER_TIMEOUT: Final = 2.0
"""The seconds of a hand-over in which the queries on QUIC connections must be answered."""
LAST_REPLIES: Final = 1.0
"""The seconds after HAND_OVER_TIMEOUT in which the last connections must close."""
EMPTY_LOOKS: Final = 5
"""The number of checks in a row that must find no query and no connection.

One check is not enough: a connection that has just been accepted appears a moment later.
"""
PAUSE: Final = 0.01
"""The seconds between two checks."""


class Shutdown:
    """Ends the service of one worker: by draining, or by a hand-over to its successor."""

    def __init__(self, listeners: Listeners, clock: Clock) -> None:
        """`listeners` has the sockets and connections of the worker. `clock` returns seconds."""
        self._listeners, self._clock = listeners, clock
        self._stopping = False
        self._looks = 0

    def announce(self) -> None:
        """Begins lame duck: asks clients that send the EDNS option TCP keepalive to close their connections."""
        self._listeners.announce_end()
        self._listeners.connections.note_present()

    def close_present(self) -> None:
        """Closes each connection that was open when lame duck began, after its next reply."""
        self._listeners.connections.close_present()

    async def drain(self) -> None:
        """Answers the queries that have arrived, closes connections after their replies, and refuses new clients."""
        connections, began = self._listeners.connections, self._clock()
        self._listeners.announce_end()
        self._listeners.finish_servers()
        await self._listeners.refuse_connections()
        connections.close_after_reply()
        await self._until(lambda: self._no_connection, began + HURRY_AFTER)
        connections.hurry()
        await self._until(lambda: self._no_connection, began + CLOSE_TIMEOUT)
        await self._until(lambda: self._listeners.servers_idle, began + SERVER_TIMEOUT)
        self._listeners.refuse_datagrams()
        await asyncio.sleep(PAUSE)  # on another processor, the kernel may still put a datagram into the socket
        self._listeners.stop()
        await self._close(began + DRAIN_TIMEOUT)

    async def finish_servers(self) -> None:
        """Closes the QUIC connections when their queries are answered. Waits at most SERVER_TIMEOUT seconds."""
        self._listeners.finish_servers()
        await self._until(lambda: self._listeners.servers_idle, self._clock() + SERVER_TIMEOUT)

    async def hand_over(self, sock: socket.socket, state: int | None) -> None:
        """Hands the TCP connections over to the worker at the other end of `sock`, and closes the TLS connections.

        `state` is the descriptor of a file with the state of plugins.
        """
        connections, began = self._listeners.connections, self._clock()
        self._listeners.announce_end()
        connections.close_after_reply(tls_only=True)

        def going_on() -> bool:
            now = self._clock()
            if now >= began + HAND_OVER_HURRY and not connections.hurrying:
                connections.hurry()
            return not (self._stopping or self._nothing_left() or now >= began + HAND_OVER_TIMEOUT)

        await give(connections, sock, going_on, state)
        if self._stopping:
            await self.drain()
        else:
            await self._close(self._clock() + LAST_REPLIES)

    def stop(self) -> None:
        """Ends the hand-over of connections to the successor, because the server stops."""
        self._stopping = True

    async def _close(self, deadline: float) -> None:
        """Closes connections after their replies, and waits until `deadline` for queries in progress."""
        self._listeners.connections.drain()
        await self._until(lambda: self._nothing, deadline)

    @property
    def _no_connection(self) -> bool:
        return self._listeners.connections.none

    @property
    def _nothing(self) -> bool:
        return not self._listeners.in_flight and self._listeners.connections.none

    def _nothing_left(self) -> bool:
        """Returns True if EMPTY_LOOKS checks in a row have found no query and no connection."""
        self._looks = self._looks + 1 if self._nothing else 0
        return self._looks >= EMPTY_LOOKS

    async def _until(self, done: Callable[[], bool], deadline: float) -> None:
        while not done() and self._clock() < deadline:
            await asyncio.sleep(PAUSE)
