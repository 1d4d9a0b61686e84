"""Calls of gRPC with one message in each direction, on a connection of HTTP/2.

Queries over gRPC use this module, because a call takes a third of the time that it takes with grpclib. Each failure of
a call is a GrpcCallError.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Final
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes

from svcdns.errors import SvcdnsError
from svcdns.tls.material import reason as tls_reason
from svcdns.wire.errors import FormError
from svcdns.wire.http2_frames import FrameFilter

DEADLINE_EXCEEDED: Final = 4
MAX_FIELDS: Final = 16 << 10
"""The most octets of the encoded header fields of a reply."""
MAX_CONTROL: Final = 1000
"""The most frames that are no part of a reply, between two replies."""
MAX_STREAMS: Final = 100
"""The most calls at the same time before the server has announced its limit."""
_PREFIX: Final = 5
_STATUSES: Final = (
    "ok", "cancelled", "unknown", "invalid argument", "deadline exceeded", "not found", "already exists",
    "permission denied", "resource exhausted", "failed precondition", "aborted", "out of range", "unimplemented",
    "internal", "unavailable", "data loss", "unauthenticated",
)  # fmt: skip
_CONFIG: Final = H2Configuration(
    client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False,
    validate_inbound_headers=False, normalize_inbound_headers=False,
)  # fmt: skip


class GrpcCallError(SvcdnsError):
    """Raised if a call fails. `status` is the status code of the server, or None if it sent none."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class _Call:
    """A call whose reply has arrived in part."""

    __slots__ = ("body", "fields", "future")

    def __init__(self, future: asyncio.Future[bytes]) -> None:
        self.future, self.body = future, bytearray()
        self.fields: dict[bytes, bytes] = {}


class _Connection(asyncio.Protocol):
    """A connection to a server."""

    def __init__(self, head: list[tuple[bytes, bytes]], limit: int) -> None:
        self._head, self._limit = head, limit
        self._loop = asyncio.get_running_loop()
        self._http = H2Connection(config=_CONFIG)
        self._http.decoder.max_header_list_size = MAX_FIELDS
        self._filter = FrameFilter(MAX_FIELDS, MAX_CONTROL)
        self._calls: dict[int, _Call] = {}
        self._most = MAX_STREAMS
        self._freed = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._flush_scheduled = False
        self.closed = False
        self.last_received = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and secured.selected_alpn_protocol() != "h2":
            self.end("the server does not offer HTTP/2")
            return
        self._http.initiate_connection()
        self._http.update_settings({SettingCodes.ENABLE_PUSH: 0})
        self._flush()

    async def call(self, message: bytes) -> bytes:
        """Sends a message, and returns the reply."""
        while len(self._calls) >= self._most and not self.closed:
            self._freed.clear()
            await self._freed.wait()
        if self.closed:
            raise GrpcCallError("connection lost")
        call = _Call(self._loop.create_future())
        number = self._http.get_next_available_stream_id()
        try:
            self._http.send_headers(number, self._head)
            self._http.send_data(number, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
        except H2Error as error:
            self._cancel(number)
            raise GrpcCallError(f"http2: {error}") from error
        self._calls[number] = call
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)
        try:
            return await call.future
        except asyncio.CancelledError:
            self._cancel(number)
            raise
        finally:
            self._calls.pop(number, None)
            self._freed.set()

    def _cancel(self, number: int) -> None:
        try:
            self._http.reset_stream(number, 8)
        except H2Error:  # the stream has ended, or was never opened
            return
        self._flush()

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._transport is not None and not self.closed:
            data = self._http.data_to_send()
            if data:
                self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.last_received = self._loop.time()
        try:
            for event in self._http.receive_data(self._filter.feed(data)):
                self._handle(event)
        except (H2Error, FormError, ValueError, KeyError, IndexError) as error:  # the latter three are errors of h2
            self.end(f"http2: {error}")
            return
        self._flush()
        if self._filter.goaway is not None:
            self.end("the server closes the connection")

    def _handle(self, event: Event) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                call = self._calls.get(event.stream_id)
                if call is not None:
                    call.fields |= dict(event.headers)
            case DataReceived():
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                call = self._calls.get(event.stream_id)
                if call is not None:
                    call.body += event.data
                    self._check_size(event.stream_id, call)
            case StreamEnded():
                call = self._calls.get(event.stream_id)
                if call is not None and not call.future.done():
                    self._filter.control = 0
                    _settle(call)
            case StreamReset():
                call = self._calls.get(event.stream_id)
                if call is not None and not call.future.done():
                    call.future.set_exception(GrpcCallError("the server reset the call"))
            case RemoteSettingsChanged():
                changed = event.changed_settings.get(SettingCodes.MAX_CONCURRENT_STREAMS)
                if changed is not None:
                    self._most = max(1, changed.new_value)

    def _check_size(self, number: int, call: _Call) -> None:
        length = int.from_bytes(call.body[1:_PREFIX], "big") if len(call.body) >= _PREFIX else 0
        size = max(length, len(call.body) - _PREFIX)
        if size > self._limit and not call.future.done():
            call.future.set_exception(GrpcCallError(f"a message of {size} octets; at most {self._limit} are accepted"))
            self._cancel(number)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.end("connection lost")

    def end(self, reason: str) -> None:
        """Closes the connection. Open calls fail."""
        self.closed = True
        for call in self._calls.values():
            if not call.future.done():
                call.future.set_exception(GrpcCallError(reason))
        self._freed.set()
        if self._transport is not None:
            self._transport.close()


def _settle(call: _Call) -> None:
    """Completes a call with its reply, or with an exception."""
    try:
        call.future.set_result(_message(call))
    except GrpcCallError as error:
        call.future.set_exception(error)


def _message(call: _Call) -> bytes:
    fields, body = call.fields, bytes(call.body)
    if fields.get(b":status") != b"200":
        raise GrpcCallError(f"HTTP status {fields.get(b':status', b'').decode(errors='replace')}")
    code = fields.get(b"grpc-status", b"")
    if not code.isdigit() or len(code) > 3:
        raise GrpcCallError("the reply has no gRPC status")
    status = int(code)
    if status:
        name = _STATUSES[status] if status < len(_STATUSES) else f"status {status}"
        text = unquote(fields.get(b"grpc-message", b"")[:200].decode("ascii", "replace"))
        raise GrpcCallError(f"{name}: {text}" if text else name, status)
    if len(body) < _PREFIX or len(body) != _PREFIX + int.from_bytes(body[1:_PREFIX], "big"):
        raise GrpcCallError("the reply is not exactly one message")
    if body[0]:
        raise GrpcCallError("the reply is compressed")
    return body[_PREFIX:]


class GrpcCalls:
    """The calls of one method of a server.

    The first call opens the connection, and so does the next call after the loss of the connection.
    """

    def __init__(
        self,
        method: str,
        host: str,
        port: int,
        limit: int,
        *,
        path: str = "",
        context: ssl.SSLContext | None = None,
        server_name: str = "",
    ) -> None:
        """`limit` is the largest message in octets. `path` is that of a Unix socket, in place of `host` and `port`.

        With `context`, the connection uses TLS. The certificate must be valid for `server_name`, or for the host.
        """
        if context is not None:
            context.set_alpn_protocols(["h2"])
        self._host, self._port, self._path, self._context, self._limit = host, port, path, context, limit
        self._server_name = None if context is None else server_name or host
        shown = f"[{host}]" if ":" in host else host
        self._head = [
            (b":method", b"POST"), (b":scheme", b"http" if context is None else b"https"), (b":path", method.encode()),
            (b":authority", f"{server_name or shown}:{port}".encode()), (b"te", b"trailers"),
            (b"content-type", b"application/grpc"), (b"user-agent", b"svcdns"),
        ]  # fmt: skip
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[_Connection] | None = None

    async def call(self, message: bytes, timeout: float) -> bytes:
        """Sends one message, and returns the server's message. Raises GrpcCallError."""
        started = asyncio.get_running_loop().time()
        connection = self._connection
        try:
            async with asyncio.timeout(timeout):
                if connection is None or connection.closed:
                    connection = await self._open()
                return await connection.call(message)
        except TimeoutError as error:
            if connection is not None and connection.last_received < started:
                connection.end("no reply in time")  # the server may be gone without a word
            raise GrpcCallError("no reply in time", DEADLINE_EXCEEDED) from error
        except ssl.SSLError as error:
            raise GrpcCallError(tls_reason(error)) from error
        except OSError as error:
            text = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
            raise GrpcCallError(text.lower()) from error

    async def _open(self) -> _Connection:
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._connect())
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        finally:
            if opening.done() and self._opening is opening:
                self._opening = None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()

        def factory() -> _Connection:
            return _Connection(self._head, self._limit)

        if self._path:
            _, connection = await loop.create_unix_connection(
                factory, self._path, ssl=self._context, server_hostname=self._server_name
            )
        else:
            _, connection = await loop.create_connection(
                factory, self._host, self._port, ssl=self._context, server_hostname=self._server_name
            )
        self._connection = connection
        return connection

    def close(self) -> None:
        """Closes the connection. Open calls fail."""
        if self._opening is not None:
            self._opening.cancel()
        if self._connection is not None:
            self._connection.end("the connection was closed")
