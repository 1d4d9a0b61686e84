"""The calls to one etcd server that the plugin needs, over gRPC."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from svcdns.errors import SvcdnsError
from svcdns.plugins.etcd import messages
from svcdns.plugins.etcd.messages import Page, WatchResponse
from svcdns.plugins.etcd.options import Endpoint, Source
from svcdns.tls.contexts import client_context
from svcdns.tls.material import read
from svcdns.upstream.grpc_calls import GrpcCallError
from svcdns.upstream.grpc_channel import GrpcChannel, Stream
from svcdns.wire.protobuf import ProtobufError

TIMEOUT: Final = 5.0
"""The seconds that etcd has for a reply, as in CoreDNS."""
MAX_MESSAGE: Final = 32 << 20
"""The largest message in octets that is accepted from etcd."""
_FAILED_PRECONDITION: Final = 9
_NOT_ENABLED: Final = "authentication is not enabled"


class EtcdError(SvcdnsError):
    """Raised if an etcd server cannot be used, or if its reply is not a reply to the request."""


class EtcdClient:
    """A connection to one etcd server. Failed calls raise GrpcCallError, ProtobufError or EtcdError."""

    @classmethod
    async def connect(cls, endpoint: Endpoint, source: Source) -> EtcdClient:
        """Reads the certificates in a thread, and returns a client. Raises TlsError and EtcdError."""
        if not endpoint.is_secure:
            return cls(endpoint, source, None)
        try:
            async with asyncio.timeout(TIMEOUT):
                return cls(endpoint, source, await asyncio.to_thread(lambda: client_context(read(*source.tls))))
        except TimeoutError:
            raise EtcdError("the certificates cannot be read in time") from None

    def __init__(self, endpoint: Endpoint, source: Source, context: ssl.SSLContext | None) -> None:
        """With `context`, the connection uses TLS. Connects at the first call."""
        self._source = source
        self._channel = GrpcChannel(endpoint.host, endpoint.port, MAX_MESSAGE, path=endpoint.socket, context=context)
        self._metadata: dict[str, str] = {}

    async def log_in(self) -> None:
        """Gets a token, if the source has credentials."""
        source = self._source
        if not source.user:
            return
        request = messages.authenticate_request(source.user, source.password)
        try:
            reply = await self._channel.call(messages.AUTHENTICATE, request, TIMEOUT)
        except GrpcCallError as error:
            if error.status == _FAILED_PRECONDITION and _NOT_ENABLED in str(error):
                return
            raise
        self._metadata = {"token": messages.token(reply)}

    async def page(self, start: bytes, end: bytes, limit: int, revision: int) -> Page:
        """Returns at most `limit` keys from `start` to before `end`, as they were at `revision`; 0 means now."""
        request = messages.range_request(start, end, limit, revision)
        return messages.page(await self._channel.call(messages.RANGE, request, TIMEOUT, self._metadata))

    async def remaining(self, lease: int) -> int:
        """Returns the remaining seconds of a lease; -1 if there is no such lease."""
        request = messages.time_to_live_request(lease)
        reply = await self._channel.call(messages.TIME_TO_LIVE, request, TIMEOUT, self._metadata)
        return messages.time_to_live(reply)

    @asynccontextmanager
    async def watch(self, start: bytes, end: bytes, revision: int) -> AsyncIterator[Watch]:
        """Opens a watch for the events of the keys from `start` to before `end`, beginning with `revision`.

        The watch ends if the server loses contact with the cluster's leader.
        """
        metadata = {**self._metadata, "hasleader": "true"}
        async with self._channel.stream(messages.WATCH, metadata) as stream:
            async with asyncio.timeout(TIMEOUT):
                await stream.send(messages.watch_request(start, end, revision))
            yield Watch(stream)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()


class Watch:
    """A watch on the keys of a range."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def receive(self, timeout: float | None = None) -> WatchResponse:
        """Returns the next message. Raises TimeoutError if none arrives within `timeout` seconds."""
        async with asyncio.timeout(timeout):
            message = await self._stream.receive()
        if message is None:
            raise EtcdError("etcd has ended the watch")
        return messages.watch_response(message)


FAILURES: Final = (EtcdError, GrpcCallError, ProtobufError)
"""The exceptions that the methods of a client raise."""
