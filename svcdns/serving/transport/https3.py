"""DNS over HTTP/3 (RFC 8484 over RFC 9114). As for the other versions of HTTP, `doh`
checks requests and makes the header fields of responses.

Rules:

1. The header fields of a request take at most MAX_HEADERS octets. The server permits no dynamic QPACK table, so a short
   field section cannot stand for very long header fields.
2. A request that is refused because of its header fields is answered before its body arrives.
3. When the connection is about to be closed, the client gets GOAWAY (RFC 9114 §5.2).
"""

from __future__ import annotations

import socket
from typing import Final

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, FrameType, H3Connection, Setting, encode_frame
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.events import QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset

from svcdns.plugin_api.query import Client
from svcdns.plugin_api.tracing import HeaderFields
from svcdns.quic.connection import BoundedConnection
from svcdns.serving.metrics import ShedReason
from svcdns.serving.transport import doh
from svcdns.serving.transport.encrypted import Endpoint
from svcdns.serving.transport.quic_connection import Server, ServerConnection
from svcdns.serving.transport.quic_server import QuicServer
from svcdns.serving.transport.udp_batch import Sender
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.wire.message import MAX_MESSAGE

MAX_HEADERS: Final = 16 << 10
"""The most octets of an encoded field section, as in CoreDNS."""
RESPONSES: Final = Family(
    "coredns_dns_https3_responses_total",
    MetricKind.COUNTER,
    "Counter of DoH3 responses per server and http status code.",
    ("server", "status"),
)


class _Http3(H3Connection):
    """The framing of HTTP/3, without a dynamic QPACK table."""

    def __init__(self, quic: BoundedConnection) -> None:
        super().__init__(quic)
        self._decoder = pylsqpack.Decoder(0, 0)

    def _get_local_settings(self) -> dict[int, int]:
        return {
            Setting.QPACK_MAX_TABLE_CAPACITY: 0,
            Setting.QPACK_BLOCKED_STREAMS: 0,
            Setting.MAX_FIELD_SECTION_SIZE: MAX_HEADERS,
        }

    def buffered(self, stream: int) -> int:
        """Returns the octets of a stream's incomplete frame."""
        found = self._stream.get(stream)
        return 0 if found is None else len(found.buffer)

    def release(self, stream: int) -> None:
        """Drops what is stored about a stream."""
        self._stream.pop(stream, None)

    def go_away(self, stream: int) -> None:
        """Sends GOAWAY. The server does not answer `stream` and streams with greater IDs."""
        if self._local_control_stream_id is not None:
            frame = encode_frame(FrameType.GOAWAY, encode_uint_var(stream))
            self._quic.send_stream_data(self._local_control_stream_id, frame)


class _Request:
    """A request whose body has not arrived completely."""

    __slots__ = ("body", "fields", "method", "target")

    def __init__(self, method: bytes, target: bytes, fields: HeaderFields) -> None:
        self.method, self.target, self.fields, self.body = method, target, fields, bytearray()


class Http3Connection(ServerConnection):
    """A client's connection. Each stream that the client opens in both directions has one request."""

    def __init__(self, server: Server, client: Client, key: bytes, sender: Sender) -> None:
        super().__init__(server, client, key, sender)
        self._http: _Http3 | None = None
        self._requests: dict[int, _Request] = {}
        self._trace_fields: dict[int, HeaderFields] = {}
        """By stream: the header fields of complete requests that belong to a trace."""
        self._next_stream = 0
        """The lowest ID that no stream of the client has had."""

    def started(self) -> None:
        """Sends the server's settings."""
        self._http = _Http3(self.quic)

    def handle(self, event: QuicEvent) -> None:
        """Handles an event of a stream."""
        if self._http is None:
            return
        stream = event.stream_id if isinstance(event, StreamDataReceived | StreamReset | StopSendingReceived) else -1
        is_request = stream >= 0 and not stream & 3
        if is_request and isinstance(event, StreamDataReceived) and stream >= self._next_stream:
            self._next_stream = stream + 4
            self.note_partial(stream)
        for found in self._http.handle_event(event):
            self._handle_http(found)
        if self._http.buffered(stream) > MAX_HEADERS:
            self.shed(ShedReason.MISUSE)
        if is_request and isinstance(event, StreamReset | StopSendingReceived):
            self.note_reset()
            self.forget(stream)

    def _handle_http(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            if event.stream_id not in self._requests and event.stream_id in self._partial:
                self._begin(event)
            elif event.stream_ended:
                self._complete(event.stream_id)  # trailers
        elif isinstance(event, DataReceived):
            self._add(event)

    def _begin(self, event: HeadersReceived) -> None:
        method = target = length = b""
        for name, value in event.headers:
            if name == b":method":
                method = value
            elif name == b":path":
                target = value
            elif name == b"content-length":
                length = value
        status = doh.refusal(method, target)
        if not status and length.isdigit() and int(length[:9]) > MAX_MESSAGE:
            status = doh.BAD_REQUEST
        if status:
            self._refuse(event.stream_id, status)
            return
        self._requests[event.stream_id] = _Request(
            method, target, doh.trace_fields(self.server.endpoint, event.headers)
        )
        if event.stream_ended:
            self._complete(event.stream_id)

    def _add(self, event: DataReceived) -> None:
        request = self._requests.get(event.stream_id)
        if request is None:
            return
        if request.method == b"POST":
            request.body += event.data
            if len(request.body) > MAX_MESSAGE:
                self._refuse(event.stream_id, doh.BAD_REQUEST)
                return
        if event.stream_ended:
            self._complete(event.stream_id)

    def _complete(self, stream: int) -> None:
        request = self._requests.pop(stream, None)
        if request is None:
            return
        packet = doh.packet_of(request.target) if request.method == b"GET" else bytes(request.body)
        if packet is None:
            self._refuse(stream, doh.BAD_REQUEST)
        else:
            if request.fields:
                self._trace_fields[stream] = request.fields
            self.ask(stream, packet)

    def _refuse(self, stream: int, status: int) -> None:
        self._requests.pop(stream, None)
        super().forget(stream)
        self._respond(stream, status, doh.TEXTS[status], 0)

    def dispatch(self, stream: int, packet: bytes) -> None:
        """Passes a query to the responder, and its reply to the client as an HTTP response."""

        def respond(status: int, body: bytes, max_age: int) -> None:
            if self.completed(stream):
                self._respond(stream, status, body, max_age)
                self.replied()

        doh.ask(self.server.endpoint, packet, self.client, respond, self._trace_fields.pop(stream, ()))

    def _respond(self, stream: int, status: int, body: bytes, max_age: int) -> None:
        endpoint = self.server.endpoint
        endpoint.counters.count(RESPONSES, endpoint.server, str(status))
        if self._http is None or not self.quic.has_stream(stream):
            return
        headers = [(b":status", b"%d" % status), *doh.fields(status, body, max_age)]
        self._http.send_headers(stream, headers)
        self._http.send_data(stream, body, end_stream=True)
        self.note_written(len(body))

    def forget(self, stream: int) -> None:
        """Drops the request of a stream."""
        super().forget(stream)
        self._requests.pop(stream, None)
        self._trace_fields.pop(stream, None)
        if self._http is not None:
            self._http.release(stream)

    def go_away(self) -> None:
        """Sends GOAWAY, so that the client sends its next requests on another connection."""
        if self._http is not None and not self.ended and not self.quic.is_closing:
            self._http.go_away(self._next_stream)


class Https3:
    """The transport `https3` (DNS over HTTP/3), with the default limits of CoreDNS."""

    alpn = "h3"
    no_error: int = ErrorCode.H3_NO_ERROR
    internal_error: int = ErrorCode.H3_INTERNAL_ERROR
    excessive_load: int = ErrorCode.H3_EXCESSIVE_LOAD
    default_connections = 200
    default_streams = 256
    default_pool = 0
    max_uni_streams = 8

    def connection(self, server: Server, client: Client, key: bytes, sender: Sender) -> ServerConnection:
        """Returns the object for a new connection."""
        return Http3Connection(server, client, key, sender)

    def serve(self, endpoint: Endpoint, sock: socket.socket) -> QuicServer:
        """Returns the server of a socket."""
        return QuicServer(endpoint, sock, self)


TRANSPORT: Final = Https3()
