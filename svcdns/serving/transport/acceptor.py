"""Accepts the TCP connections of a listening socket, for all clients in turn.

Rules:

1. The kernel's queue of new connections is emptied first. If FULL or more connections were accepted, they wait in a
   queue in which the clients take turns (`FairQueue`).
2. In one iteration of the event loop, accepting takes at most SLICE seconds, and so does the start of connections.
3. At most MAX_WAITING accepted connections wait. Above this limit, the client with the most of them loses its newest.
4. If that is not enough, the kernel drops new connections of the busiest clients (`flood_guard`).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from svcdns.eventloop.fair_queue import FairQueue
from svcdns.eventloop.loop import add_drain, remove_drain
from svcdns.serving.transport.connections import client_key
from svcdns.serving.transport.flood_guard import AcceptQueue, FloodGuard

BACKLOG: Final = 1024
"""The most connections that wait in the kernel until they are accepted."""
MAX_WAITING: Final = 512
"""The most accepted connections of a socket that wait for their turn."""
SLICE: Final = 0.0005
"""The seconds for accepting, and for the start of accepted connections, in one iteration of the event loop."""
FULL: Final = 8
"""The connections that are accepted together from which on the socket's queue is examined for a flood."""
SEND_BUFFER: Final = 64 << 10
RECEIVE_BUFFER: Final = 32 << 10
"""The octets of a TCP connection's buffers in the kernel, which count as memory of the container.

The kernel would otherwise let them grow to some MiB for each connection whose client does not read.
"""
RETRY: Final = 1.0
"""The seconds without accepting after an error such as a lack of descriptors."""
_STREAM: Final = int(socket.SOCK_STREAM)
_NOTHING_WAITS: Final = frozenset({errno.EAGAIN, errno.EINTR, errno.ECONNABORTED})

Accepted = tuple[socket.socket, Any]
"""An accepted socket and the address of its client."""


class Acceptor:
    """Accepts the connections of one listening socket, and starts them."""

    def __init__(
        self,
        sock: socket.socket,
        start: Callable[[socket.socket, Any], None],
        shed: Callable[[int], None],
        failed: Callable[[str, OSError], None],
        by_client: Callable[[], bool] = lambda: True,
    ) -> None:
        """Accepts connections from this call on. `start` is called with each accepted socket and the client's address.

        `shed` is called with the number of connections that were closed because too many waited. `failed` is called
        with `accept` and the error if the socket cannot accept. `by_client` returns False if the connections come from
        a proxy, whose address must not be limited in a flood.
        """
        self._sock, self._start, self._shed, self._failed = sock, start, shed, failed
        self._by_client = by_client
        self._loop, self._family = asyncio.get_running_loop(), int(sock.family)
        self._waiting: FairQueue[Accepted] = FairQueue(MAX_WAITING, lambda item: item[0].close())
        self._scheduled = self._stopped = False
        self._retry: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER),
            (socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        ):  # accepted sockets inherit these
            sock.setsockopt(level, option, value)
        sock.listen(BACKLOG)
        self._guard = FloodGuard(AcceptQueue(sock), shed)
        add_drain(self._loop, sock, self.accept)

    def accept(self) -> int:
        """Accepts the connections that wait in the kernel, for at most SLICE seconds, and starts some of them.

        Returns the number of accepted connections.
        """
        waiting, guard, now = self._waiting, self._guard, perf_counter()
        ends, clients, accepted = now + SLICE, list[bytes](), list[Accepted]()
        # The public `accept` reads the properties of the listening socket again, which takes several microseconds.
        take, family = self._sock._accept, self._family  # type: ignore[attr-defined]  # noqa: SLF001
        while now < ends:
            try:
                fd, address = take()
            except OSError as error:
                if error.errno not in _NOTHING_WAITS:
                    self._pause(error)
                break
            sock = socket.socket(family, _STREAM, 0, fd)
            sock.setblocking(False)
            clients.append(client_key(address[0]))
            accepted.append((sock, address))
            now = perf_counter()
        if len(accepted) < FULL and not (waiting.turns or self._scheduled or guard.active):
            self._start_few(clients, accepted)
            return len(accepted)
        shed = [dropped for dropped in map(waiting.add, clients, accepted) if dropped is not None]
        if guard.active:
            guard.note(clients)
        elif len(clients) >= FULL and self._by_client():
            guard.look(now)
        if shed:
            guard.note_shed(shed)
            self._shed(len(shed))
        if self._waiting.turns and not self._scheduled:
            self._start_some()
        return len(clients)

    def _start_few(self, clients: list[bytes], accepted: list[Accepted]) -> None:
        """Starts connections in the order in which they were accepted, for at most SLICE seconds. The others wait."""
        ends = perf_counter() + SLICE
        for client, item in zip(clients, accepted, strict=True):
            if perf_counter() < ends:
                self._start(*item)
            else:
                self._waiting.add(client, item)
        if self._waiting.turns and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._start_some)

    def _start_some(self) -> None:
        """Starts the connections that wait, for at most SLICE seconds."""
        self._scheduled = False
        queue, now = self._waiting, perf_counter()
        ends = now + SLICE
        try:
            while queue.turns and now < ends:
                self._start(*queue.pop())
                before, now = now, perf_counter()
                queue.charge(now - before)
        finally:
            if queue.turns and not self._scheduled:
                self._scheduled = True
                self._loop.call_soon(self._start_some)

    def _pause(self, error: OSError) -> None:
        """Accepts nothing for RETRY seconds, because the system lacks resources."""
        self._failed("accept", error)
        remove_drain(self._loop, self._sock)
        if not self._stopped and self._retry is None:
            self._retry = self._loop.call_later(RETRY, self._go_on)

    def _go_on(self) -> None:
        self._retry = None
        add_drain(self._loop, self._sock, self.accept)

    def stop(self) -> None:
        """Starts the accepted connections, and accepts no more. The listening socket stays open."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()
        remove_drain(self._loop, self._sock)
        self._guard.stop()
        while self._waiting.turns:
            self._start(*self._waiting.pop())
