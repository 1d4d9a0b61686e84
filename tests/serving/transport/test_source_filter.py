"""Packet filters on sockets, tested with the kernel of this machine."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from svcdns.serving.transport import source_filter
from tests.support.responder import bound

CLIENT = socket.inet_aton("127.0.0.9")


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A UDP socket, for each address family."""
    with bound(request.param) as sock:
        yield sock


def received(server: socket.socket, source: str, packets: int, *, wait: float = 0) -> int:
    """Sends packets from `source`, and returns how many of them the socket receives.

    `wait` is the time in seconds to wait for each packet.
    """
    with ExitStack() as stack:
        client = stack.enter_context(bound(source))
        count = 0
        for _ in range(packets):
            client.sendto(b"query", server.getsockname())
            select.select([server], [], [], wait)
            try:
                server.recv(16)
            except BlockingIOError:
                continue
            count += 1
        return count


def sources(server: socket.socket) -> tuple[str, bytes]:
    """Returns an address that can send to the socket, and the key of its client in a filter."""
    if server.family == socket.AF_INET:
        return "127.0.0.9", CLIENT
    return "::1", socket.inet_pton(socket.AF_INET6, "::1")[:8]


def test_the_filter_passes_the_stated_share_of_packets(server: socket.socket) -> None:
    source, client = sources(server)
    assert received(server, source, 50, wait=10) == 50
    source_filter.attach(server, {client: 0.5})
    assert 200 < received(server, source, 600) < 400
    source_filter.attach(server, {client: 0.0})
    assert received(server, source, 50) == 0
    source_filter.detach(server)
    assert received(server, source, 50, wait=10) == 50


def test_only_packets_of_the_filters_clients_are_dropped(server: socket.socket) -> None:
    source, client = sources(server)
    others = {bytes((10, *n.to_bytes(len(client) - 1, "big"))): 0.0 for n in range(source_filter.MAX_CLIENTS - 1)}
    source_filter.attach(server, others)
    assert received(server, source, 50, wait=10) == 50
    source_filter.attach(server, {**others, client: 0.0})
    assert received(server, source, 50) == 0


def test_a_prefix_that_differs_in_its_second_half() -> None:
    """All 64 bits of an IPv6 prefix are compared."""
    with bound("::1") as server:
        source_filter.attach(server, {bytes(7) + b"\1": 0.0, b"\1" + bytes(7): 0.0})
        assert received(server, "::1", 20, wait=10) == 20


def test_detach_without_a_filter(server: socket.socket) -> None:
    source_filter.detach(server)
    assert received(server, *sources(server)[:1], 5, wait=10) == 5


def test_new_connections() -> None:
    """On a listening socket, the filter drops new connections. Packets of open connections pass."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        address = server.getsockname()

        def connected(source: str, timeout: float = 20.0) -> socket.socket:
            return stack.enter_context(socket.create_connection(address, timeout, source_address=(source, 0)))

        source_filter.attach(server, {CLIENT: 1.0}, new_connections=True)
        earlier, (accepted, _) = connected("127.0.0.9"), server.accept()
        stack.enter_context(accepted)
        source_filter.attach(server, {CLIENT: 0.0}, new_connections=True)
        source_filter.attach(accepted, {CLIENT: 0.0}, new_connections=True)
        with pytest.raises(TimeoutError):
            connected("127.0.0.9", 0.1)
        connected("127.0.0.8")
        accepted.settimeout(20)
        for octets in (b"one", b"two"):
            earlier.sendall(octets)
            assert accepted.recv(16) == octets
        source_filter.detach(server)
        connected("127.0.0.9")
