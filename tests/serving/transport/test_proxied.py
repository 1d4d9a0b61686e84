"""Clients behind a proxy (docs/plugins/proxyproto.md)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

import pytest

from svcdns.plugin_api.networks import Network
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.settings import ProxyPolicy, ProxyProtocol
from svcdns.serving.transport.connections import TcpConnections
from svcdns.serving.transport.proxied import DatagramHeaders, HeaderReader
from tests.support.proxy_headers import LOCAL, version_1, version_2
from tests.support.world import Clock

PEER = Client("127.0.0.1", 5000, "127.0.0.1", 53, "udp")
QUERY = b"\0\7\1\0\0\1\0\0\0\0\0\0\0\0\1\0\1"
ALLOWED = (Network.from_text("127.0.0.0/8"),)


def read(packet: bytes, default: ProxyPolicy = ProxyPolicy.USE) -> tuple[bytes, str, int] | None:
    """Returns the datagram without its header, and address and port of the client."""
    found = DatagramHeaders(ProxyProtocol(default=default), Clock()).read(packet, PEER)
    return None if found is None else (found[0], found[1].address, found[1].port)


@pytest.mark.parametrize(
    ("packet", "default", "expected"),
    [
        pytest.param(version_2("192.0.2.9") + QUERY, ProxyPolicy.USE, (QUERY, "192.0.2.9", 1234), id="used"),
        pytest.param(version_2("2001:db8::9") + QUERY, ProxyPolicy.USE, (QUERY, "2001:db8::9", 1234), id="IPv6"),
        pytest.param(QUERY, ProxyPolicy.USE, (QUERY, "127.0.0.1", 5000), id="no header"),
        pytest.param(version_2("192.0.2.9") + QUERY, ProxyPolicy.IGNORE, (QUERY, "127.0.0.1", 5000), id="ignored"),
        pytest.param(version_2("192.0.2.9") + QUERY, ProxyPolicy.REJECT, None, id="rejected"),
        pytest.param(QUERY, ProxyPolicy.REJECT, (QUERY, "127.0.0.1", 5000), id="no header to reject"),
        pytest.param(LOCAL + QUERY, ProxyPolicy.SKIP, (LOCAL + QUERY, "127.0.0.1", 5000), id="skipped"),
        pytest.param(LOCAL + QUERY, ProxyPolicy.USE, None, id="local"),
        pytest.param(version_2("192.0.2.9", tcp=True) + QUERY, ProxyPolicy.USE, None, id="for TCP"),
        pytest.param(version_1("192.0.2.9") + QUERY, ProxyPolicy.USE, None, id="version 1"),
        pytest.param(version_2("192.0.2.9", command=0x22) + QUERY, ProxyPolicy.IGNORE, None, id="malformed"),
        pytest.param(b"\r\n", ProxyPolicy.USE, (b"\r\n", "127.0.0.1", 5000), id="too short"),
    ],
)
def test_datagrams(packet: bytes, default: ProxyPolicy, expected: tuple[bytes, str, int] | None) -> None:
    """The header of a datagram is used, ignored or rejected, as recorded from CoreDNS."""
    assert read(packet, default) == expected


def test_a_dropped_datagram_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The line is that of CoreDNS."""
    read(version_1("192.0.2.9") + QUERY)
    text = "unsupported Proxy Protocol version 1 (only v2 supported for UDP)"
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lines in ([], [f"dropping invalid Proxy Protocol packet from 127.0.0.1:5000: {text}"]), "lines are limited"


def test_sessions() -> None:
    """With session tracking, datagrams without a header belong to the client of the latest header for that long."""
    clock = Clock()
    headers = DatagramHeaders(ProxyProtocol(session_seconds=5.0, sessions=2), clock)

    def client(packet: bytes, port: int = 5000) -> str:
        found = headers.read(packet, Client("127.0.0.1", port, "127.0.0.1", 53, "udp"))
        return "" if found is None else found[1].address

    assert client(QUERY) == "127.0.0.1"
    assert client(version_2("192.0.2.9")) == "", "a header without a query"
    for _ in range(3):
        clock.turn(4.0)
        assert client(QUERY) == "192.0.2.9", "each use begins a new period"
    assert client(QUERY, 5001) == "127.0.0.1", "another port"
    clock.turn(5.0)
    assert client(QUERY) == "127.0.0.1"
    assert client(version_2("192.0.2.1") + QUERY) == "192.0.2.1"
    for port in (6000, 6001):
        client(version_2("192.0.2.2"), port)
    assert client(QUERY) == "127.0.0.1", "more than two sessions"
    assert client(QUERY, 6001) == "192.0.2.2"


class Connection:
    """A TCP connection whose header a `HeaderReader` reads. `clients` has the client of a served connection."""

    def __init__(self, protocol: ProxyProtocol, timeout: float) -> None:
        """Connects two sockets."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.ours = socket.create_connection(server.getsockname(), 10)
            self.sock, address = server.accept()
        self.ours.settimeout(10)
        self.sock.setblocking(False)
        self.connections = TcpConnections()
        self.served: asyncio.Future[Client | None] = asyncio.get_running_loop().create_future()
        reader = HeaderReader(protocol, self.sock, address, timeout, self.connections, self.served.set_result)
        reader.start()

    async def is_closed(self) -> bool:
        """Waits until the server closes the connection."""
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.to_thread(self.ours.recv, 1) == b""
        return True


@contextlib.asynccontextmanager
async def connected(default: ProxyPolicy = ProxyPolicy.USE, timeout: float = 10.0) -> AsyncIterator[Connection]:
    """Yields a connection, and closes its sockets."""
    made = Connection(ProxyProtocol(default=default), timeout)
    yield made
    made.ours.close()
    made.sock.close()


@pytest.mark.parametrize(
    ("data", "default", "expected"),
    [
        pytest.param(version_2("192.0.2.9", tcp=True), ProxyPolicy.USE, "192.0.2.9", id="version 2"),
        pytest.param(version_2("192.0.2.9"), ProxyPolicy.USE, "192.0.2.9", id="for UDP, as in CoreDNS"),
        pytest.param(version_1("2001:db8::9"), ProxyPolicy.USE, "2001:db8::9", id="version 1"),
        pytest.param(LOCAL, ProxyPolicy.USE, "", id="local"),
        pytest.param(b"", ProxyPolicy.USE, "", id="no header"),
        pytest.param(version_2("192.0.2.9", tcp=True), ProxyPolicy.IGNORE, "", id="ignored"),
        pytest.param(b"", ProxyPolicy.REJECT, "", id="no header to reject"),
    ],
)
async def test_connections(data: bytes, default: ProxyPolicy, expected: str) -> None:
    """The connection is served from the octet after its header on, whatever pieces the header comes in."""
    for size in (len(data) + len(QUERY), 1):
        async with connected(default) as made:
            octets = data + QUERY
            for at in range(0, len(octets), size):
                made.ours.sendall(octets[at : at + size])
                await asyncio.sleep(0)
            client = await asyncio.wait_for(made.served, 10)
            assert ("" if client is None else client.address) == expected
            if client is not None:
                assert (client.port, client.local_port, client.protocol) == (1234, 53, "tcp")
            left = b""
            while len(left) < len(QUERY):
                with contextlib.suppress(BlockingIOError):
                    left += made.sock.recv(100)
                await asyncio.sleep(0)
            assert left == QUERY
            assert len(made.connections.handshaking) == 0


async def test_skipped_connections_keep_their_header() -> None:
    """With `skip`, the connection is served at once, and the header is data."""
    async with connected(ProxyPolicy.SKIP) as made:
        assert made.served.done()


@pytest.mark.parametrize(
    ("data", "default"),
    [
        pytest.param(b"PROXY TCP4 x y 1 2\r\n", ProxyPolicy.USE, id="malformed"),
        pytest.param(version_1("192.0.2.9"), ProxyPolicy.REJECT, id="rejected"),
        pytest.param(b"", ProxyPolicy.USE, id="the end before the header"),
        pytest.param(version_1("192.0.2.9")[:-1], ProxyPolicy.USE, id="the end within the header"),
    ],
)
async def test_connections_that_are_closed(data: bytes, default: ProxyPolicy) -> None:
    """A connection without a valid header is closed, and no longer counts."""
    async with connected(default) as made:
        made.ours.sendall(data)
        made.ours.shutdown(socket.SHUT_WR)
        assert await made.is_closed()
        assert len(made.connections.handshaking) == 0
        assert not made.served.done()


async def test_a_header_that_does_not_come() -> None:
    """The connection counts among those in their handshake, and is closed after the timeout."""
    async with connected(timeout=0.05) as made:
        made.ours.sendall(b"PROXY")
        assert len(made.connections.handshaking) == 1
        assert await made.is_closed()


async def test_no_room_for_another_connection() -> None:
    """If too many connections are open, the new one is closed."""
    with socket.socket() as server, socket.socket() as ours:
        server.bind(("127.0.0.1", 0))
        server.listen()
        ours.connect(server.getsockname())
        sock, address = server.accept()
        HeaderReader(ProxyProtocol(ALLOWED), sock, address, 1.0, TcpConnections(0), lambda _client: None).start()
        assert sock.fileno() == -1
