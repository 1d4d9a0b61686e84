"""UDP readers that sample queries."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import dns.message
import pytest

from svcdns.process.sample_memory import private_ring
from svcdns.serving.transport import udp_batch
from svcdns.serving.transport.sampled import RATE, SampledReader, SampledSheddingReader, Sampler
from svcdns.serving.transport.udp import SocketErrors
from svcdns.telemetry.query_samples import UNKNOWN, Ring
from tests.support.responder import ResponderSetup, bound
from tests.support.world import Clock


class Served:
    """A reader on a socket, and a client socket."""

    def __init__(self, kind: type[SampledReader]) -> None:
        self.place, self.clock, self.ring = ResponderSetup("udp"), Clock(), Ring(private_ring())
        self.sock, self.client = bound(), bound()
        errors = SocketErrors(self.place.counters, "dns://:53", Clock())
        self.reader = kind(self.sock, self.place.responder, errors, wildcard=False)
        self.sampler = Sampler(self.ring, self.clock)
        self.reader.use(self.sampler)

    def send(self, *names: str) -> None:
        """Sends one query for each name, and lets the reader answer all of them."""
        for number, name in enumerate(names):
            packet = dns.message.make_query(name, "A", id=number).to_wire()
            self.client.sendto(packet, self.sock.getsockname())
        while self.reader.has_packet():
            self.reader.drain()
        self.reader.batch.flush()
        for number in range(len(names)):
            assert self.client.recv(4096)[:1] == b"\0", number

    def close(self) -> None:
        self.sock.close()
        self.client.close()


@pytest.fixture(params=[SampledReader, SampledSheddingReader])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    made = Served(request.param)
    yield made
    made.close()


def names(ring: Ring) -> list[str]:
    return [dns.message.from_wire(b"\0\0" + one.key).question[0].name.to_text() for one in ring.samples()]


async def test_every_query_at_a_low_rate(served: Served) -> None:
    """Replies from the table and from the chain have their rcodes in the samples."""
    for name in ("a.b.", "a.b.", "a.b.", "c.b."):
        served.clock.now += 1.0
        served.send(name)
    assert names(served.ring) == ["a.b.", "a.b.", "a.b.", "c.b."]
    assert [(one.weight, one.rcode, one.client) for one in served.ring.samples()] == [(1.0, 0, "127.0.0.1")] * 4


async def test_weights_add_up_to_all_queries(served: Served) -> None:
    for _ in range(60):
        served.clock.now += 0.05
        served.send(*["a.b."] * 20)
    found = list(served.ring.samples())
    assert 45 < len(found) < 2 * RATE * 3
    assert abs(sum(one.weight for one in found) + served.sampler.left - 1200) < 40


async def test_after_a_flood_every_query_is_sampled_again(served: Served) -> None:
    for _ in range(30):
        served.clock.now += 0.0001
        served.send(*["a.b."] * 20)
    served.clock.now += 0.5
    served.sampler.tick()
    assert served.sampler.left > 3
    served.clock.now += 100.0
    served.sampler.tick()
    sent = served.sampler.left + 1
    assert sent <= 2
    served.send(*["rare.b."] * sent)
    assert sum(one.weight for one in served.ring.samples()) == 600 + sent
    assert names(served.ring)[-1] == "rare.b."


async def test_batches_without_system_calls(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = SocketErrors(served.place.counters, "dns://:53", Clock())
    monkeypatch.delattr(udp_batch._SystemBatch, "sender")
    monkeypatch.setattr(
        udp_batch, "_SystemBatch", lambda *_args, **_options: (_ for _ in ()).throw(AttributeError("recvmmsg"))
    )
    served.reader = type(served.reader)(served.sock, served.place.responder, errors, wildcard=False)
    served.reader.use(served.sampler)
    served.send("a.b.")
    assert [(one.rcode, one.client) for one in served.ring.samples()] == [(0, "127.0.0.1")]


async def test_a_query_without_a_reply(served: Served) -> None:
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    served.place.reply = waiting  # type: ignore[assignment]
    served.client.sendto(dns.message.make_query("a.b.", "A").to_wire(), served.sock.getsockname())
    served.reader.drain()
    assert [one.rcode for one in served.ring.samples()] == [UNKNOWN]
    waiting.cancel()


def test_ipv6_clients() -> None:
    place, ring = ResponderSetup("udp"), Ring(private_ring())
    with bound("::1") as sock, bound("::1") as client:
        errors = SocketErrors(place.counters, "dns://:53", Clock())
        reader = SampledReader(sock, place.responder, errors, wildcard=False)
        reader.use(Sampler(ring, Clock()))
        client.sendto(dns.message.make_query("a.b.", "A").to_wire(), sock.getsockname())
        reader.drain()
        assert sock.family == socket.AF_INET6
    assert [one.client for one in ring.samples()] == ["::1"]
