"""The open TCP and TLS connections of one worker, and how they end at a stop or an upgrade."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple, Protocol

from svcdns.serving.responder import Responder

MAX_CONNECTIONS: Final = 4096
"""The most open connections of one worker; further ones are closed at once."""


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

    @property
    def closing(self) -> bool:
        """True if the connection will be closed after a reply."""
        ...

    @property
    def waits_for_query(self) -> bool:
        """True if no query or reply is in progress, and nothing of the next query has arrived."""
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


class TcpConnections:
    """The open connections of one worker, up to a maximum.

    At a stop they are closed in four steps: `close_present`, `close_after_reply`, `hurry`, `drain`. The first two steps
    close a connection only after a reply, so that no client loses a query. An upgrade begins with the second step.
    """

    def __init__(self, most: int = MAX_CONNECTIONS) -> None:
        """`most` is the number of connections that may be open at once."""
        self.most = most
        self.open: set[OpenConnection] = set()
        self.handshaking: set[asyncio.Transport] = set()
        """The TLS connections whose handshake is not complete."""
        self.closing = False
        """True if TCP connections without TLS are closed after a reply."""
        self.closing_tls = False
        """True if TLS connections are closed after a reply."""
        self.hurrying = False
        """True if a connection is closed together with its reply, also if its client sends pipelined queries."""
        self._present: frozenset[OpenConnection] = frozenset()
        self._only: frozenset[OpenConnection] | None = None
        """The connections that are closed after a reply; None for all."""

    @property
    def full(self) -> bool:
        """True if no further connection is accepted."""
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
        """Closes, of the connections to be closed after a reply, those whose clients have no query in progress.

        The others are closed after their next reply. Call it after `close_after_reply`.
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
