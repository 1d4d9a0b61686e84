"""DNS over TLS (RFC 7858): connections and certificates of a worker."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import dns.message
import msgspec
import pytest

from svcdns.plugin_api.timeouts import Timeouts
from svcdns.plugins import tls
from svcdns.serving.transport.acceptor import Acceptor
from svcdns.serving.transport.certificates import Certificates, NoCertificateError
from svcdns.serving.transport.connections import TcpConnections
from svcdns.serving.transport.tcp import TcpConnection
from svcdns.serving.transport.tls import TlsAcceptor
from svcdns.telemetry.counters import Counters
from svcdns.tls.contexts import server_context
from svcdns.tls.material import Material, expiry
from tests.support.certificates import Pair, authority, pair
from tests.support.responder import ResponderSetup
from tests.support.tcp import LONG, Client, listening, no_errors, no_sheds
from tests.support.world import counted

CONTEXT = server_context(Material(*pair()))


class World:
    """A responder with a TLS listener."""

    def __init__(self, connections: TcpConnections, timeouts: Timeouts, most: int) -> None:
        """Limits the number of concurrent handshakes to `most`."""
        self.place, self.connections = ResponderSetup("tcp"), connections
        self.place.listener.transport, self.place.listener.timeouts = "tls", timeouts
        self.acceptor = TlsAcceptor(self.place.counters, connections, most)
        self.port = 0
        self.made: list[asyncio.StreamWriter] = []

    async def connect(self, **options: Any) -> Client:
        """Connects a client over TLS. If `ssl` is None, the client begins no handshake."""
        options = {"ssl": authority().client(), "server_hostname": "dns.test", **options}
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, **options))
        self.made.append(client.writer)
        return client

    def handshakes(self, result: str) -> float:
        """Returns the number of handshakes with this result."""
        return counted(self.place.counters).get(("svcdns_tls_handshakes_total", "tls://127.0.0.1:53", result), 0)


@contextlib.asynccontextmanager
async def served(
    connections: TcpConnections | None = None,
    timeouts: Timeouts = LONG,
    most: int = 99,
    context: ssl.SSLContext = CONTEXT,
) -> AsyncIterator[World]:
    world = World(connections or TcpConnections(), timeouts, most)
    server = listening()
    world.port = server.getsockname()[1]
    acceptor = Acceptor(
        server, functools.partial(world.acceptor.accept, world.place.responder, context), no_sheds, no_errors
    )
    try:
        yield world
    finally:
        for writer in world.made:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        acceptor.stop()
        server.close()
        await happens(lambda: world.connections.none)


async def happens(what: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0)


async def test_queries_over_tls() -> None:
    """The queries are counted as TCP."""
    async with served() as world:
        client = await world.connect()
        client.send(1)
        client.send(2, 3, 4)
        assert [(await client.reply()).id for _ in range(4)] == [1, 2, 3, 4]
        assert world.handshakes("full") == 1
        (asked,) = [cell for cell in counted(world.place.counters) if cell[0] == "coredns_dns_requests_total"]
        assert asked[4:] == ("tcp", "1", "A")
    assert world.place.asked == 2


async def test_a_session_is_resumed() -> None:
    context = authority().client()
    async with served() as world:
        for _ in range(2):
            await asyncio.get_running_loop().run_in_executor(None, _ask_twice, context, world.port)
        assert (world.handshakes("full"), world.handshakes("resumed")) == (2, 2)


def _ask_twice(context: ssl.SSLContext, port: int) -> None:
    import socket

    session = None
    packet = dns.message.make_query("a.b.", "A").to_wire()
    for expected in (False, True):
        plain = socket.create_connection(("127.0.0.1", port), 10)
        with context.wrap_socket(plain, server_hostname="dns.test", session=session) as secure:
            secure.sendall(len(packet).to_bytes(2, "big") + packet)
            assert secure.recv(2)
            assert secure.session_reused is expected
            session = secure.session


async def test_an_idle_client() -> None:
    """The idle timeout, or the timeout of the first query, ends the connection with close_notify."""
    for timeouts in (Timeouts(0.05, 60, 60), Timeouts(60, 0.05, 60)):
        async with served(timeouts=timeouts) as world:
            client = await world.connect()
            if timeouts.idle < 1:
                client.send(1)
                await client.reply()
            assert await client.ended()


async def test_a_handshake_has_the_timeout_of_a_first_query() -> None:
    async with served(timeouts=Timeouts(0.05, 60, 60)) as world:
        client = await world.connect(ssl=None, server_hostname=None)
        assert await client.ended()
        await happens(lambda: world.handshakes("failed"))


async def test_handshakes_are_bounded() -> None:
    """Above the limit of concurrent handshakes, a new connection is closed immediately."""
    async with served(most=1) as world:
        slow = await world.connect(ssl=None, server_hostname=None)
        await happens(lambda: world.connections.handshaking)
        refused = await world.connect(ssl=None, server_hostname=None)
        assert await refused.ended()
        assert world.handshakes("refused") == 1
        slow.writer.transport.abort()
        await happens(lambda: not world.connections.handshaking)
        client = await world.connect()
        client.send(1)
        assert (await client.reply()).id == 1


async def test_the_client_with_the_most_handshakes_loses_its_oldest() -> None:
    """At the limit, a handshake of another client takes the place of this handshake."""
    async with served(most=2) as world:
        slow = []
        for number in (1, 2):
            slow.append(await world.connect(ssl=None, server_hostname=None))
            await happens(lambda number=number: len(world.connections.handshaking) == number)  # type: ignore[misc]
        client = await world.connect(local_addr=("127.0.0.2", 0))
        assert await slow[0].ended()
        client.send(1)
        assert (await client.reply()).id == 1
        assert len(world.connections.handshaking) == 1
        shed = counted(world.place.counters)["svcdns_shed_total", "tls://127.0.0.1:53", "handshakes"]
        assert shed == 1


async def test_connections_are_bounded_together_with_those_of_tcp() -> None:
    async with served(TcpConnections(2)) as world:
        client = await world.connect()
        client.send(1)
        await client.reply()
        await world.connect(ssl=None, server_hostname=None)
        await happens(lambda: world.connections.handshaking)
        assert await (await world.connect(ssl=None, server_hostname=None)).ended()


async def test_a_drain_closes_all() -> None:
    """Connections in a handshake are closed immediately, the others after their replies."""
    async with served() as world:
        client, handshaking = await world.connect(), await world.connect(ssl=None, server_hostname=None)
        client.send(1)
        await client.reply()
        await happens(lambda: world.connections.handshaking)
        (connection,) = world.connections.open
        assert connection.detach() is None
        world.connections.drain()
        assert await client.ended()
        assert await handshaking.ended()
        assert not client.reader.exception()


async def test_a_connection_is_closed_after_a_reply() -> None:
    """The server sends close_notify, also if only TLS connections are to be closed."""
    async with served() as world:
        client = await world.connect()
        client.send(1)
        assert (await client.reply()).id == 1
        world.connections.close_after_reply(tls_only=True)
        client.send(2)
        assert (await client.reply()).id == 2
        assert await client.ended()
        assert not client.reader.exception()


@pytest.mark.parametrize("step", ["hurry", "drain"])
async def test_a_query_that_has_arrived_is_answered(step: str) -> None:
    """The event loop has not read the query yet when the connection is to be closed."""
    async with served() as world:
        client = await world.connect()
        client.send(1)
        assert (await client.reply()).id == 1
        (connection,) = world.connections.open
        world.connections.close_after_reply()
        client.send(2)
        assert connection.waits_for_query
        getattr(world.connections, step)()
        assert (await client.reply()).id == 2
        assert await client.ended()


async def test_a_limited_number_of_queries() -> None:
    async with served(timeouts=Timeouts(60, 60, 60, 2)) as world:
        client = await world.connect()
        client.send(1, 2, 3)
        assert [(await client.reply()).id for _ in range(2)] == [1, 2]
        assert await client.ended()


# -- certificates


@pytest.mark.parametrize("complete", [True, False], ids=["after a reply", "in its handshake"])
async def test_a_closed_connection_leaves_no_reference_cycle(complete: bool) -> None:
    """The garbage collector would take a long time to free many connections."""
    async with served() as world:
        if complete:
            client = await world.connect()
            client.send(1)
            await client.reply()
            [connection] = world.connections.open
            assert isinstance(connection, TcpConnection)
            freed: list[weakref.ref[Any]] = [weakref.ref(connection), weakref.ref(connection._transport)]
            del connection
        else:
            client = await world.connect(ssl=None, server_hostname=None)
            await happens(lambda: world.connections.handshaking)
            freed = [weakref.ref(*world.connections.handshaking)]
        gc.disable()
        try:
            client.writer.transport.abort()
            await happens(lambda: not any(one() for one in freed))
        finally:
            gc.enable()


def payload(one: Pair, **fields: Any) -> bytes:
    """Returns the message from control with this certificate and key."""
    values = {"certificate": "c", "client_auth": "nocert", "keylog": "", "expires": expiry(one.certificate), **fields}
    return msgspec.msgpack.encode(tls.ServerTls(material=Material(*one), **values))


def test_a_new_certificate_is_a_new_context() -> None:
    """New connections use the new SSL context. An equal certificate makes no new context."""
    counters = Counters()
    certificates = Certificates(counters, lambda: None)
    with pytest.raises(NoCertificateError):
        certificates.check("key")
    certificates.take("key", payload(pair()))
    certificates.check("key")
    first = certificates.context("key")
    assert counted(counters) == {("svcdns_tls_certificate_expiry_timestamp_seconds", "c"): expiry(pair().certificate)}
    certificates.take("key", payload(pair(), refused=b"why"))
    assert certificates.context("key") is first
    assert counted(counters)["svcdns_tls_certificate_refused", "c"] == 1
    other = authority().pair("dns.test", days=90)
    certificates.take("key", payload(other))
    assert certificates.context("key") is not first
    assert counted(counters) == {("svcdns_tls_certificate_expiry_timestamp_seconds", "c"): expiry(other.certificate)}


async def test_a_listener_without_a_certificate_yet() -> None:
    """With ACME, the first certificate may arrive later. Until then, each handshake fails with an alert."""
    counters = Counters()
    certificates = Certificates(counters, lambda: None)
    values = ("a.example", Material(), "nocert", "", 0.0, b"", 2, 5.0)
    certificates.take("key", msgspec.msgpack.encode(tls.ServerTls(*values)))
    certificates.check("key")
    assert counted(counters) == {
        ("svcdns_tls_acme_failures", "a.example"): 2,
        ("svcdns_tls_acme_next_attempt_timestamp_seconds", "a.example"): 5,
    }
    async with served(context=certificates.context("key")) as world:
        with pytest.raises(ssl.SSLError, match=r"(?i)alert handshake.failure"):
            await world.connect()
        assert world.handshakes("failed") == 1
    certificates.take("key", payload(pair(), failures=0))
    assert certificates.context("key", ("h2",))
    assert ("svcdns_tls_certificate_expiry_timestamp_seconds", "c") in counted(counters)


def test_the_next_attempt_makes_no_new_context() -> None:
    certificates = Certificates(Counters(), lambda: None)
    certificates.take("key", payload(pair(), failures=0))
    context, changes = certificates.context("key", ("h2",)), []
    certificates.on_change = lambda: changes.append(1)
    certificates.take("key", payload(pair(), failures=1))
    assert certificates.context("key", ("h2",)) is context
    assert not changes


def test_a_certificate_that_cannot_be_served(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    certificates = Certificates(counters, lambda: None)
    certificates.take("key", payload(pair()))
    first = certificates.context("key")
    certificates.take("key", payload(Pair(pair().certificate, authority().pair("a").key), expires=1.0))
    assert certificates.context("key") is first
    assert 'the certificate cannot be served path=c error="key values mismatch"' in caplog.text
    certificates.keep(["other"])
    with pytest.raises(NoCertificateError):
        certificates.check("key")
    assert counted(counters) == {}
