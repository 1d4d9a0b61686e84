"""The open TCP and TLS connections of one worker: their limits, and how they end at a stop or an upgrade.

The limits are for all clients together. When a limit is reached, the client with the most connections loses one, so
that other clients find room. A client is an IPv4 address or an IPv6 network of 64 bits.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Iterator
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
    """A connection on its way from one worker to another.

    `fd` is its descriptor. `host`, `port` and `family` (4 or 6) identify its listener. `timeout` is the number of
    seconds until the connection's timeout. `buffer` has the octets of its next query that have arrived. `queries` is
    the number of queries that the client may still send, or -1 for any number.
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
        """True if the connection will be closed after a reply."""
        ...

    @property
    def waits_for_query(self) -> bool:
        """True if no query or reply is in progress, and nothing of the next query has arrived."""
        ...

    @property
    def deadline(self) -> float:
        """The time of the connection's timeout, on the loop's clock."""
        ...

    @property
    def buffered(self) -> int:
        """The octets that the connection has received and not answered, and those that its client has not taken."""
        ...

    def shed(self, reason: ShedReason) -> None:
        """Closes the connection at once, and counts it in a metric by `reason`."""
        ...

    def finish(self) -> None:
        """Closes the connection once all queries that have arrived are answered."""
        ...

    def detach(self) -> Detached | None:
        """Stops serving the connection, and returns it for another worker, or None if that is not possible now."""
        ...

    def close_detached(self) -> None:
        """Closes this process's descriptor of a detached connection."""
        ...

    def resume(self) -> None:
        """Serves a detached connection in this process again."""
        ...


def client_key(address: str) -> bytes:
    """Returns the octets that identify a client: its IPv4 address, or the first 64 bits of its IPv6 address."""
    host = address.partition("%")[0]
    return socket.inet_pton(socket.AF_INET6, host)[:8] if ":" in host else socket.inet_aton(host)


class ByClient(Generic[Item]):
    """A set of connections that knows the client of each."""

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
        """The connections, in the order in which they were added."""
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

    def most(self) -> dict[Item, None]:
        """Returns the connections of the client that has the most, the oldest first."""
        return max(self._items.values(), key=len, default={})


class TcpConnections:
    """The open connections of one worker, up to a maximum.

    At a stop they are closed in four steps: `close_present`, `close_after_reply`, `hurry`, `drain`. The first two steps
    close a connection only after a reply, so that no client loses a query. An upgrade begins with the second step.
    """

    def __init__(self, most: int = MAX_CONNECTIONS, poll_sockets: Callable[[], object] | None = None) -> None:
        """`most` is the number of connections that may be open at once.

        `poll_sockets` reads the UDP sockets. It is called between two pieces of work for connections.
        """
        self.most, self._poll_sockets = most, poll_sockets
        self.open: ByClient[OpenConnection] = ByClient()
        self.handshaking: ByClient[asyncio.Transport] = ByClient()
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

    def poll(self) -> None:
        """Reads the UDP sockets."""
        if self._poll_sockets is not None:
            self._poll_sockets()
            self.poll_at = perf_counter() + POLL_INTERVAL

    def admit(self, client: bytes) -> bool:
        """Returns True if a client may open a further connection.

        If too many are open, the client with the most connections loses one that has been idle for long. Returns False
        if no other client has more connections than this one would have.
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

        If too many connections do, closes the oldest of them that belongs to the client with the most of them.
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
        """True if the limit of open connections is reached."""
        return len(self.open) + len(self.handshaking) >= self.most

    @property
    def none(self) -> bool:
        """True if no connection is open."""
        return not (self.open or self.handshaking)

    def is_closing(self, connection: OpenConnection, *, secure: bool) -> bool:
        """Returns True if the connection will be closed after a reply; `secure` is True for a TLS connection."""
        closing = self.closing_tls if secure else self.closing
        return closing and (self._only is None or connection in self._only)

    def note_present(self) -> None:
        """Records which connections are open now, at the beginning of lame duck."""
        self._present = frozenset(self.open)

    def close_present(self) -> None:
        """From now on, closes a connection that `note_present` has recorded, as soon as it has got its next reply.

        The client of such a connection can connect to another replica. A connection that was opened later is served
        until the end, because its client may have no other server.
        """
        if not self.closing_tls:
            self.closing = self.closing_tls = True
            self._only = self._present

    def close_after_reply(self, *, tls_only: bool = False) -> None:
        """From now on, closes each connection after its next reply.

        A connection with pipelined queries is closed when it has been idle for a moment (`tcp.IDLE_CLOSE`). A
        connection whose client sends no further query stays open. With `tls_only`, this is done for TLS connections
        alone, because another worker takes over the other connections.
        """
        self._only = None
        self.closing_tls = True
        self.closing = self.closing or not tls_only

    def hurry(self) -> None:
        """Closes every connection that `close_after_reply` has marked and whose client waits for no reply.

        The other marked connections are closed after their next reply. Call it after `close_after_reply`.
        """
        self.hurrying = True
        for connection in tuple(self.open):
            if connection.closing and connection.waits_for_query:
                connection.finish()

    def drain(self) -> None:
        """Closes every connection as soon as its queries are answered."""
        for connection in tuple(self.open):
            connection.finish()
        for transport in tuple(self.handshaking):
            transport.abort()
