"""gRPC calls to one server, with a limit for the size of messages. Messages are octets.

The library is grpclib (pure Python, over h2). Only this module imports grpclib.
Each failure of a call is a GrpcCallError. grpclib itself accepts messages of any size, and raises many other errors.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from h2.exceptions import H2Error

from svcdns.tls.material import reason as tls_reason
from svcdns.upstream.grpc_calls import GrpcCallError

PING_INTERVAL: Final = 10.0
"""The seconds after which an idle connection is checked; etcd closes connections that are checked every 5 s."""
PING_TIMEOUT: Final = 5.0
"""The seconds that the server has to answer such a check."""
_HEADER: Final = 5
"""The octets before each message."""


class MessageTooLargeError(GrpcCallError):
    """Raised if the server sends a message that is larger than the limit."""


class _Octets(CodecBase):
    """A codec that passes octets on unchanged, because the callers encode and decode the messages."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:  # noqa: ARG002 - the signature is that of the base
        octets: bytes = message
        return octets

    def decode(self, data: bytes, message_type: Any) -> bytes:  # noqa: ARG002
        return data


class _Protocol(H2Protocol):
    """A connection of grpclib that is closed, without an exception, after an HTTP/2 event unknown to grpclib."""

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except NotImplementedError:
            self.processor.close("an unknown event of HTTP/2")


class _Channel(Channel):
    def _protocol_factory(self) -> H2Protocol:
        return _Protocol(super()._protocol_factory().handler, self._config, self._h2_config)


class Stream:
    """An open call whose messages are sent and received one after the other."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream, self._limit = stream, limit

    async def send(self, message: bytes, *, end: bool = False) -> None:
        """Sends a message. With `end`, it is the last one."""
        await self._stream.send_message(message, end=end)

    async def receive(self) -> bytes | None:
        """Returns the next message, or None at the end of the call."""
        _limit(self._stream, self._limit)
        message: bytes | None = await self._stream.recv_message()
        return message

    async def cancel(self) -> None:
        """Ends the call. Messages that the server still sends are ignored."""
        await self._stream.cancel()


class GrpcChannel:
    """A connection to a gRPC server. The first call opens it, and so does the next call after it was lost."""

    def __init__(
        self,
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
        config = Configuration(
            _keepalive_time=PING_INTERVAL,
            _keepalive_timeout=PING_TIMEOUT,
            _http2_max_pings_without_data=0,
            _http2_min_sent_ping_interval_without_data=PING_INTERVAL,
            ssl_target_name_override=server_name or (host if context is not None else None),
        )
        self._limit = limit
        where: dict[str, Any] = {"path": path} if path else {"host": host, "port": port}
        self._channel = _Channel(**where, codec=_Octets(), ssl=context, config=config)

    async def call(
        self, method: str, message: bytes, timeout: float, metadata: Mapping[str, str] | None = None
    ) -> bytes:
        """Sends one message, and returns the server's message. Raises GrpcCallError."""
        async with self._opened(method, Cardinality.UNARY_UNARY, metadata, timeout) as stream:
            await stream.send(message, end=True)
            reply = await stream.receive()
        if reply is None:
            raise GrpcCallError("the server sent no message")
        return reply

    @asynccontextmanager
    async def stream(self, method: str, metadata: Mapping[str, str] | None = None) -> AsyncIterator[Stream]:
        """Opens a call in which both sides send messages. Inside the `with` block, failures are GrpcCallError."""
        async with self._opened(method, Cardinality.STREAM_STREAM, metadata, None) as stream:
            yield stream
            await stream.cancel()

    @asynccontextmanager
    async def _opened(
        self, method: str, cardinality: Cardinality, metadata: Mapping[str, str] | None, timeout: float | None
    ) -> AsyncIterator[Stream]:
        try:
            async with self._channel.request(
                method, cardinality, bytes, bytes, timeout=timeout, metadata=dict(metadata or {})
            ) as stream:
                yield Stream(stream, self._limit)
        except GRPCError as error:
            raise GrpcCallError(_status_text(error), error.status.value) from error
        except TimeoutError as error:
            raise GrpcCallError("no reply in time", Status.DEADLINE_EXCEEDED.value) from error
        except ssl.SSLError as error:
            raise GrpcCallError(tls_reason(error)) from error
        except OSError as error:
            text = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
            raise GrpcCallError(text.lower()) from error
        except StreamTerminatedError as error:
            raise GrpcCallError(str(error).lower()) from error
        except (ProtocolError, H2Error, NotImplementedError, AssertionError, LookupError, ValueError) as error:
            text = f"not understood: {type(error).__name__}: {error}"  # the server broke a rule of gRPC
            raise GrpcCallError(text.removesuffix(": ")) from error

    def close(self) -> None:
        """Closes the connection. Open calls fail."""
        self._channel.close()


def _limit(stream: Any, limit: int) -> None:
    """Makes grpclib refuse messages of more than `limit` octets before it reads their octets."""
    under = stream._stream  # noqa: SLF001 - grpclib has no option for it
    if hasattr(under, "limited"):
        return
    read = under.recv_data

    async def bounded(size: int) -> bytes:
        if size > limit:
            raise MessageTooLargeError(f"a message of {size} octets; at most {limit} are accepted")
        data: bytes = await read(size)
        return data

    under.recv_data, under.limited = bounded, True


def _status_text(error: GRPCError) -> str:
    name = error.status.name.lower().replace("_", " ")
    return f"{name}: {error.message}" if error.message else name
