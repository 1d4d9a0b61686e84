"""Zone transfers that are made while they are sent. A transfer is complete, runs in time slices, and waits for the
client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from time import perf_counter

import dns.message
import dns.rcode
import pytest

from svcdns.plugin_api.reply import Reply
from svcdns.serving.transport.connections import TcpConnections
from svcdns.wire.codes import AA, RD
from svcdns.wire.record import Record
from tests.support.responder import ResponderSetup
from tests.support.tcp import LONG, Client, served
from tests.support.world import CLIENT, counted, records

SOA = records("a.b. 5 IN SOA ns.a.b. host.a.b. 7 2 3 4 5")
BIG = records('x.a.b. 5 IN TXT "' + '" "'.join(["x" * 250] * 8) + '"')


class Zone:
    """A zone as a stream of portions. It counts the portions that it has made."""

    def __init__(self, portions: int, *, fails: bool = False, portion: tuple[Record, ...] = BIG) -> None:
        """Makes `portions` portions between the two SOA records. With `fails`, an exception replaces the second SOA
        record.
        """
        self.portions, self.fails, self.portion = portions, fails, portion
        self.made = 0
        self.closed = False

    def reply(self) -> Reply:
        """Returns a reply with the zone as a stream."""
        return Reply(flags=AA | RD, stream=self._make())

    def _make(self) -> Generator[Iterable[Record], None, None]:
        try:
            yield SOA
            for _ in range(self.portions):
                self.made += 1
                yield self.portion
            if self.fails:
                raise RuntimeError("a broken zone")
            yield SOA
        finally:
            self.closed = True


async def everything(client: Client) -> list[str]:
    """Returns the types of all records up to the second SOA record."""
    found: list[str] = []
    while found.count("SOA") < 2:
        message = await client.reply()
        found += [rrset.to_text().split()[3] for rrset in message.answer]
    return found


async def test_a_whole_zone() -> None:
    """The zone is sent in several messages, which count as one reply. A later query is answered afterwards."""
    zone = Zone(100)
    place = ResponderSetup("tcp", zone.reply())
    async with served(place, TcpConnections()) as connect:
        client = await connect()
        client.send(1)
        found = await everything(client)
        assert (found[0], found[-1], found.count("TXT")) == ("SOA", "SOA", 100)
        assert zone.closed
        place.reply = Reply(answer=SOA)
        client.send(2)
        assert (await client.reply()).id == 2
    increments = counted(place.counters)
    assert increments["coredns_dns_responses_total", "dns://127.0.0.1:53", ".", "", "NOERROR", "test"] == 2
    assert increments["coredns_dns_response_size_bytes", "dns://127.0.0.1:53", ".", "", "tcp"] == 2


async def test_a_client_that_does_not_read() -> None:
    """While the client does not read, the zone is made only as far as it fits into the buffers."""
    zone = Zone(1_000)
    place = ResponderSetup("tcp", zone.reply())
    async with served(place, TcpConnections(), buffers=16_384) as connect:
        client = await connect()
        client.send(1)
        before = -1
        while zone.made > before:  # until it stands still
            before = zone.made
            for _ in range(1000):
                await asyncio.sleep(0)
        assert 0 < zone.made < 700
        assert (await everything(client)).count("TXT") == 1_000


async def test_the_generator_is_closed_when_the_client_closes_the_connection() -> None:
    zone = Zone(40_000)
    place, connections = ResponderSetup("tcp", zone.reply()), TcpConnections()
    async with served(place, connections) as connect:
        client = await connect()
        client.send(1)
        await client.reply()
        client.writer.transport.abort()
        async with asyncio.timeout(10):
            while not zone.closed:
                await asyncio.sleep(0)
    assert zone.made < 40_000


async def test_a_zone_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The connection is aborted, so that the client does not take an incomplete zone for a complete one."""
    place = ResponderSetup("tcp", Zone(100, fails=True).reply())
    async with served(place, TcpConnections()) as connect:
        client = await connect()
        client.send(1)
        await client.ended()
    assert "a zone transfer failed" in caplog.text


async def test_other_work_runs_meanwhile() -> None:
    """A long zone is made in time slices. Between them, the event loop does other work."""
    place = ResponderSetup("tcp", Zone(8_000, portion=records("x.a.b. 5 IN A 192.0.2.1")).reply())
    async with served(place, TcpConnections(), LONG) as connect:
        client = await connect()
        client.send(1)
        iterations = 0
        reading = asyncio.ensure_future(everything(client))
        while not reading.done():
            iterations += 1
            await asyncio.sleep(0)
        assert (await reading).count("A") == 8_000
        assert iterations > 20


def test_a_transfer_over_udp_is_refused() -> None:
    zone = Zone(1)
    place = ResponderSetup("udp", zone.reply())
    sent: list[bytes] = []
    place.responder.answer(dns.message.make_query("a.b.", "AXFR").to_wire(), CLIENT, sent.append, perf_counter())
    assert dns.message.from_wire(sent[0]).rcode() == dns.rcode.REFUSED
    assert zone.made == 0
