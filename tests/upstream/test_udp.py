"""Queries to upstreams over UDP."""

from __future__ import annotations

import asyncio
import select
import socket
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import dns.message
import pytest

from svcdns.upstream.query import Dropped, ExchangeError, Received, SpoofedError, UpstreamQuery, as_message
from svcdns.upstream.udp import MAX_DROPPED, UdpSocket, UdpSockets, exchange_over_udp
from svcdns.wire import names
from svcdns.wire.codes import RD, TC
from svcdns.wire.message import Message
from svcdns.wire.simple_reply import SimpleReply
from tests.support.scripted_upstream import Elsewhere, ScriptedUpstream, answer, held, silence
from tests.support.statistics import chi_square_bound, chi_square_of

QUERY = UpstreamQuery(names.from_text("a.example.org."), 1, 1, RD)
A = answer("a.example.org. 60 IN A 192.0.2.1")
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def packet(query: dns.message.Message, transport: str = "udp") -> bytes:
    found = A(query, transport)
    assert isinstance(found, bytes)
    return found


async def ask(sockets: UdpSockets, question: UpstreamQuery = QUERY) -> Message | ExchangeError:
    """Sends a query, and returns the reply or the error."""
    done = asyncio.get_running_loop().create_future()
    sockets.send(question, done.set_result)
    outcome: Received | ExchangeError = await asyncio.wait_for(done, 10)
    return outcome if isinstance(outcome, ExchangeError) else as_message(outcome)


def counting(counted: list[Dropped]) -> Callable[[Dropped, UdpSocket | None], None]:
    """Returns a function that adds the reason of each dropped packet to a list."""
    return lambda reason, _: counted.append(reason)


async def test_over_udp() -> None:
    async with ScriptedUpstream(A) as upstream:
        message = await exchange_over_udp(QUERY, ("127.0.0.1", upstream.port), 5)
        assert len(message.answer) == 1


async def test_silence_is_a_timeout() -> None:
    async with ScriptedUpstream(silence) as upstream:
        with pytest.raises(ExchangeError, match="i/o timeout"):
            await exchange_over_udp(QUERY, ("127.0.0.1", upstream.port), 0.02)


async def test_a_closed_port_is_noticed_immediately() -> None:
    """The kernel reports the error, which counts as a failure of the server."""
    async with ScriptedUpstream() as upstream:
        upstream.close()
        with pytest.raises(ExchangeError, match="connection refused") as raised:
            await exchange_over_udp(QUERY, ("127.0.0.1", upstream.port), 60)
        assert (raised.value.timed_out, raised.value.local) == (False, False)


async def test_a_source_address_of_another_machine() -> None:
    async with ScriptedUpstream(A) as upstream:
        with pytest.raises(ExchangeError, match="cannot assign") as raised:
            await exchange_over_udp(QUERY, ("127.0.0.1", upstream.port), 5, "192.0.2.77")
        assert raised.value.local


async def test_other_packets_are_dropped_until_the_reply_comes() -> None:
    """Dropped packets are counted by reason. The kernel drops packets from other addresses."""

    def lying(query: dns.message.Message, transport: str) -> list[bytes]:
        true = packet(query)
        other = packet(dns.message.make_query("b.example.org.", "A", id=query.id))
        wrong_id = bytes((true[0] ^ 1,)) + true[1:]
        return [wrong_id, other, query.to_wire(), b"\0", b"", Elsewhere(true), true, true]

    counted = list[Dropped]()
    async with ScriptedUpstream(lying) as upstream:
        sockets = UdpSockets(("127.0.0.1", upstream.port), dropped=counting(counted))
        message = await ask(sockets)
        assert isinstance(message, Message)
        assert len(message.answer) == 1
        assert counted == ["id", "question", "query", "malformed", "malformed"]
        assert len(sockets) == 0
        sockets.stop()


async def test_an_oversize_reply_is_read_whole() -> None:
    lines = [f"a.example.org. 60 IN TXT {'x' * 200}{number}" for number in range(200)]
    async with ScriptedUpstream(answer(*lines)) as upstream:
        message = await exchange_over_udp(UpstreamQuery(QUERY.name, 16, 1, RD), ("127.0.0.1", upstream.port), 5)
        assert len(message.answer) == 200
        assert not message.flags & TC


async def test_a_flood_ends_the_wait_on_that_port() -> None:
    """After too many dropped packets, an attacker may know the port. The query fails with SpoofedError."""
    async with ScriptedUpstream(lambda query, _: [b"\0" * 12] * MAX_DROPPED + [packet(query)]) as upstream:
        sockets = UdpSockets(("127.0.0.1", upstream.port))
        assert isinstance(await ask(sockets), SpoofedError)
        sockets.stop()


@pytest.mark.slow
async def test_thirty_thousand_forged_replies_to_real_sockets() -> None:
    forged = MAX_DROPPED - 4
    asked = 2_500

    def lying(query: dns.message.Message, transport: str) -> list[bytes]:
        true = packet(query)
        wrong = dns.message.make_query("c.example.org.", "A", id=query.id)
        lie = answer("c.example.org. 60 IN A 198.51.100.1")(wrong, transport)
        assert isinstance(lie, bytes)
        start = query.id
        ids = [((start + 1 + step * 7) % 65536).to_bytes(2, "big") + true[2:] for step in range(forged // 2)]
        return [Elsewhere(true), *ids, *[lie] * (forged - len(ids)), true]

    counted = list[Dropped]()
    async with ScriptedUpstream(lying) as upstream:
        sockets = UdpSockets(("127.0.0.1", upstream.port), dropped=counting(counted))
        for _ in range(asked):
            message = await ask(sockets)
            assert isinstance(message, Message)
            assert message.answer[0].rdata == bytes((192, 0, 2, 1))
        sockets.stop()
    assert len(counted) == asked * forged


async def test_many_concurrent_queries() -> None:
    """The replies come in reverse order."""

    def numbered(query: dns.message.Message, transport: str) -> list[bytes] | bytes | None:
        name = query.question[0].name
        return answer(f"{name} 60 IN A 192.0.2.{name.labels[0].decode()}")(query, transport)

    async with ScriptedUpstream(held(numbered)) as upstream:
        sockets = UdpSockets(("127.0.0.1", upstream.port))
        asking = [
            asyncio.ensure_future(ask(sockets, UpstreamQuery(names.from_text(f"{n}.example."), 1, 1, RD)))
            for n in range(200)
        ]
        while upstream.holds < 200:
            await asyncio.sleep(0)
        upstream.release(backwards=True)
        outcomes = await asyncio.gather(*asking)
        assert [one.answer[0].rdata[3] for one in outcomes if isinstance(one, Message)] == list(range(200))
        sockets.stop()


async def test_stop_waits_for_open_queries() -> None:
    """A reload must not lose a query."""
    async with ScriptedUpstream(A) as upstream:
        sockets = UdpSockets(("127.0.0.1", upstream.port))
        done = asyncio.get_running_loop().create_future()
        sockets.send(QUERY, done.set_result)
        sockets.stop()
        assert isinstance(await asyncio.wait_for(done, 10), SimpleReply)
        assert sockets._spare == []


async def ports_of(count: int) -> list[int]:
    """Sends `count` queries in sequence, with socket reuse, and returns their source ports."""
    ports = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        sockets = UdpSockets(server.getsockname())
        for _ in range(count):
            taken: list[Received | ExchangeError] = []
            used = sockets.send(QUERY, taken.append)
            packet, client = server.recvfrom(512)
            server.sendto(packet[:2] + b"\x81" + packet[3:], client)
            select.select([used.sock], [], [], 10)
            used.read()
            assert isinstance(taken[0], Message)
            ports.append(client[1])
        assert len(sockets._spare) == 1
        sockets.stop()
    return ports


@pytest.mark.skipif(not EPHEMERAL.exists(), reason="the kernel's range of ephemeral ports is not told here")
async def test_ports_are_random() -> None:
    """A chi-square test of the source ports in the ephemeral range. By chance, it fails once in a million runs."""
    low, high = map(int, EPHEMERAL.read_text().split())
    span, classes = high - low + 1, 64
    drawn = await ports_of(20_000)
    assert low <= min(drawn) < low + 100
    assert high - 100 < max(drawn) <= high
    assert chi_square_of(
        Counter((port - low) * classes // span for port in drawn), classes, len(drawn)
    ) < chi_square_bound(classes - 1)
    steps = Counter((b - a) % span * classes // span for a, b in pairwise(drawn))
    assert chi_square_of(steps, classes, len(drawn) - 1) < chi_square_bound(classes - 1)


async def test_a_port_is_given_up_with_the_reply() -> None:
    """If other packets arrived at a socket, the socket is not used again."""
    async with ScriptedUpstream(A) as upstream:
        sockets = UdpSockets(("127.0.0.1", upstream.port))
        assert isinstance(await ask(sockets), Message)
        (spare,) = sockets._spare
        assert spare.sock.getsockname() == ("0.0.0.0", 0)
        upstream.respond = lambda query, transport: [b"\0" * 12, packet(query)]
        assert isinstance(await ask(sockets), Message)
        assert sockets._spare == []
        assert spare.sock.fileno() == -1
        sockets.stop()


async def test_a_packet_after_the_reply_closes_the_spare_socket() -> None:
    """A spare socket with a packet would stay readable."""
    counted = asyncio.Event()
    async with ScriptedUpstream(lambda query, _: [packet(query), packet(query)]) as upstream:
        sockets = UdpSockets(("127.0.0.1", upstream.port), dropped=lambda *_: counted.set())
        assert isinstance(await ask(sockets), Message)
        await asyncio.wait_for(counted.wait(), 10)
        assert sockets._spare == []
        sockets.stop()


async def test_the_number_of_spare_sockets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svcdns.upstream.udp.MAX_SPARE", 3)
    async with ScriptedUpstream(held(A)) as upstream:
        sockets = UdpSockets(("127.0.0.1", upstream.port))
        asking = [asyncio.ensure_future(ask(sockets)) for _ in range(9)]
        while upstream.holds < 9:
            await asyncio.sleep(0)
        upstream.release()
        await asyncio.gather(*asking)
        assert len(sockets._spare) == 3
        sockets.stop()
        assert sockets._spare == []


async def test_a_callback_that_raises_does_not_reach_the_selector() -> None:
    """In the selector, an exception would end the worker."""
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def broken(outcome: Received | ExchangeError) -> None:
        raise ValueError(type(outcome).__name__)

    async with ScriptedUpstream(A) as upstream:
        sockets = UdpSockets(("127.0.0.1", upstream.port))
        sockets.send(QUERY, broken)
        await upstream.question()
        assert isinstance(await ask(sockets), Message)
        upstream.respond = lambda *_: [b"\0" * 12] * MAX_DROPPED
        sockets.send(QUERY, broken)
        async with asyncio.timeout(10):
            while len(reported) < 2:
                await asyncio.sleep(0)
        upstream.close()
        sockets.send(QUERY, broken)
        async with asyncio.timeout(10):
            while len(reported) < 3:
                await asyncio.sleep(0)
        assert list(map(str, reported)) == ["SimpleReply", "SpoofedError", "ExchangeError"]
        assert len(sockets) == 0
        sockets.stop()
