"""Calls of gRPC with one message in each direction, with a server of grpclib and with servers that break rules."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from h2.exceptions import H2Error
from h2.settings import SettingCodes

from svcdns.upstream.grpc_calls import GrpcCallError, GrpcCalls
from tests.support import grpc_service
from tests.support.certificates import authority, pair, server

LIMIT = 1000


async def echo(stream: Any) -> None:
    await stream.send_message(await stream.recv_message())


async def refuse(stream: Any) -> None:
    await stream.recv_message()
    raise GRPCError(Status.NOT_FOUND, "no such name")


async def hang(stream: Any) -> None:
    await stream.recv_message()
    await asyncio.Event().wait()


async def large(stream: Any) -> None:
    await stream.recv_message()
    await stream.send_message(bytes(LIMIT + 1))


@asynccontextmanager
async def calls(method: grpc_service.Method, **more: Any) -> AsyncIterator[GrpcCalls]:
    """Serves a method, and yields a client of it."""
    async with grpc_service.served({"/s/m": method}, more.pop("serves", None)) as port:
        made = GrpcCalls("/s/m", "127.0.0.1", port, LIMIT, **more)
        try:
            yield made
        finally:
            made.close()


async def test_calls() -> None:
    """Many calls at a time share a connection."""
    async with calls(echo) as made:
        messages = [b"%d" % number for number in range(300)]
        assert await asyncio.gather(*(made.call(one, 10) for one in messages)) == messages
        assert await made.call(bytes(LIMIT), 10) == bytes(LIMIT)


@pytest.mark.parametrize(
    ("method", "timeout", "error", "status"),
    [
        pytest.param(refuse, 10, "not found: no such name", 5, id="an error of the server"),
        pytest.param(hang, 0.05, "no reply in time", 4, id="time limit"),
        pytest.param(large, 10, f"a message of {LIMIT + 1} octets; at most {LIMIT} are accepted", None, id="large"),
    ],
)
async def test_calls_that_fail(method: grpc_service.Method, timeout: float, error: str, status: int | None) -> None:
    async with calls(method) as made:
        for _ in range(2):
            with pytest.raises(GrpcCallError) as raised:
                await made.call(b"x", timeout)
            assert (str(raised.value), raised.value.status) == (error, status)


async def test_tls(tmp_path: Any) -> None:
    """The certificate must have the name of the server, and the server must offer HTTP/2."""
    context = server(pair(), tmp_path)
    context.set_alpn_protocols(["h2"])
    async with calls(echo, serves=context, context=authority().client(), server_name="dns.test") as made:
        assert await made.call(b"x", 10) == b"x"
    async with calls(echo, serves=context, context=authority().client(), server_name="other.test") as made:
        with pytest.raises(GrpcCallError, match="certificate verification failed"):
            await made.call(b"x", 10)
    without: ssl.SSLContext = server(pair(), tmp_path)
    async with calls(echo, serves=without, context=authority().client(), server_name="dns.test") as made:
        with pytest.raises(GrpcCallError, match=r"does not offer HTTP/2|connection lost"):
            await made.call(b"x", 10)


async def test_no_server_and_a_new_connection() -> None:
    async with calls(echo) as made:
        assert await made.call(b"x", 10) == b"x"
        assert made._connection is not None
        made._connection.end("test")
        assert await made.call(b"y", 10) == b"y"
    with pytest.raises(GrpcCallError, match="connection refused"):
        await made.call(b"x", 10)


Raw = Callable[[H2Connection, int], object]


@asynccontextmanager
async def raw_server(raw: Raw, settings: dict[int, int] | None = None) -> AsyncIterator[GrpcCalls]:
    """Runs a server that writes `raw` to the HTTP/2 connection for each request, and yields a client of it."""
    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done = asyncio.Event()
        ended.append(done)
        connection = H2Connection(H2Configuration(client_side=False, validate_outbound_headers=False))
        connection.initiate_connection()
        if settings:
            connection.update_settings(settings)
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

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = GrpcCalls("/s/m", "127.0.0.1", listening.sockets[0].getsockname()[1], LIMIT)
    async with listening:
        try:
            yield made
        finally:
            made.close()
            async with asyncio.timeout(10):
                for done in ended:
                    await done.wait()


OK = ((":status", "200"), ("content-type", "application/grpc"))
ENDS = (("grpc-status", "0"),)


def reply(body: bytes, trailers: Sequence[tuple[str, str]] = ENDS) -> Raw:
    def send(connection: H2Connection, number: int) -> None:
        connection.send_headers(number, OK)
        connection.send_data(number, body)
        connection.send_headers(number, trailers, end_stream=True)

    return send


def headers(*fields: tuple[str, str]) -> Raw:
    return lambda connection, number: connection.send_headers(number, list(fields), end_stream=True)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        pytest.param(headers((":status", "502")), "HTTP status 502", id="HTTP error"),
        pytest.param(headers(*OK), "the reply has no gRPC status", id="no status"),
        pytest.param(headers(*OK, ("grpc-status", "99")), "status 99", id="unknown status"),
        pytest.param(headers(*OK, ("grpc-status", "x")), "the reply has no gRPC status", id="wrong status"),
        pytest.param(reply(b"\0\0\0\0\5x"), "the reply is not exactly one message", id="cut off"),
        pytest.param(reply(b"\1\0\0\0\1x"), "the reply is compressed", id="compressed"),
        pytest.param(reply(b"\0\xff\xff\xff\xff"), "a message of 4294967295 octets", id="a large length"),
        pytest.param(lambda c, n: c.reset_stream(n), "the server reset the call", id="reset"),
        pytest.param(lambda c, n: c.close_connection(), "the server closes the connection", id="GOAWAY"),
    ],
)
async def test_servers_that_break_rules(raw: Raw, error: str) -> None:
    async with raw_server(raw) as made:
        with pytest.raises(GrpcCallError) as raised:
            await made.call(b"x", 10)
        assert str(raised.value).startswith(error)


async def test_the_limit_of_the_server() -> None:
    """More calls than the server permits wait for each other."""
    async with raw_server(reply(b"\0\0\0\0\1x"), {SettingCodes.MAX_CONCURRENT_STREAMS: 2}) as made:
        await made.call(b"x", 10)
        assert await asyncio.gather(*(made.call(b"x", 10) for _ in range(20))) == [b"x"] * 20


async def test_a_connection_that_is_silent_is_replaced() -> None:
    """The next call opens another connection."""
    async with raw_server(lambda _connection, _number: None) as made:
        with pytest.raises(GrpcCallError):
            await made.call(b"x", 0.05)
        first = made._connection
        with pytest.raises(GrpcCallError):
            await made.call(b"x", 0.05)
        assert first is not None
        with pytest.raises(GrpcCallError):
            await made.call(b"x", 0.05)
        assert first.closed
        assert made._connection is not first
