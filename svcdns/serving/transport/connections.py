"""The open TCP and TLS connections of one worker: their limits, and how they end at a stop or an upgrade.

Rule: when a limit is reached, the client with the most connections loses one. A client is an IPv4 address or an IPv6
network of 64 bits.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice
from time import perf_counter
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from svcdns.serving.metrics import ShedReason
from svcdns.serving.responder import Responder
from svcdns.serving.transport.turns import Turns

MAX_CONNECTIONS: Final = 4096
"""The most open connections of one worker."""
READ_AHEAD: Final = 8 << 10
"""The octets that may wait in a connection's buffer before the server stops reading, while a query is answered."""
MAX_LARGE: Final = 256
"""The most connections with more than READ_AHEAD octets in their buffers."""
POLL_INTERVAL: Final = 0.0005
"""The seconds of work for TCP connections after which the UDP sockets are read."""
_CANDIDATES: Final = 16
"""The connections of a client that are compared to find one that has been idle for long."""

Item = TypeVar("Item")


class Detached(NamedTuple):
    """A connection that one worker hands over to another.

    `fd` is its file descriptor. `host`, `port` and `family` (4 or 6) identify its listener. `timeout` is the number of
    seconds until it expires. `buffer` has the octets of an incomplete query. `queries` is the number of queries that
    the client may still send, or -1 for no limit.
    """

    fd: int
    host: str
    port: int
    family: int
    timeout: float
    buffer: bytes
    queries: int = -1


class OpenConnection(Protocol):
    """The interface of a TCP or TLS connection that this module uses. `tcp.TcpConnection` implements it."""

    responder: Responder
    client: bytes
    """The `client_key` of the client's address."""

    @property
    def closing(self) -> bool:
        """Returns True if the connection will be closed after a reply."""
        ...

    @property
    def waits_for_query(self) -> bool:
        """Returns True if no query or reply is in progress, and no octet of the next query has arrived."""
        ...

    @property
    def deadline(self) -> float:
        """Returns the time at which the connection expires, on the loop's clock."""
        ...

    def settle(self) -> None:
        """Reads the socket again, and then registers it in the selector if the connection is still open."""
        ...

    @property
    def buffered(self) -> int:
        """Returns the number of received octets that are not answered, plus the sent octets that the client has not
        read.
        """
        ...

    def shed(self, reason: ShedReason) -> None:
        """Closes the connection, and counts it in a metric by `reason`."""
        ...

    def finish(self) -> None:
        """Closes the connection when all queries that have arrived are answered."""
        ...

    def detach(self) -> Detached | None:
        """Stops serving the connection, and returns it for another worker. Returns None if that is not possible now."""
        ...

    def close_detached(self) -> None:
        """Closes this process's descriptor of a detached connection."""
        ...

    def resume(self) -> None:
        """Serves a detached connection in this process again."""
        ...


class Abortable(Protocol):
    """A connection whose handshake, or whose PROXY header, is not complete."""

    def abort(self) -> None:
        """Closes the connection at once."""
        ...


def client_key(address: str) -> bytes:
    """Returns the octets that identify a client: its IPv4 address, or the first 64 bits of its IPv6 address."""
    host = address.partition("%")[0]
    return socket.inet_pton(socket.AF_INET6, host)[:8] if ":" in host else socket.inet_aton(host)


class ByClient(Generic[Item]):
    """A set of connections, grouped by client."""

    def __init__(self) -> None:
        self._client_of: dict[Item, bytes] = {}
        self._items: dict[bytes, dict[Item, None]] = {}

    def __len__(self) -> int:
        """Returns the number of connections."""
        return len(self._client_of)

    def __contains__(self, item: object) -> bool:
        """Returns True if the set has the connection."""
        return item in self._client_of

    def __iter__(self) -> Iterator[Item]:
        """Iterates over the connections in the order in which they were added."""
        return iter(self._client_of)

    def add(self, item: Item, client: bytes) -> None:
        """Adds a connection of a client."""
        self._client_of[item] = client
        self._items.setdefault(client, {})[item] = None

    def discard(self, item: Item) -> None:
        """Removes a connection, if it is in the set."""
        client = self._client_of.pop(item, None)
        if client is not None:
            items = self._items[client]
            del items[item]
            if not items:
                del self._items[client]

    def of(self, client: bytes) -> int:
        """Returns the number of connections of a client."""
        return len(self._items.get(client, ()))

    def items(self, client: bytes) -> Iterable[Item]:
        """Returns the connections of a client, the oldest first."""
        return self._items.get(client, ())

    def most(self) -> dict[Item, None]:
        """Returns the connections of the client that has the most connections, the oldest first."""
        return max(self._items.values(), key=len, default={})


class TcpConnections:
    """The open connections of one worker, up to a maximum.

    At a stop, call `close_present`, `close_after_reply`, `hurry` and `drain`, in this order. At an upgrade, begin with
    `close_after_reply`. The first two close a connection only after a reply, so no query is lost.
    """

    def __init__(self, most: int = MAX_CONNECTIONS, poll_sockets: Callable[[], object] | None = None) -> None:
        """`most` is the maximum number of open connections.

        `poll_sockets` reads the UDP sockets. The function is called between two pieces of work for connections.
        """
        self.most, self._poll_sockets = most, poll_sockets
        self.open: ByClient[OpenConnection] = ByClient()
        self.handshaking: ByClient[Abortable] = ByClient()
        """The TLS connections whose handshake is not complete."""
        self.turns = Turns()
        self.poll_at = math.inf if poll_sockets is None else 0.0
        """The time on `perf_counter` from which on `poll` must be called before more work for connections."""
        self._large: ByClient[OpenConnection] = ByClient()
        """Connections that had more than READ_AHEAD octets in their buffers."""
        self.closing = False
        """True if TCP connections without TLS are closed after a reply."""
        self.closing_tls = False
        """True if TLS connections are closed after a reply."""
        self.hurrying = False
        """True if a connection is closed together with its reply, also if its client sends pipelined queries."""
        self._present: frozenset[OpenConnection] = frozenset()
        self._only: frozenset[OpenConnection] | None = None
        """The connections that are closed after a reply; None for all."""
        self._new: list[OpenConnection] = []
        """Connections whose socket is not registered in the selector yet."""

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Returns the event loop of the worker."""
        return asyncio.get_running_loop()

    def poll(self) -> None:
        """Reads the UDP sockets."""
        if self._poll_sockets is not None:
            self._poll_sockets()
            self.poll_at = perf_counter() + POLL_INTERVAL

    def settle_later(self, connection: OpenConnection) -> None:
        """Calls `settle` of a new connection in the next iteration of the event loop."""
        self._new.append(connection)
        if len(self._new) == 1:
            self.loop.call_soon(self._settle)

    def _settle(self) -> None:
        new, self._new = self._new, []
        for connection in new:
            connection.settle()

    def admit(self, client: bytes) -> bool:
        """Returns True if a client may open another connection.

        If the maximum is reached, closes a connection of the client that has the most. Returns False if no other client
        has more connections than this client.
        """
        if not self.full:
            return True
        candidates = self.open.most()
        if len(candidates) <= self.open.of(client) + 1:
            return False
        some = list(islice(candidates, _CANDIDATES))
        chosen = min(some, key=lambda one: (not one.waits_for_query, one.deadline))
        for one in some:  # the next choice compares others
            if one is not chosen:
                del candidates[one]
                candidates[one] = None
        chosen.shed(ShedReason.CONNECTIONS)
        self.remove(chosen)
        return True

    def remove(self, connection: OpenConnection) -> None:
        """Removes a connection that has ended."""
        self.open.discard(connection)
        self._large.discard(connection)

    def note_large(self, connection: OpenConnection) -> None:
        """Records that a connection has more than READ_AHEAD octets in its buffers.

        If there are too many such connections, closes the oldest one of the client that has the most of them.
        """
        large = self._large
        if connection in large:
            return
        large.add(connection, connection.client)
        if len(large) > MAX_LARGE:
            for one in tuple(large):
                if one.buffered <= READ_AHEAD:
                    large.discard(one)
        if len(large) > MAX_LARGE:
            chosen = next(iter(large.most()))
            chosen.shed(ShedReason.UNREAD)
            self.remove(chosen)

    @property
    def full(self) -> bool:
        """Returns True if the maximum number of connections is open."""
        return len(self.open) + len(self.handshaking) >= self.most

    @property
    def none(self) -> bool:
        """Returns True if no connection is open."""
        return not (self.open or self.handshaking)

    def is_closing(self, connection: OpenConnection, *, secure: bool) -> bool:
        """Returns True if the connection will be closed after a reply. `secure` is True for a TLS connection."""
        closing = self.closing_tls if secure else self.closing
        return closing and (self._only is None or connection in self._only)

    def note_present(self) -> None:
        """Records the connections that are open now. Called at the beginning of lame duck."""
        self._present = frozenset(self.open)

    def close_present(self) -> None:
        """Closes each connection that `note_present` has recorded after its next reply.

        Later connections stay open, because their clients may have no other server.
        """
        if not self.closing_tls:
            self.closing = self.closing_tls = True
            self._only = self._present

    def close_after_reply(self, *, tls_only: bool = False) -> None:
        """Closes each connection after its next reply. A connection whose client sends no query stays open.

        If queries are pipelined, the connection is closed when it has been idle for `tcp.IDLE_CLOSE`. With `tls_only`,
        only TLS connections are closed.
        """
        self._only = None
        self.closing_tls = True
        self.closing = self.closing or not tls_only

    def hurry(self) -> None:
        """Closes each connection that `close_after_reply` covers and whose client waits for no reply."""
        self.hurrying = True
        for connection in tuple(self.open):
            if connection.closing and connection.waits_for_query:
                connection.finish()

    def drain(self) -> None:
        """Closes each connection when the queries that have arrived are answered."""
        for connection in tuple(self.open):
            connection.finish()
        for transport in tuple(self.handshaking):
            transport.abort()
