"""The listening sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from svcdns.supervisor.early_sockets import Address
from svcdns.supervisor.sockets import ListenError, Sockets
from tests.support.server import free_port


def both(host: str, port: int) -> list[Address]:
    """Returns the UDP and the TCP address for a host and port."""
    return [(host, port, "udp"), (host, port, "tcp")]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    made = Sockets(lambda _line: None)
    yield made
    made.close(made.all)


def test_one_set_for_each_slot(sockets: Sockets) -> None:
    """Each slot gets its own UDP and TCP sockets on the same port."""
    port = free_port()
    added, removed = sockets.change(both("127.0.0.1", port), 2)
    assert [(one.slot, one.proto, one.sock.getsockname()) for one in added] == [
        (slot, proto, ("127.0.0.1", port)) for slot in (0, 1) for proto in ("udp", "tcp")
    ]
    assert removed == []
    assert all(not one.sock.getblocking() for one in added)
    assert len({one.id for one in added}) == 4


def test_another_process_on_the_udp_port_is_a_warning() -> None:
    lines: list[str] = []
    first, second = Sockets(lines.append), Sockets(lines.append)
    address = both("127.0.0.1", free_port())
    try:
        first.change(address, 2)
        first.change([*address, ("", address[0][1], "udp")], 2)
        assert lines == []
        second.change(address, 2)
        assert [line.partition(" listen=")[0] for line in lines] == [
            "[WARNING] another process listens on the same port: each gets a part of the queries"
        ]
    finally:
        Sockets.close([*first.all, *second.all])


def test_a_udp_port_that_cannot_be_shared_is_one_line() -> None:
    """The other process does not share its port. There is an error and no warning."""
    lines: list[str] = []
    ours = Sockets(lines.append)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(ListenError, match="bind: address already in use"):
            ours.change(both("127.0.0.1", other.getsockname()[1]), 1)
    assert lines == []


def test_every_address_is_two_families(sockets: Sockets) -> None:
    """A wildcard address gets an IPv4 and an IPv6 socket, so that replies have the family of their query."""
    added, _ = sockets.change(both("", free_port()), 1)
    families = sorted((one.family, one.wildcard) for one in added)
    assert families in ([(4, True), (4, True), (6, True), (6, True)], [(4, True), (4, True)])
    for one in added:
        if one.family == 6:
            assert one.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_change_keeps_sockets_whose_address_stays(sockets: Sockets) -> None:
    one, other = both("127.0.0.1", free_port()), both("127.0.0.1", free_port())
    before, _ = sockets.change(one, 1)
    added, removed = sockets.change([*one, *other], 1)
    assert [(a.host, a.port, a.proto) for a in added] == other
    assert removed == []
    added, removed = sockets.change(other, 1)
    assert added == []
    assert removed == before
    assert all(gone.sock.fileno() >= 0 for gone in removed)
    sockets.close(removed)
    assert all(gone.sock.fileno() < 0 for gone in removed)


def test_a_port_without_udp(sockets: Sockets) -> None:
    """A port that changes to TLS keeps its TCP socket and loses its UDP socket."""
    before, _ = sockets.change(both("127.0.0.1", free_port()), 1)
    udp, tcp = before
    assert sockets.change([("127.0.0.1", tcp.port, "tcp")], 1) == ([], [udp])
    assert sockets.all == [tcp]
    sockets.close([udp])


def test_an_address_that_cannot_be_bound_changes_nothing(sockets: Sockets) -> None:
    """The error is one line in CoreDNS's words. Sockets that were bound before are closed."""
    good, bad = both("127.0.0.1", free_port()), both("192.0.2.200", 5353)
    with pytest.raises(ListenError, match=r"^listen udp 192\.0\.2\.200:5353: bind: cannot assign requested address$"):
        sockets.change([*good, *bad], 1)
    assert sockets.all == []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(good[0][:2])


def test_receive_buffers_are_large(sockets: Sockets) -> None:
    """The buffer of a UDP socket is at least the system's default."""
    added, _ = sockets.change(both("127.0.0.1", free_port()), 1)
    udp = next(one.sock for one in added if one.proto == "udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        default = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= default
