"""gRPC calls, with a server of grpclib and with servers that break the rules."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import trustme
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from h2.exceptions import H2Error

from svcdns.upstream.grpc_calls import GrpcCallError
from svcdns.upstream.grpc_channel import GrpcChannel, MessageTooLargeError
from tests.support import grpc_service

LIMIT = 1000


class Service:
    """Answers with the message of the query, as the name of the method says."""

    async def echo(self, stream: Any) -> None:
        """Sends each message back, with the metadata `token`."""
        while (message := await stream.recv_message()) is not None:
            await stream.send_message(message + stream.metadata.get("token", "").encode())

    async def large(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(bytes(LIMIT + 1))

    async def refuse(self, stream: Any) -> None:
        await stream.recv_message()
        raise GRPCError(Status.UNAUTHENTICATED, "invalid auth token")

    async def hang(self, stream: Any) -> None:
        await stream.recv_message()
        await asyncio.sleep(60)


def served(context: ssl.SSLContext | None = None) -> AbstractAsyncContextManager[int]:
    """Serves the methods of `Service`, and yields the port."""
    one = Service()
    methods = {"echo": one.echo, "large": one.large, "refuse": one.refuse, "hang": one.hang}
    return grpc_service.served({f"/s/{name}": method for name, method in methods.items()}, context)


@asynccontextmanager
async def channel(port: int, **more: Any) -> AsyncIterator[GrpcChannel]:
    made = GrpcChannel("127.0.0.1", port, LIMIT, **more)
    try:
        yield made
    finally:
        made.close()


async def test_a_call() -> None:
    async with served() as port, channel(port) as made:
        assert await made.call("/s/echo", b"message", 10, {"token": "!"}) == b"message!"
        assert await made.call("/s/echo", bytes(LIMIT), 10) == bytes(LIMIT)


async def test_a_stream() -> None:
    """Messages go both ways. The end of the `with` block ends the call, and the connection stays."""
    async with served() as port, channel(port) as made:
        async with made.stream("/s/echo") as stream:
            for message in (b"one", b"two"):
                await stream.send(message)
                assert await stream.receive() == message
        assert await made.call("/s/echo", b"three", 10) == b"three"


@pytest.mark.parametrize(
    ("method", "timeout", "error", "status"),
    [
        pytest.param("refuse", 10, "unauthenticated: invalid auth token", 16, id="an error of the server"),
        pytest.param("hang", 0.05, "no reply in time", 4, id="time limit"),
        pytest.param("large", 10, f"a message of {LIMIT + 1} octets; at most {LIMIT} are accepted", None, id="large"),
    ],
)
async def test_calls_that_fail(method: str, timeout: float, error: str, status: int | None) -> None:
    """The channel can be used afterwards."""
    async with served() as port, channel(port) as made:
        with pytest.raises(GrpcCallError) as raised:
            await made.call(f"/s/{method}", b"x", timeout)
        assert (str(raised.value), raised.value.status) == (error, status)
        assert await made.call("/s/echo", b"x", 10) == b"x"


async def test_a_large_message_of_a_stream() -> None:
    async with served() as port, channel(port) as made, made.stream("/s/large") as stream:
        await stream.send(b"x")
        with pytest.raises(MessageTooLargeError):
            await stream.receive()


async def test_no_server() -> None:
    async with served() as port:
        pass
    async with channel(port) as made:
        with pytest.raises(GrpcCallError, match="connection refused"):
            await made.call("/s/echo", b"x", 10)


async def test_tls() -> None:
    """The certificate must have the name of the server."""
    authority = trustme.CA()
    context, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("etcd.test").configure_cert(context)
    authority.configure_trust(client)
    context.set_alpn_protocols(["h2"])
    async with served(context) as port:
        async with channel(port, context=client, server_name="etcd.test") as made:
            assert await made.call("/s/echo", b"x", 10) == b"x"
        async with channel(port, context=client) as made:
            with pytest.raises(GrpcCallError, match="verification failed: IP address mismatch"):
                await made.call("/s/echo", b"x", 10)


async def answered_with(raw: Callable[[H2Connection, int], None]) -> GrpcCallError:
    """Returns the error of a call to a server that sends what `raw` writes to the HTTP/2 connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = H2Connection(H2Configuration(client_side=False, validate_outbound_headers=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        with contextlib.suppress(H2Error, OSError):
            while octets := await reader.read(65536):
                for event in connection.receive_data(octets):
                    if isinstance(event, RequestReceived):
                        assert event.stream_id is not None
                        raw(connection, event.stream_id)
                writer.write(connection.data_to_send())
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        done.set()

    done = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, channel(server.sockets[0].getsockname()[1]) as made:
        with pytest.raises(GrpcCallError) as raised:
            await made.call("/s/x", b"x", 5)
        made.close()
        async with asyncio.timeout(10):
            await done.wait()
        return raised.value


def message(octets: bytes, *, end: bool) -> Callable[[H2Connection, int], None]:
    """Returns a function that sends the headers of a reply, and these octets."""

    def send(connection: H2Connection, number: int) -> None:
        connection.send_headers(number, OK)
        connection.send_data(number, octets, end_stream=end)

    return send


def headers(*fields: tuple[str, str]) -> Callable[[H2Connection, int], None]:
    return lambda connection, number: connection.send_headers(number, list(fields), end_stream=True)


OK = [(":status", "200"), ("content-type", "application/grpc")]


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        pytest.param(headers((":status", "502")), "unavailable: Received", id="HTTP error"),
        pytest.param(headers((":status", "200")), "unknown: Missing content-type", id="no gRPC"),
        pytest.param(headers(("x", "y")), "not understood: KeyError", id="no status"),
        pytest.param(message(b"\1\0\0\0\1x", end=True), "not understood: NotImplementedError", id="compressed"),
        pytest.param(message(b"\0\0\0\0\5x", end=True), "not understood: AssertionError", id="cut off"),
        pytest.param(message(b"\0\xff\xff\xff\xff", end=False), "a message of 4294967295 octets", id="a large length"),
        pytest.param(lambda c, n: c.reset_stream(n), "stream reset by remote party", id="reset"),
        pytest.param(lambda c, n: c.close_connection(), ("received goaway frame", "connection lost"), id="GOAWAY"),
    ],
)  # fmt: skip
async def test_servers_that_break_rules(raw: Callable[[H2Connection, int], None], error: str | tuple[str, ...]) -> None:
    assert str(await answered_with(raw)).startswith(error)
