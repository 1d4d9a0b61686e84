"""A gRPC server of grpclib, whose messages are octets."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server

Method = Callable[[Any], Awaitable[None]]
"""Handles a call, which is a stream of grpclib."""


class _Octets(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        octets: bytes = message
        return octets

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class _Service:
    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods

    def __mapping__(self) -> dict[str, Handler]:
        return {
            path: Handler(method, Cardinality.STREAM_STREAM, bytes, bytes) for path, method in self._methods.items()
        }


@asynccontextmanager
async def served(methods: Mapping[str, Method], context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serves methods by their paths on 127.0.0.1, and yields the port."""
    server = Server([_Service(methods)], codec=_Octets())
    await server.start("127.0.0.1", 0, ssl=context)
    try:
        yield server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    finally:
        server.close()
        await server.wait_closed()
