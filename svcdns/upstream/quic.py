"""Connections to upstream servers over QUIC (RFC 9250). The server's certificate is always verified.

`UpstreamConnections` sees a connection as a byte stream of messages with their lengths, as over TLS. In between, each
query gets a stream of its own with the message ID 0, and its reply gets the query's ID back. 0-RTT is not used.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, cast

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamDataReceived, StreamReset

from svcdns.quic.configuration import client_configuration
from svcdns.quic.connection import BoundedConnection
from svcdns.quic.doq import ALPN, DoqError
from svcdns.upstream.query import Address
from svcdns.upstream.tls import ClientTls
from svcdns.wire.tcp_framing import framed, take_message

IDLE: Final = 30.0
"""The idle timeout that is offered to servers, in seconds. Connections are closed earlier (option `expire`)."""
_ID: Final = 2


class QuicConnector:
    """Opens QUIC connections to one server."""

    def __init__(self, server: Address, name: str, client: ClientTls, source: str = "") -> None:
        """The server's certificate must be valid for `name`, or for the server's address if `name` is empty.

        `source` is the local address.
        """
        self._server, self._name, self._client = server, name or server[0], client
        self._source = (source, 0) if source else None

    async def __call__(self, factory: Callable[[], asyncio.Protocol]) -> object:
        """Opens a connection, and makes the handshake.

        `factory` makes the connection's protocol. Raises OSError and TlsError.
        """
        loop = asyncio.get_running_loop()
        configuration = client_configuration(self._client.material, ALPN, IDLE, self._name)
        transport = QuicTransport(configuration, self._server)
        await loop.create_datagram_endpoint(
            lambda: transport, remote_addr=self._server, local_addr=self._source, family=_family(self._server[0])
        )
        try:
            await transport.established
        except asyncio.CancelledError:
            transport.abort()
            raise
        transport.set_protocol(factory())
        return transport


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class QuicTransport(asyncio.Transport, asyncio.DatagramProtocol):
    """A QUIC connection, as the transport of a protocol that writes and reads messages with their lengths."""

    def __init__(self, configuration: QuicConfiguration, server: Address) -> None:
        super().__init__()
        self._loop, self._server = asyncio.get_running_loop(), server
        self._quic = BoundedConnection(configuration)
        self.established: asyncio.Future[None] = self._loop.create_future()
        """Completed after the handshake, or with a ConnectionError if the connection fails during the handshake."""
        self._protocol: asyncio.BaseProtocol | None = None
        self._datagrams: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = bytearray()
        self._open: dict[int, tuple[bytes, bytearray]] = {}
        """By stream: the message ID of its query, and the octets of its reply."""
        self._ended = False

    # -- the side of the protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Connects a protocol. Called after the handshake."""
        self._protocol = protocol
        protocol.connection_made(self)

    def is_closing(self) -> bool:
        """Returns True if the connection has ended."""
        return self._ended

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends queries, each after two octets with its length."""
        self._unsent += data
        while (message := take_message(self._unsent)) is not None:
            stream = self._quic.get_next_available_stream_id()
            self._open[stream] = message[:_ID], bytearray()
            self._quic.send_stream_data(stream, framed(bytes(_ID) + message[_ID:]), end_stream=True)
        self._flush()

    def abort(self) -> None:
        """Closes the connection. The protocol's `connection_lost` is called later."""
        if not self._ended:
            self._quic.close(DoqError.NO_ERROR)
            self._flush()
            self._end(None)

    close = abort

    # -- the side of the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the handshake."""
        self._datagrams = cast("asyncio.DatagramTransport", transport)
        self._quic.connect(self._server, self._loop.time())
        self._flush()

    def datagram_received(self, data: bytes, addr: Any) -> None:  # noqa: ARG002 - the socket has one peer
        """Handles a datagram of the server."""
        if self._ended:
            return
        try:
            self._quic.receive_datagram(data, self._server, self._loop.time())
            self._events()
        except Exception as error:  # noqa: BLE001 - aioquic raises what a crafted packet leads to
            self._end(ConnectionError(f"quic: {error}"))
        self._flush()

    def error_received(self, exc: Exception) -> None:
        """Ends the connection if the server's host refuses the handshake."""
        if not self.established.done():
            self._end(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the socket is closed."""
        self._end(exc)

    # -- events

    def _events(self) -> None:
        while not self._ended and (event := self._quic.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                self._received(event)
            elif isinstance(event, StreamReset):
                self._open.pop(event.stream_id, None)  # the query runs into its timeout
            elif isinstance(event, HandshakeCompleted):
                if not self.established.done():
                    self.established.set_result(None)
            elif isinstance(event, ConnectionTerminated):
                self._end(ConnectionError(f"quic: {event.reason_phrase or f'error {event.error_code:#x}'}"))
        reason = self._quic.closed_because
        if reason is not None:
            self._flush()
            self._end(ConnectionError(f"quic: {reason}"))

    def _received(self, event: StreamDataReceived) -> None:
        """Passes a reply to the protocol when it is complete."""
        found = self._open.get(event.stream_id)
        if found is None:
            return
        ident, received = found
        received += event.data
        message = take_message(received)
        if message is not None:
            del self._open[event.stream_id]
            assert isinstance(self._protocol, asyncio.Protocol)
            if message[:_ID] == bytes(_ID):
                self._protocol.data_received(framed(ident + message[_ID:]))
            else:
                self._quic.close(DoqError.PROTOCOL_ERROR)
        elif event.end_stream:
            self._quic.close(DoqError.PROTOCOL_ERROR)

    def _flush(self) -> None:
        """Sends the connection's datagrams, and sets the timer."""
        if self._ended or self._datagrams is None:
            return
        now = self._loop.time()
        for datagram, _ in self._quic.datagrams_to_send(now):
            self._datagrams.sendto(datagram)
        if self._timer is not None:
            self._timer.cancel()
        at = self._quic.get_timer()
        self._timer = None if at is None else self._loop.call_at(at, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._quic.handle_timer(max(self._loop.time(), self._quic.get_timer() or 0.0))
        self._events()
        self._flush()

    def _end(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._datagrams is not None:
            self._datagrams.close()
        self._open.clear()
        if not self.established.done():
            self.established.set_exception(error or ConnectionResetError("quic: closed"))
            self.established.exception()  # nobody may wait for it any more
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, error)
