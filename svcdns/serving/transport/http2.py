"""DNS over HTTPS with HTTP/2 (RFC 9113): many requests at a time on a connection. The library h2 has the framing.

Rules against misuse (docs/security.md#encrypted-transports):

1. A request whose body or parameter `dns` is too long is refused when its length is known.
2. A connection is closed if its client resets more requests than it lets finish, by more than MAX_RESETS.
3. A connection is closed if its client sends more than MAX_CONTROL frames, such as PING, without a request.
4. Replies that the client's flow control holds back take at most MAX_HELD octets.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error, ProtocolError
from h2.settings import SettingCodes, Settings

from svcdns.plugin_api.query import Client
from svcdns.plugin_api.tracing import HeaderFields
from svcdns.serving.metrics import ShedReason
from svcdns.serving.transport import doh
from svcdns.serving.transport.encrypted import Endpoint
from svcdns.serving.transport.stream_connection import StreamConnection
from svcdns.wire.errors import FormError
from svcdns.wire.http2_frames import FrameFilter, goaway
from svcdns.wire.message import MAX_MESSAGE

MAX_STREAMS: Final = 100
"""The most requests of a connection at the same time."""
MAX_HEADER_LIST: Final = 16 << 10
"""The most octets of a request's header fields, as RFC 9113 §6.5.2 counts them."""
MAX_RESETS: Final = 100
MAX_CONTROL: Final = 200
MAX_BODIES: Final = 128 << 10
"""The most octets of incomplete bodies on a connection. A client that sends more is disconnected."""
MAX_HELD: Final = 128 << 10
"""The most octets of replies that a client's flow control holds back."""
LINGER: Final = 0.1
"""The seconds after GOAWAY in which new requests are refused by RST_STREAM, so that clients use another connection."""
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_CONFIG: Final = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


class _Stream:
    """A request that has arrived in part."""

    __slots__ = ("body", "fields", "method", "target")

    def __init__(self, method: bytes, target: bytes, fields: HeaderFields = ()) -> None:
        self.method, self.target, self.fields, self.body = method, target, fields, bytearray()


class Http2Connection(StreamConnection):
    """A connection of a client that uses HTTP/2. DNS over gRPC overrides what differs from DNS over HTTPS."""

    linger = LINGER

    def __init__(self, endpoint: Endpoint, proxied: Client | None) -> None:
        """The parameters are those of `StreamConnection`."""
        super().__init__(endpoint, proxied)
        self._http = H2Connection(config=_CONFIG)
        self._http.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: self.max_streams(endpoint),
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
                SettingCodes.INITIAL_WINDOW_SIZE: MAX_MESSAGE,
            },
        )
        self._http.decoder.max_header_list_size = MAX_HEADER_LIST
        self._streams: dict[int, _Stream] = {}
        self._answering: set[int] = set()
        self._held: dict[int, bytes] = {}
        """By stream: the part of a reply that the client's flow control holds back."""
        self._held_octets = self._body_octets = 0
        self._resets = 0
        self._filter = FrameFilter(MAX_HEADER_LIST, MAX_CONTROL, len(PREFACE))
        self._decoding = False

    def max_streams(self, endpoint: Endpoint) -> int:  # noqa: ARG002 - DNS over gRPC has an option
        """Returns the most requests of the connection at the same time."""
        return MAX_STREAMS

    @property
    def unfinished(self) -> bool:
        """Returns True if a request has arrived in part."""
        return bool(self._streams)

    @property
    def kept(self) -> int:
        """Returns the octets of bodies that have arrived in part."""
        return self._body_octets

    @property
    def pending(self) -> int:
        """Returns the octets of replies that the client's flow control holds back."""
        return self._held_octets

    def begin(self) -> None:
        """Sends the settings of the server."""
        self._http.initiate_connection()
        self._flush()

    def go_away(self) -> None:
        """Sends GOAWAY: requests that the server has not received must be sent on another connection."""
        if not self.ended:
            self._flush()
            self.write(goaway(self._http.highest_inbound_stream_id, ErrorCodes.NO_ERROR))

    def lost(self) -> None:
        """Releases the requests of a connection that has ended."""
        self._streams.clear()
        self._held.clear()

    def decode(self, data: bytes) -> None:
        """Decodes octets of the client, and answers complete requests."""
        self._decoding = True
        try:
            octets = self._filter.feed(data)
            for event in self._http.receive_data(octets):
                self._handle(event)
                if self.ended:
                    return
        except FormError:
            self._disconnect()
            return
        except ProtocolError:
            self._flush()  # the GOAWAY that h2 has made
            self._transport.close()
            return
        finally:
            self._decoding = False
        self._flush()

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._begin(event)
            case DataReceived():
                self._add(event)
            case StreamEnded():
                self._complete(event.stream_id)
            case StreamReset():
                self._forget(event.stream_id)
                self._resets += 1
                if self._resets > MAX_RESETS:
                    self._disconnect()
            case WindowUpdated() | RemoteSettingsChanged():
                self._send_held()

    def _disconnect(self) -> None:
        """Closes the connection of a client that misuses HTTP/2."""
        self._http.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
        self._flush()
        self.shed(ShedReason.MISUSE)

    # -- requests

    def _begin(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        if self.finishing:
            self._reset(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        method = target = length = b""
        for name, value in event.headers:
            if name == b":method":
                method = value
            elif name == b":path":
                target = value
            elif name == b"content-length":
                length = value
        status = doh.refusal(method, target)
        if not status and int(length or 0) > MAX_MESSAGE:
            status = doh.BAD_REQUEST
        if status:
            self.started()
            self._answering.add(stream_id)
            self._respond(stream_id, status, doh.TEXTS[status], 0)
            if event.stream_ended is None:
                self._reset(stream_id, ErrorCodes.NO_ERROR)  # RFC 9113 §8.1: the rest of the request is not needed
        else:
            self._streams[stream_id] = _Stream(method, target, doh.trace_fields(self.endpoint, event.headers))

    def _add(self, event: DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.method == b"GET":
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            return
        stream.body += event.data
        self._body_octets += len(event.data)
        if len(stream.body) > MAX_MESSAGE:
            self._forget(event.stream_id)
            self.started()
            self._answering.add(event.stream_id)
            self._respond(event.stream_id, doh.BAD_REQUEST, doh.TEXTS[doh.BAD_REQUEST], 0)
            self._reset(event.stream_id, ErrorCodes.NO_ERROR)
        elif self._body_octets > MAX_BODIES:
            self._disconnect()
        elif event.stream_ended is None or event.flow_controlled_length:
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _complete(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            return
        self._body_octets -= len(stream.body)
        packet = doh.packet_of(stream.target) if stream.method == b"GET" else bytes(stream.body)
        self._filter.control = 0
        self.started()
        self._answering.add(stream_id)
        if packet is None:
            self._respond(stream_id, doh.BAD_REQUEST, doh.TEXTS[doh.BAD_REQUEST], 0)
            return
        assert self.peer is not None
        doh.ask(self.endpoint, packet, self.peer, partial(self._respond, stream_id), stream.fields)

    def _forget(self, stream_id: int) -> None:
        """Releases what is kept for a stream that has been reset."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._body_octets -= len(stream.body)
        self._held_octets -= len(self._held.pop(stream_id, b""))
        self._answering.discard(stream_id)

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        try:
            self._http.reset_stream(stream_id, code)
        except H2Error:  # the stream is closed already
            return

    # -- responses

    def _respond(self, stream_id: int, status: int, body: bytes, max_age: int) -> None:
        """Sends the response of a stream, unless the client has reset it."""
        if self.ended or stream_id not in self._answering:
            self.in_flight -= 1
            return
        self.endpoint.counters.count(doh.HTTPS_RESPONSES, self.endpoint.server, str(status))
        self._send_response(stream_id, [(b":status", b"%d" % status), *doh.fields(status, body, max_age)], body)

    def _send_response(self, stream_id: int, head: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Sends header fields and a body. Without a body, the response ends after the header fields."""
        self._answering.discard(stream_id)
        try:
            self._http.send_headers(stream_id, head, end_stream=not body)
            self._send_body(stream_id, body)
        except H2Error:
            self._forget(stream_id)
        else:
            self._resets = max(0, self._resets - 1)
        if self._held_octets > MAX_HELD:
            self.in_flight -= 1
            self.shed(ShedReason.UNREAD)
            return
        if not self._decoding:
            self._flush()
        self.replied()

    def _send_body(self, stream_id: int, body: bytes) -> None:
        """Sends the octets of a reply that the client's flow control allows, and keeps the rest."""
        http = self._http
        while body:
            size = min(len(body), http.local_flow_control_window(stream_id), http.max_outbound_frame_size)
            if size <= 0:
                self._held[stream_id] = body
                self._held_octets += len(body)
                return
            self._send_part(stream_id, body[:size], last=size == len(body))
            body = body[size:]

    def _send_part(self, stream_id: int, part: bytes, *, last: bool) -> None:
        """Sends a part of a body, which fits into one frame. The last part ends the response."""
        self._http.send_data(stream_id, part, end_stream=last)

    def _send_held(self) -> None:
        """Sends the octets of waiting replies that the client's flow control allows now."""
        for stream_id in tuple(self._held):
            body = self._held.pop(stream_id)
            self._held_octets -= len(body)
            try:
                self._send_body(stream_id, body)
            except H2Error:
                continue
            if stream_id in self._held:
                break
        if not self._held:
            self._set_deadline()
            if self.finishing:
                self._flush()
                self._close_if_done()

    def _flush(self) -> None:
        if not self.ended:
            self.write(self._http.data_to_send())
