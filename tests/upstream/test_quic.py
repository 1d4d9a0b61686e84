"""Connections to an upstream over QUIC: one query a stream, names, authorities, and errors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from svcdns.eventloop.clock import monotonic
from svcdns.serving.transport.quic import TRANSPORT
from svcdns.tls.material import Material
from svcdns.upstream.query import Address, ExchangeError, Received, UpstreamQuery, as_message
from svcdns.upstream.quic import QuicConnector
from svcdns.upstream.tcp import ConnectionOptions, UpstreamConnections
from svcdns.upstream.tls import ClientTls
from svcdns.wire import names
from svcdns.wire.codes import RD
from tests.support.certificates import Authority
from tests.support.quic import NAME, authority
from tests.support.quic_server import QuicUpstream, reply_to

QUERY = UpstreamQuery(names.from_text("a.example.org."), 1, 1, RD)


class Querying:
    """QUIC connections to a server."""

    def __init__(
        self, address: Address, name: str = NAME, authorities: bytes | None = None, timeout: float = 10.0
    ) -> None:
        client = ClientTls(Material(authorities=authorities or authority().pem), lambda: None)
        connector = QuicConnector(address, name, client)
        options = ConnectionOptions(connect_timeout=timeout)
        self.connections = UpstreamConnections(address, options, monotonic, connector)

    async def ask(self) -> str:
        """Sends a query. Returns the response code, or the reason for the failure."""
        done: asyncio.Future[Received | ExchangeError] = asyncio.get_running_loop().create_future()
        self.connections.send(QUERY, done.set_result)
        outcome = await asyncio.wait_for(done, 20)
        if isinstance(outcome, ExchangeError):
            return str(outcome).partition(": ")[2]
        return f"rcode {as_message(outcome).rcode}"


@pytest.fixture
async def upstream() -> AsyncIterator[QuicUpstream]:
    async with QuicUpstream(TRANSPORT) as made:
        yield made


@pytest.fixture
async def asking(upstream: QuicUpstream) -> AsyncIterator[Querying]:
    made = Querying(("127.0.0.1", upstream.port))
    yield made
    made.connections.stop()
    await until(lambda: not len(made.connections))


async def until(done: object) -> None:
    assert callable(done)
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0)


async def test_queries_share_one_connection(upstream: QuicUpstream, asking: Querying) -> None:
    assert await asyncio.gather(*(asking.ask() for _ in range(20))) == ["rcode 0"] * 20
    assert await asking.ask() == "rcode 0"
    assert upstream.handshakes == 1
    assert {packet[:2] for packet in upstream.endpoint.queries} == {b"\0\0"}


async def test_replies_may_come_in_any_order(upstream: QuicUpstream, asking: Querying) -> None:
    upstream.endpoint.reply = None
    tasks = [asyncio.get_running_loop().create_task(asking.ask()) for _ in range(3)]
    await until(lambda: len(upstream.endpoint.held) == 3)
    for packet, send in reversed(upstream.endpoint.held):
        send(reply_to(packet))
    assert await asyncio.gather(*tasks) == ["rcode 0"] * 3


async def test_query_is_sent_again_after_the_server_closes_the_connection(
    upstream: QuicUpstream, asking: Querying
) -> None:
    assert await asking.ask() == "rcode 0"
    upstream.endpoint.reply = None
    task = asyncio.get_running_loop().create_task(asking.ask())
    await until(lambda: upstream.endpoint.held)
    upstream.endpoint.reply = reply_to
    upstream.hang_up()
    assert await task == "rcode 0"
    assert upstream.handshakes == 2


async def test_idle_connection_is_closed_in_order(upstream: QuicUpstream) -> None:
    made = Querying(("127.0.0.1", upstream.port))
    assert await made.ask() == "rcode 0"
    made.connections.stop()
    await until(lambda: upstream.server.idle)
    assert upstream.endpoint.counters.found["svcdns_tls_handshakes_total", "full"] == 1


@pytest.mark.parametrize(
    ("name", "authorities", "error"),
    [
        pytest.param("other.test", None, "quic: ", id="another name"),
        pytest.param(NAME, Authority().pem, "quic: ", id="another authority"),
    ],
)
async def test_certificate_must_be_valid(
    upstream: QuicUpstream, name: str, authorities: bytes | None, error: str
) -> None:
    made = Querying(("127.0.0.1", upstream.port), name, authorities)
    assert (await made.ask()).startswith(error)
    assert not upstream.endpoint.queries


async def test_certificate_may_be_for_the_address(upstream: QuicUpstream) -> None:
    made = Querying(("127.0.0.1", upstream.port), "")
    assert await made.ask() == "rcode 0"
    made.connections.stop()


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(lambda packet: b"\0\1" + reply_to(packet)[2:], id="message ID"),
        pytest.param(lambda packet: b"", id="reset stream"),
    ],
)
async def test_reply_that_breaks_the_protocol_is_not_used(upstream: QuicUpstream, reply: object) -> None:
    upstream.endpoint.reply = reply  # type: ignore[assignment]
    made = Querying(("127.0.0.1", upstream.port))
    sent, _ = made.connections.send(QUERY, lambda _: None)
    await until(lambda: upstream.endpoint.queries)
    for _ in range(20):
        await asyncio.sleep(0)
    made.connections.cancel(sent, timed_out=True)
    upstream.endpoint.reply = reply_to
    assert await made.ask() == "rcode 0"
    made.connections.stop()


async def test_refused_port_fails_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    assert "refused" in await Querying(("127.0.0.1", port)).ask()


async def test_silent_server_fails_after_the_timeout() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        assert await Querying(silent.getsockname(), timeout=0.05).ask() == "i/o timeout"


async def test_garbage_ends_nothing(upstream: QuicUpstream, asking: Querying) -> None:
    assert await asking.ask() == "rcode 0"
    connection = next(iter(upstream.server._open))
    for size in (0, 1, 30, 1200):
        upstream.server._send(connection.sender, bytes(size))
    upstream.server.flush()
    assert await asking.ask() == "rcode 0"
    assert upstream.handshakes == 1
