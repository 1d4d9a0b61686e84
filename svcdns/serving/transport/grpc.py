"""DNS over gRPC: the service `coredns.dns.DnsService` of CoreDNS, on connections of HTTP/2.

The connections are those of DNS over HTTPS, with the same limits. A call is a POST request. The body of
the request is one message: a flag, a length, and a DnsPacket. The status of a call is in trailers after the reply.

The server does not use grpclib: the library accepts messages of any size, and has no limits against misuse.
Connections of grpclib also end in another way than those of the other transports.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived

from svcdns.plugin_api.query import Client
from svcdns.serving.transport.encrypted import Endpoint
from svcdns.serving.transport.http2 import MAX_BODIES, Http2Connection
from svcdns.serving.transport.stream_connection import StreamConnection
from svcdns.upstream import dns_packet
from svcdns.wire.protobuf import ProtobufError
from svcdns.wire.request import HEADER

MAX_STREAMS: Final = 256
"""The most calls of a connection at the same time, if the Corefile has no limit."""
UNBOUNDED: Final = (1 << 31) - 1
_PREFIX: Final = 5
"""The octets before a message: a flag, and the length of the message."""
_PATH: Final = dns_packet.METHOD.encode()
_SERVICE: Final = _PATH.rpartition(b"/")[0] + b"/"
_CONTENT_TYPE: Final = b"application/grpc"
_HEAD: Final = ((b":status", b"200"), (b"content-type", _CONTENT_TYPE))
_TRAILERS: Final = ((b"grpc-status", b"0"),)


class Failure(NamedTuple):
    """The status of a call that has no reply: its number (https://grpc.github.io/grpc/core/md_doc_statuscodes.html)
    and a text for people.
    """

    code: int
    text: str


_UNKNOWN: Final = 2
_RESOURCE_EXHAUSTED: Final = 8
_UNIMPLEMENTED: Final = 12
_INTERNAL: Final = 13
_UNAVAILABLE: Final = 14


class _Call:
    """A call whose message has arrived in part."""

    __slots__ = ("body", "method", "target")

    def __init__(self) -> None:
        self.method, self.target, self.body = b"POST", _PATH, bytearray()


class GrpcConnection(Http2Connection):
    """A connection of a gRPC client."""

    def max_streams(self, endpoint: Endpoint) -> int:
        """Returns the most calls of the connection at the same time."""
        configured = endpoint.limits.max_streams
        return MAX_STREAMS if configured is None else configured or UNBOUNDED

    # -- calls

    def _begin(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        if self.finishing:
            self._reset(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        fields = dict(event.headers)
        if fields.get(b":method") != b"POST" or not fields.get(b"content-type", b"").startswith(_CONTENT_TYPE):
            status = b"405" if fields.get(b":method") != b"POST" else b"415"
            self._refuse(event, [(b":status", status)])
            return
        path = fields.get(b":path", b"")
        if path != _PATH:
            kind = "method" if path.startswith(_SERVICE) else "service"
            shown = path[:100].decode("ascii", "replace")
            self._refuse(event, _failed(Failure(_UNIMPLEMENTED, f"unknown {kind} of {shown}")))
        else:
            self._streams[stream_id] = _Call()  # type: ignore[assignment]

    def _refuse(self, event: RequestReceived, head: list[tuple[bytes, bytes]]) -> None:
        """Ends a call before its message has arrived."""
        assert event.stream_id is not None
        self._end_call(event.stream_id, head)
        if event.stream_ended is None:
            self._reset(event.stream_id, ErrorCodes.NO_ERROR)

    def _end_call(self, stream_id: int, head: list[tuple[bytes, bytes]]) -> None:
        self._filter.control = 0
        self.started()
        self._answering.add(stream_id)
        self._send_response(stream_id, head, b"")

    def _add(self, event: DataReceived) -> None:
        assert event.stream_id is not None
        call = self._streams.get(event.stream_id)
        length = event.flow_controlled_length
        if call is None:
            self._http.acknowledge_received_data(length, event.stream_id)
            return
        call.body += event.data
        self._body_octets += len(event.data)
        failure = _too_long(call.body)
        if failure is not None:
            self._forget(event.stream_id)
            self._end_call(event.stream_id, _failed(failure))
            self._reset(event.stream_id, ErrorCodes.NO_ERROR)
        elif self._body_octets > MAX_BODIES:
            self._disconnect()
        elif length:
            self._http.acknowledge_received_data(length, event.stream_id)

    def _complete(self, stream_id: int) -> None:
        call = self._streams.pop(stream_id, None)
        if call is None:
            return
        self._body_octets -= len(call.body)
        packet = _message(bytes(call.body))
        if isinstance(packet, Failure):
            self._end_call(stream_id, _failed(packet))
            return
        self._filter.control = 0
        self.started()
        self._answering.add(stream_id)
        assert self.peer is not None
        self.endpoint.answer(packet, self.peer, partial(self._reply, stream_id))

    # -- replies

    def _reply(self, stream_id: int, wire: bytes) -> None:
        """Sends the reply of a call, unless the client has cancelled the call.

        An empty `wire` means that a plugin dropped the query.
        """
        if self.ended or stream_id not in self._answering:
            self.in_flight -= 1
        elif wire:
            packet = dns_packet.to_packet(wire)
            self._send_response(stream_id, _HEAD, b"\0" + len(packet).to_bytes(4, "big") + packet)
        else:
            self._send_response(stream_id, _failed(Failure(_UNAVAILABLE, "no response")), b"")

    def _send_part(self, stream_id: int, part: bytes, *, last: bool) -> None:
        """Sends a part of a reply. Trailers end the call after the last part."""
        self._http.send_data(stream_id, part)
        if last:
            self._http.send_headers(stream_id, _TRAILERS, end_stream=True)


def _failed(failure: Failure) -> list[tuple[bytes, bytes]]:
    """Returns the header fields of a call that ends without a reply."""
    return [*_HEAD, (b"grpc-status", b"%d" % failure.code), (b"grpc-message", quote(failure.text, " /:").encode())]


def _too_long(body: bytearray) -> Failure | None:
    """Returns a failure if the message is too long, otherwise None. A call states the length before the message."""
    length = int.from_bytes(body[1:_PREFIX], "big") if len(body) >= _PREFIX else 0
    if length <= dns_packet.MAX_PACKET and len(body) <= _PREFIX + dns_packet.MAX_PACKET:
        return None
    text = f"received message larger than max ({max(length, len(body) - _PREFIX)} vs. {dns_packet.MAX_PACKET})"
    return Failure(_RESOURCE_EXHAUSTED, text)


def _message(body: bytes) -> bytes | Failure:
    """Returns the DNS message in the body of a call, or a failure."""
    if len(body) < _PREFIX or len(body) != _PREFIX + int.from_bytes(body[1:_PREFIX], "big"):
        return Failure(_INTERNAL, "a call has exactly one message")
    if body[0]:
        return Failure(_UNIMPLEMENTED, "compressed messages are not supported")
    try:
        packet = dns_packet.from_packet(body[_PREFIX:])
    except ProtobufError as error:
        return Failure(_INTERNAL, f"error unmarshalling request: {error}")
    return packet if len(packet) >= HEADER.size else Failure(_UNKNOWN, "the DNS message is too short")


class Grpc:
    """The transport `grpc`. A listener without a certificate serves clear text, as CoreDNS does."""

    alpn = ("h2",)
    default_connections = 200

    def connection(self, endpoint: Endpoint, proxied: Client | None, tls: Any) -> StreamConnection:  # noqa: ARG002
        """Returns the protocol of a connection. `tls` is its TLS object, or None for clear text."""
        return GrpcConnection(endpoint, proxied)


TRANSPORT: Final = Grpc()
