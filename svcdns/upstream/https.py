"""Queries to an upstream server over HTTPS (RFC 8484), with HTTP/2.

Each query is a request on a stream of its own, and has the message ID 0. Rules:

1. A query fails if the status of its response is not 200, or if the server resets its stream.
2. After GOAWAY, a connection gets no more queries. Queries that the server has not received are sent again.
3. A server that does not offer HTTP/2 cannot be used.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes

from svcdns.upstream.query import Dropped, ExchangeError, address_text, deliver
from svcdns.upstream.tcp import Connection, TcpQuery, UpstreamConnections
from svcdns.wire.errors import FormError
from svcdns.wire.http2_frames import FrameFilter
from svcdns.wire.message import MAX_MESSAGE

PATH: Final = "/dns-query"
MEDIA_TYPE: Final = "application/dns-message"
MAX_FIELDS: Final = 16 << 10
"""The most octets of the encoded header fields of a response."""
MAX_CONTROL: Final = 1000
"""The most frames that are no part of a response, between two responses."""
_CONFIG: Final = H2Configuration(client_side=True, header_encoding=None, validate_outbound_headers=False)
_OK: Final = b"200"


class _Response:
    """A response that has arrived in part."""

    __slots__ = ("body", "status")

    def __init__(self, status: bytes) -> None:
        self.status, self.body = status, bytearray()


class HttpsConnection(Connection):
    """One connection to a server, open or being opened."""

    def __init__(self, connections: UpstreamConnections, now: float, host: str, method: str) -> None:
        """`host` is the value of `:authority`. `method` is GET or POST."""
        super().__init__(connections, now)
        self._host, self._method = host, method
        self._http = H2Connection(config=_CONFIG)
        self._http.decoder.max_header_list_size = MAX_FIELDS
        self._filter = FrameFilter(MAX_FIELDS, MAX_CONTROL)
        self._responses: dict[int, _Response] = {}
        self._next_stream = 1

    def send(self, sent: TcpQuery) -> None:
        """Sends a query, or stores it until the connection is open."""
        sent.ident, self._next_stream = self._next_stream, self._next_stream + 2
        sent.connection = self
        self.open_queries[sent.ident] = sent
        if self._transport is not None:
            self._request(sent)
            self._flush()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the stored queries."""
        super().connection_made(transport)
        if self.closed:
            return
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and secured.selected_alpn_protocol() != "h2":
            self._fail_all("the server does not offer HTTP/2")
            self.close()
            return
        self._http.initiate_connection()
        self._http.update_settings({SettingCodes.ENABLE_PUSH: 0})
        for sent in tuple(self.open_queries.values()):
            self._request(sent)
        self._flush()

    def _request(self, sent: TcpQuery) -> None:
        packet = sent.query.packet(0)
        path, body = PATH, packet
        if self._method == "GET":
            path, body = f"{PATH}?dns={base64.urlsafe_b64encode(packet).rstrip(b'=').decode()}", b""
        head = [
            (":method", self._method), (":scheme", "https"), (":authority", self._host), (":path", path),
            ("accept", MEDIA_TYPE),
        ]  # fmt: skip
        if body:
            head += [("content-type", MEDIA_TYPE), ("content-length", str(len(body)))]
        try:
            self._http.send_headers(sent.ident, head, end_stream=not body)
            if body:
                self._http.send_data(sent.ident, body, end_stream=True)
        except H2Error as error:  # more streams, or more octets, than the server permits now
            self.open_queries.pop(sent.ident, None)
            self._end(sent, f"http2: {error}")

    def _flush(self) -> None:
        data = self._http.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)

    # -- replies

    def data_received(self, data: bytes) -> None:
        """Reads the octets of responses."""
        self.last_received = self.connections.clock()
        try:
            for event in self._http.receive_data(self._filter.feed(data)):
                self._handle(event)
                if self.closed:
                    return
        except (H2Error, FormError, ValueError, KeyError, IndexError) as error:  # the latter three are errors of h2
            self._flush()
            self._fail_all(f"http2: {error}")
            self.close()
            return
        if self._filter.goaway is not None:
            self._retire(self._filter.goaway.last_stream)
        self._flush()

    def _handle(self, event: Event) -> None:
        match event:
            case ResponseReceived():
                status = next((value for name, value in event.headers if name == b":status"), b"")
                self._responses[event.stream_id] = _Response(status)
            case DataReceived():
                self._add(event)
            case StreamEnded():
                self._complete(event.stream_id)
            case StreamReset():
                self._reset_by_server(event)
            case RemoteSettingsChanged():
                changed = event.changed_settings.get(SettingCodes.MAX_CONCURRENT_STREAMS)
                if changed is not None:
                    self.connections.limit_open_queries(changed.new_value)

    def _add(self, event: DataReceived) -> None:
        self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        response = self._responses.get(event.stream_id)
        if response is None:
            return
        response.body += event.data
        if len(response.body) > MAX_MESSAGE:
            self._discard(event.stream_id)
            sent = self.open_queries.get(event.stream_id)
            if sent is not None:
                self._drop(Dropped.MALFORMED, sent)

    def _complete(self, stream_id: int) -> None:
        response, sent = self._responses.pop(stream_id, None), self.open_queries.get(stream_id)
        if response is None or sent is None:
            return
        if response.status != _OK:
            del self.open_queries[stream_id]
            self.connections.query_ended(self)
            self._end(sent, f"HTTP status {response.status.decode(errors='replace')}")
            return
        received = sent.query.read(0, bytes(response.body))
        if isinstance(received, Dropped):
            self._drop(received, sent)
            return
        del self.open_queries[stream_id]
        self._filter.control = 0
        self.answered += 1
        self.connections.query_ended(self)
        deliver(sent.completed, received)

    def _reset_by_server(self, event: StreamReset) -> None:
        self._responses.pop(event.stream_id, None)
        sent = self.open_queries.pop(event.stream_id, None)
        if sent is None:
            return
        if event.error_code == ErrorCodes.REFUSED_STREAM:
            self.connections.resend(sent, self, "the server refused the request")
        else:
            self._end(sent, f"the server reset the request ({int(event.error_code or 0)})")
        self.connections.query_ended(self)

    def drop_query(self, sent: TcpQuery) -> None:
        """Cancels the request of a query that nobody waits for any more."""
        self._discard(sent.ident)
        self._flush()

    def _discard(self, stream_id: int) -> None:
        self._responses.pop(stream_id, None)
        try:
            self._http.reset_stream(stream_id, ErrorCodes.CANCEL)
        except H2Error:  # the stream has ended, or was never opened
            return

    # -- the end

    def _retire(self, last_stream: int) -> None:
        """After GOAWAY, sends the queries after `last_stream` again, and waits for the replies to the others."""
        self.connections.retire(self)
        for sent in [one for one in self.open_queries.values() if one.ident > last_stream]:
            del self.open_queries[sent.ident]
            self.connections.resend(sent, self, "the server closes the connection")
        if not self.open_queries:
            self.close()

    def _fail_all(self, reason: str) -> None:
        open_queries = tuple(self.open_queries.values())
        self.open_queries.clear()
        for sent in open_queries:
            self._end(sent, reason)

    def _end(self, sent: TcpQuery, reason: str) -> None:
        error = ExchangeError(f"{address_text(self.connections.server)}: {reason}")
        asyncio.get_running_loop().call_soon(deliver, sent.completed, error)
