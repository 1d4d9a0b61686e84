"""Names that are not there: the short way gives what the chain gives, to the octet, or nothing."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import dns.message
import pytest

from svcdns.chain.query import Client
from svcdns.cluster.objects import Service
from svcdns.serving.compiling import Desk
from tests.serving.test_worker import World, serving
from tests.support.world import counted

CLIENT = Client("192.0.2.1", 4000, "127.0.0.1", 53, "udp")
STOCK = """
. {{
    bind 127.0.0.1
    errors
    prometheus
    loadbalance
    cache 30 {{
        disable success cluster.local
        disable denial cluster.local
    }}
    kubernetes cluster.local in-addr.arpa {{
        endpoint http://127.0.0.1:1
        pods insecure
        ttl {ttl}
        fallthrough in-addr.arpa
    }}
}}
"""
LABELS = ["web", "Web", "d", "D", "x", "svc", "pod", "dns", "ns", "_tcp", "_http", "dns-version", "10-0-0-1", "in-addr", "arpa"]
TYPES = ["A", "AAAA", "SRV", "TXT", "SOA", "NS", "MX", "PTR", "DS", "HTTPS", "ANY", "CNAME"]
ZONES = ["cluster.local.", "svc.cluster.local.", "d.svc.Cluster.Local.", "arpa.", ""]


@pytest.fixture
async def desks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Desk, Desk]]:
    """Two workers on the same cluster: one that may take the short way, and one that is only asked through its chain."""
    monkeypatch.setattr("tests.serving.test_worker.COREFILE", STOCK)
    made = []
    for name in ("short", "long"):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name)
        await serving(world, Service("d", "web", ("10.96.0.1",)))
        made.append(world)
    yield tuple(world.worker.listening.desks[0] for world in made)  # type: ignore[misc]
    for world in made:
        await world.worker.drain()
        await world.worker.sockets([], [0, 1])


def whole(desk: Desk, packet: bytes) -> bytes:
    """What the chain gives."""
    out: list[bytes] = []
    desk.answer(packet, CLIENT, out.append, 0.0)
    return out[0]


def query(name: str, rtype: str = "A", **options: object) -> bytes:
    """A packet."""
    return dns.message.make_query(name, rtype, id=7, **options).to_wire()  # type: ignore[arg-type]


async def test_the_second_absent_name_takes_the_short_way(desks: tuple[Desk, Desk]) -> None:
    """It gives the same octets and the same counts as the chain."""
    short, long = desks
    for name in ("first.d.svc.cluster.local.", "a.b.c.example.com.Cluster.LOCAL.", "second.nowhere.svc.cluster.LOCAL."):
        assert short.answer_absent(query(name), 0.0) == (b"" if name.startswith("first") else whole(long, query(name)))
        whole(short, query(name)) if name.startswith("first") else None
        whole(long, query(name)) if name.startswith("first") else None
    assert {k: v for k, v in counted(short.accounts.counters).items() if "duration" not in k[0]} == {
        k: v for k, v in counted(long.accounts.counters).items() if "duration" not in k[0]
    }


async def test_what_is_there_or_asked_again_takes_the_long_way(desks: tuple[Desk, Desk]) -> None:
    """A name that comes back gets an entry of its own; a change voids what was known."""
    short, _ = desks
    whole(short, query("first.d.svc.cluster.local."))
    assert short.answer_absent(query("web.d.svc.cluster.local."), 0.0) == b""
    assert short.answer_absent(query("other.d.svc.cluster.local."), 0.0)
    assert short.answer_absent(query("other.d.svc.cluster.local."), 0.0) == b""
    short.table.forget([("service", "d", "third")])
    assert short.answer_absent(query("third.d.svc.cluster.local."), 0.0) == b""


async def test_the_short_way_never_differs(desks: tuple[Desk, Desk]) -> None:
    """For many names, types and spellings, whatever was asked before."""
    short, long = desks
    chosen, taken = random.Random(4), 0
    for _ in range(4000):
        labels = [chosen.choice(LABELS) for _ in range(chosen.randrange(7))]
        name = ".".join([*labels, chosen.choice(ZONES)]) or "."
        packet = query(name, chosen.choice(TYPES), use_edns=chosen.random() < 0.5)
        made = short.answer_absent(packet, 0.0)
        expected = whole(long, packet)
        assert made in (b"", expected), name
        if made:
            taken += 1
        else:
            whole(short, packet)
    assert taken > 400
