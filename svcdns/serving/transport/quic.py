"""DNS over dedicated QUIC connections (RFC 9250): each query has a stream of its own.

Rules:

1. Two octets before each message have its length. The message ID is 0 (RFC 9250 §4.2).
2. A violation of the protocol closes the connection with DOQ_PROTOCOL_ERROR (RFC 9250 §4.3.3).
3. A query that gets no reply ends its stream with DOQ_INTERNAL_ERROR.
4. No query is accepted before the handshake is complete: there are no session tickets, and thus no 0-RTT data.
"""

from __future__ import annotations

import socket
from typing import Final

from aioquic.quic.events import QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset

from svcdns.plugin_api.query import Client
from svcdns.quic.doq import ALPN, DoqError
from svcdns.serving.transport.encrypted import Endpoint
from svcdns.serving.transport.quic_connection import Outlet, Server, ServerConnection
from svcdns.serving.transport.quic_server import QuicServer
from svcdns.serving.transport.udp_batch import Sender
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.wire import hop_options
from svcdns.wire.tcp_framing import framed

RESPONSES: Final = Family(
    "coredns_dns_quic_responses_total",
    MetricKind.COUNTER,
    "Replies over QUIC, and connections that were closed because of an error, by error code.",
    ("server", "status"),
)
_HEADER: Final = 12


class DoqConnection(ServerConnection):
    """A client's connection. Each stream has one query."""

    def __init__(self, server: Server, client: Client, key: bytes, sender: Sender) -> None:
        super().__init__(server, client, key, sender)
        self._received: dict[int, bytearray] = {}
        """The octets of incomplete queries, by stream."""
        self._unfinished: set[int] = set()
        """The streams with a complete query that the client has not ended yet."""

    def handle(self, event: QuicEvent) -> None:
        """Handles an event of a stream."""
        if isinstance(event, StreamDataReceived):
            self._take(event.stream_id, event.data, ended=event.end_stream)
        elif isinstance(event, StreamReset | StopSendingReceived):
            self.note_reset()
            self._received.pop(event.stream_id, None)
            self._unfinished.discard(event.stream_id)
            self.forget(event.stream_id)

    def _take(self, stream: int, data: bytes, *, ended: bool) -> None:
        if stream in self._unfinished:
            if data:
                self._violation("more than one message on a stream")
            elif ended:
                self._unfinished.discard(stream)
            return
        received = self._received.pop(stream, None)
        if received is not None:
            received += data
            data = bytes(received)
        end = 2 + int.from_bytes(data[:2], "big")
        if len(data) >= 2 and len(data) == end:
            if not ended:
                self._unfinished.add(stream)
            self._query(stream, data[2:])
        elif ended or len(data) > end > 2:
            self._violation("the message does not have the length before it")
        else:
            self._received[stream] = bytearray(data)
            self.note_partial(stream)

    def _query(self, stream: int, packet: bytes) -> None:
        if len(packet) < _HEADER or packet[0] or packet[1]:
            self._violation("the message ID is not 0")
        elif _has_keepalive(packet):
            self._violation("the query has the EDNS option TCP keepalive")
        else:
            self.ask(stream, packet)

    def _violation(self, reason: str) -> None:
        self._count(DoqError.PROTOCOL_ERROR)
        self.close(DoqError.PROTOCOL_ERROR, reason)

    def dispatch(self, stream: int, packet: bytes) -> None:
        """Passes a query to the responder, and its reply to the client."""

        def reply(wire: bytes) -> None:
            if self.completed(stream):
                self._reply(stream, wire)
                self.replied()

        self.server.endpoint.answer(packet, self.client, reply, Outlet(self, stream))

    def _reply(self, stream: int, wire: bytes) -> None:
        if wire:
            self._count(DoqError.NO_ERROR)
            self._write(stream, wire, last=True)
        else:
            self._count(DoqError.INTERNAL_ERROR)
            self.quic.reset_stream(stream, DoqError.INTERNAL_ERROR)

    def more(self, stream: int, wire: bytes) -> None:
        """Sends a message that is not the last one of its reply."""
        self._write(stream, wire, last=False)

    def _write(self, stream: int, wire: bytes, *, last: bool) -> None:
        self.quic.send_stream_data(stream, framed(wire), last)
        self.note_written(len(wire))

    def _count(self, code: DoqError) -> None:
        endpoint = self.server.endpoint
        endpoint.counters.count(RESPONSES, endpoint.server, f"0x{code:x}")


def _has_keepalive(packet: bytes) -> bool:
    """Returns True if a query of the usual form has the option that RFC 9250 §5.5.2 forbids."""
    stripped = hop_options.strip(packet) if hop_options.may_have_options(packet) else None
    return stripped is not None and stripped.options.keepalive


class Quic:
    """The transport `quic` (DNS over QUIC), with the default limits of CoreDNS."""

    alpn = ALPN
    no_error: int = DoqError.NO_ERROR
    internal_error: int = DoqError.INTERNAL_ERROR
    excessive_load: int = DoqError.EXCESSIVE_LOAD
    default_connections = 200
    default_streams = 256
    default_pool = 1024
    max_uni_streams = 0

    def connection(self, server: Server, client: Client, key: bytes, sender: Sender) -> ServerConnection:
        """Returns the object for a new connection."""
        return DoqConnection(server, client, key, sender)

    def serve(self, endpoint: Endpoint, sock: socket.socket) -> QuicServer:
        """Returns the server of a socket."""
        return QuicServer(endpoint, sock, self)


TRANSPORT: Final = Quic()
