"""The loop that reads UDP packets, sends replies and counts errors."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import dns.message
import pytest

from svcdns.plugin_api.rate_limit import Verdict
from svcdns.plugins.rrl.handler import Limiter
from svcdns.serving.answer_table import Entry
from svcdns.serving.metrics import HitCounter, Origin
from svcdns.serving.metrics_flush import flush
from svcdns.serving.transport.udp import SocketErrors, UdpReader
from svcdns.serving.transport.udp_batch import IP_PKTINFO, REPLY_SIZE, SLOTS
from tests.support import world
from tests.support.responder import ResponderSetup, bound
from tests.support.world import Clock, counted

ASKED = ("coredns_dns_requests_total", "dns://127.0.0.1:53", ".", "", "udp", "1", "A")


class Served:
    """A UDP reader on a socket, and a client socket."""

    def __init__(self, *, wildcard: bool = False, observed: bool = False) -> None:
        """Creates the sockets. With `wildcard`, the reader's socket has the address 0.0.0.0."""
        self.place = ResponderSetup("udp")
        self.sock, self.client = bound(), bound()
        if wildcard:
            self.sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self.place.listener.observed = observed
        self.place.responder.serve(self.place.listener)
        errors = SocketErrors(self.place.counters, "dns://:53", Clock())
        self.reader = UdpReader(self.sock, self.place.responder, errors, wildcard=wildcard)

    def send(self, *packets: bytes) -> None:
        for packet in packets:
            self.client.sendto(packet, self.sock.getsockname())

    def received(self) -> list[bytes]:
        """Returns the packets that the client has received."""
        out = []
        while True:
            try:
                out.append(self.client.recv(65535))
            except BlockingIOError:
                return out

    def close(self) -> None:
        self.sock.close()
        self.client.close()


@pytest.fixture(params=[{}, {"wildcard": True}, {"observed": True}], ids=["bound", "wildcard", "observed"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Runs the test with each kind of socket: with one address, with all addresses, and with a plugin that observes
    queries.
    """
    made = Served(**request.param)
    yield made
    made.close()


def unlimited() -> Limiter:
    return Limiter(world.options("rrl", "rrl"), world.environment())


def query(ident: int, name: str = "a.b.") -> bytes:
    return dns.message.make_query(name, "A", id=ident).to_wire()


def test_replies_have_the_ids_of_their_queries(served: Served) -> None:
    for ident in range(5):
        served.send(query(ident))
        served.reader.drain()
    replies = served.received()
    assert [dns.message.from_wire(reply).id for reply in replies] == list(range(5))
    assert len({reply[2:] for reply in replies}) == 1
    assert served.place.asked == 2
    list(flush(served.place.responder))
    found = counted(served.place.counters)
    assert found[ASKED] == 5
    assert found["coredns_dns_request_duration_seconds", "dns://127.0.0.1:53", ".", ""] == 5


@pytest.mark.parametrize("observed", [False, True], ids=["plain", "observed"])
async def test_stored_replies_do_not_wait_for_others(monkeypatch: pytest.MonkeyPatch, observed: bool) -> None:
    """Stored replies are sent first. Then the chain's replies are sent, one at a time."""
    monkeypatch.setattr("svcdns.serving.transport.udp.SLICE", -1.0)
    monkeypatch.setattr("svcdns.serving.transport.udp.MAX_WORK", -1.0)
    served = Served(observed=observed)
    for _ in range(2):
        served.send(query(0))
        served.reader.drain()
    served.received()
    served.send(*[query(number, f"n{number}.b.") for number in range(1, 5)], query(100))
    served.reader.drain()
    assert [dns.message.from_wire(reply).id for reply in served.received()] == [100, 1]
    served.send(query(101))
    served.reader.drain()
    assert [dns.message.from_wire(reply).id for reply in served.received()] == [101, 2]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [dns.message.from_wire(reply).id for reply in served.received()] == [3, 4]
    served.close()


@pytest.mark.parametrize("observed", [False, True], ids=["plain", "observed"])
async def test_the_socket_is_read_between_slices(monkeypatch: pytest.MonkeyPatch, observed: bool) -> None:
    """Between two time slices, the reader sends stored replies to new packets. Other new packets have to wait."""
    monkeypatch.setattr("svcdns.serving.transport.udp.SLICE", -1.0)
    served = Served(observed=observed)
    for _ in range(2):
        served.send(query(0))
        served.reader.drain()
    served.received()
    served.send(*[query(number, f"n{number}.b.") for number in range(1, SLOTS + 1)], query(100), query(99, "n99.b."))
    served.reader.drain()
    replies = [dns.message.from_wire(reply).id for reply in served.received()]
    assert replies == [100, *range(1, SLOTS + 1), 99]
    served.close()


def test_replies_over_the_rate_limit_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served()
    served.place.listener.limiter = limiter = unlimited()
    served.place.listener.routes[b"\0"] = replace(served.place.listener.routes[b"\0"], limiter=limiter)
    served.place.responder.serve(served.place.listener)
    drops = iter([False, False, True, False, True])
    monkeypatch.setattr(limiter, "debit", lambda *_: Verdict.DROP if next(drops) else Verdict.SEND)
    for ident in range(2):
        served.send(query(ident))
        served.reader.drain()
    served.send(query(2), query(3), query(4))
    served.reader.drain()
    assert [dns.message.from_wire(reply).id for reply in served.received()] == [0, 1, 3]
    assert served.place.asked == 2
    served.close()


async def test_the_number_of_waiting_packets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most MAX_QUEUED packets wait. If more arrive, the client with the most packets loses some of them."""
    monkeypatch.setattr("svcdns.serving.transport.udp.SLICE", -1.0)
    monkeypatch.setattr("svcdns.serving.transport.udp.MAX_WORK", -1.0)
    monkeypatch.setattr("svcdns.serving.transport.udp.OVERLOAD_WORK", -1.0)
    monkeypatch.setattr("svcdns.serving.transport.udp.MAX_WAITING", 4)
    monkeypatch.setattr("svcdns.serving.transport.udp.MAX_QUEUED", 40)
    served = Served()
    for part in range(10):
        served.send(*[query(number, f"n{number}.b.") for number in range(part * SLOTS, (part + 1) * SLOTS)])
        served.reader.drain()
        assert served.reader.waiting <= 40
    answered = len(served.received())
    shed = counted(served.place.counters)["svcdns_shed_total", "dns://:53", "queue"]
    assert answered + shed + served.reader.waiting == 10 * SLOTS
    served.reader.finish()
    assert served.reader.waiting == 0
    assert answered + shed + len(served.received()) == 10 * SLOTS
    await asyncio.sleep(0)
    assert served.received() == []
    served.close()


@pytest.mark.parametrize("observed", [False, True], ids=["plain", "observed"])
async def test_a_flood_does_not_delay_other_clients(monkeypatch: pytest.MonkeyPatch, observed: bool) -> None:
    """Each query of another client is answered after few packets of the flood, also without packet filters in the
    kernel.
    """
    monkeypatch.setattr("svcdns.serving.transport.udp.FloodGuard.look", lambda _guard, _now: None)
    monkeypatch.setattr("svcdns.serving.transport.udp.MAX_QUEUED", 100)
    monkeypatch.setattr("svcdns.serving.transport.udp.MAX_WAITING", 8)
    for name in ("SLICE", "MAX_WORK", "OVERLOAD_WORK"):
        monkeypatch.setattr(f"svcdns.serving.transport.udp.{name}", -1.0)
    served, other = Served(observed=observed), bound("127.0.0.2")
    numbers = iter(range(60_000))
    with other:
        for _ in range(20):
            served.send(*[query(number, f"n{number}.b.") for number, _ in zip(numbers, range(100), strict=False)])
            number = next(numbers)
            other.sendto(query(number, f"n{number}.b."), served.sock.getsockname())
            while served.reader.has_packet():
                served.reader.drain()
                served.received()
            for _ in range(20):
                await asyncio.sleep(0)
            assert dns.message.from_wire(other.recv(512)).id == number
        served.received()
    assert counted(served.place.counters)["svcdns_shed_total", "dns://:53", "queue"] > 500
    served.reader.finish()
    served.close()


def test_a_batch_is_bounded(served: Served) -> None:
    """A call reads at most `SLOTS` packets, so that other work can run."""
    served.send(*[query(ident) for ident in range(SLOTS + 10)])
    served.reader.drain()
    assert len(served.received()) == SLOTS
    assert served.reader.has_packet()
    served.reader.drain()
    assert len(served.received()) == 10
    assert not served.reader.has_packet()


def test_malformed_packets(served: Served) -> None:
    """Later packets in the batch are answered."""
    served.send(b"", b"\0", b"\xff" * 11, query(1)[:-1], bytes(600), query(7))
    served.reader.drain()
    assert dns.message.from_wire(served.received()[-1]).id == 7


def test_a_reply_is_no_query(served: Served) -> None:
    """A packet with QR=1 is dropped. Otherwise two servers could reply to each other for ever."""
    packet = bytearray(query(1))
    packet[2] |= 0x80
    served.send(bytes(packet))
    served.reader.drain()
    assert served.received() == []


def test_an_invalid_reply_is_made_anew(served: Served) -> None:
    for ident in range(4):
        served.send(query(ident))
        served.reader.drain()
    assert served.place.asked == 2
    served.place.table.invalidate([("fact",)])
    served.send(query(9))
    served.reader.drain()
    assert served.place.asked == 3


def stored(served: Served, wire: bytes, deadline: float = math.inf) -> HitCounter:
    """Stores a reply to `query` in the answer table. Returns its hit counter."""
    route = served.place.listener.find(b"\1a\1b\0", 1)
    assert route is not None
    counter = HitCounter((), Origin(route))
    served.place.table.put(Entry.of(query(0)[2:], (wire,), deadline, (), counter))
    return counter


@pytest.mark.parametrize("packets", [1, 3], ids=["one packet", "a batch"])
def test_a_large_stored_reply_is_sent_alone(packets: int) -> None:
    """A stored reply that does not fit into a slot of the batch is sent, and counted as a hit."""
    served = Served()
    try:
        wire = b"\x84" + bytes(REPLY_SIZE)
        counter = stored(served, wire)
        served.send(*(query(ident) for ident in range(packets)))
        served.reader.drain()
        assert served.received() == [ident.to_bytes(2) + wire for ident in range(packets)]
        assert counter.hits == packets
        assert served.place.table.dirty == [counter]
    finally:
        served.close()


@pytest.mark.parametrize("ends", [False, True], ids=["before the deadline", "after the deadline"])
def test_a_stored_reply_with_a_deadline(ends: bool) -> None:
    """A stored reply is sent until its deadline on the table's clock. Then the chain is asked."""
    served = Served()
    try:
        counter = stored(served, b"\x84\0", served.place.table.now() + (0 if ends else 1))
        served.send(query(7))
        served.reader.drain()
        assert (served.received() == [b"\0\7\x84\0"]) is not ends
        assert (counter.hits, served.place.asked) == ((0, 1) if ends else (1, 0))
    finally:
        served.close()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOBUFS, errno.EAGAIN])
def test_a_send_that_fails(number: int, caplog: pytest.LogCaptureFixture) -> None:
    """The failure is counted, and logged once a minute. The other replies of the batch are sent."""
    served = Served()
    try:
        errors = SocketErrors(served.place.counters, "dns://:53", clock := Clock())
        reader = UdpReader(served.sock, served.place.responder, errors, wildcard=False)
        real, failing = reader.batch._sendmmsg, [True, True, False]  # type: ignore[attr-defined]

        def sendmmsg(*arguments: int) -> int:
            return -1 if failing.pop(0) else int(real(*arguments))

        def sendmsg(*_: object) -> int:
            raise OSError(number, os.strerror(number))

        reader.batch._sendmmsg = sendmmsg  # type: ignore[attr-defined]
        reader.batch._sock = SimpleNamespace(sendmsg=sendmsg, fileno=served.sock.fileno)  # type: ignore[attr-defined]
        with caplog.at_level(logging.WARNING):
            served.send(query(1), query(2), query(3))
            reader.drain()
        assert [dns.message.from_wire(reply).id for reply in served.received()] == [3]
        found = counted(served.place.counters)
        assert found["svcdns_socket_errors_total", "dns://:53", "send", errno.errorcode[number]] == 2
        assert len(caplog.records) == 1
        clock.turn(61)
        with caplog.at_level(logging.WARNING):
            errors.count("send", OSError(number, "x"))
        assert len(caplog.records) == 2
    finally:
        served.close()


@pytest.mark.parametrize("packets", [1, 3], ids=["one packet", "a batch"])
def test_a_stored_reply_that_cannot_be_sent(packets: int) -> None:
    """If sendmmsg fails, each reply is sent again on its own. An error of that is counted."""
    served = Served()
    try:
        stored(served, b"\x84\0")
        served.send(*(query(ident) for ident in range(packets)))
        served.reader.batch._sendmmsg = lambda *_: -1  # type: ignore[attr-defined]
        served.reader.drain()
        assert served.received() == [ident.to_bytes(2) + b"\x84\0" for ident in range(packets)]
        served.send(*(query(ident) for ident in range(packets)))
        served.reader.batch._sock = SimpleNamespace(sendmsg=fail_to_send)  # type: ignore[attr-defined]
        served.reader.drain()
        assert served.received() == []
        found = counted(served.place.counters)
        assert found["svcdns_socket_errors_total", "dns://:53", "send", "EPERM"] == packets
    finally:
        served.close()


def fail_to_send(*_: object) -> int:
    """Raises the error of a packet filter."""
    raise PermissionError(errno.EPERM, "refused")


def test_a_wildcard_socket_replies_from_the_destination_address() -> None:
    served = Served(wildcard=True)
    with served.sock, served.client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as everywhere:
        everywhere.setblocking(False)
        everywhere.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        everywhere.bind(("0.0.0.0", 0))
        reader = UdpReader(everywhere, served.place.responder, served.reader.errors, wildcard=True)
        served.client.sendto(query(5), ("127.0.0.5", everywhere.getsockname()[1]))
        reader.drain()
        reply, sender = served.client.recvfrom(512)
        assert sender[0] == "127.0.0.5"
        assert dns.message.from_wire(reply).id == 5


def test_dropped_packets() -> None:
    """The kernel counts packets that it drops because a buffer is full."""
    served = Served()
    with served.sock, served.client:
        served.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        served.send(*[query(n) for n in range(200)])
        dropped = served.reader.drops()
        answered = 0
        while served.reader.has_packet():
            served.reader.drain()
            answered += len(served.received())
        assert dropped > 0
        assert answered + dropped == 200
