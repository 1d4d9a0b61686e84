"""Stored negative answers. Each is equal to the chain's reply in every octet, or is not stored."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import dns.message
import pytest

from svcdns.chain.client_classes import Classes
from svcdns.cluster.changes import Put, Serials
from svcdns.cluster.objects import Service
from svcdns.plugin_api.query import Client
from svcdns.plugins.kubernetes.handler import Kubernetes
from svcdns.serving.metrics_flush import flush
from svcdns.serving.responder import Responder
from tests.support.worker_world import World, serving
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
LABELS = [
    "web",
    "Web",
    "d",
    "D",
    "x",
    "svc",
    "pod",
    "dns",
    "ns",
    "_tcp",
    "_http",
    "dns-version",
    "10-0-0-1",
    "in-addr",
    "arpa",
]
TYPES = ["A", "AAAA", "SRV", "TXT", "SOA", "NS", "MX", "PTR", "DS", "HTTPS", "ANY", "CNAME"]
ZONES = ["cluster.local.", "svc.cluster.local.", "d.svc.Cluster.Local.", "arpa.", ""]


@pytest.fixture
async def responders(tmp_path: Path) -> AsyncIterator[tuple[Responder, Responder]]:
    """Yields two responders for the same cluster. Only the first stores negative answers."""
    made = []
    for name in ("short", "long"):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name)
        world.corefile = STOCK
        await serving(world, Service("d", "web", ("10.96.0.1",)))
        made.append(world)
    yield tuple(world.worker.listeners.responders[0] for world in made)  # type: ignore[misc]
    for world in made:
        await world.worker.drain()
        await world.worker.sockets([], [0, 1])


def whole(responder: Responder, packet: bytes) -> bytes:
    """Returns the chain's reply."""
    out: list[bytes] = []
    responder.answer(packet, CLIENT, out.append, 0.0)
    return out[0]


def stored_after_id(responder: Responder, packet: bytes) -> bytes:
    """Returns the octets of the stored negative answer after the message ID, or no octets if none is stored."""
    return responder.lookup_negative(packet[2:])


def query(name: str, rtype: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, rtype, id=7, **options).to_wire()  # type: ignore[arg-type]


async def test_the_second_nonexistent_name_needs_no_chain(responders: tuple[Responder, Responder]) -> None:
    short, long = responders
    for first, others in (
        (
            "first.d.svc.cluster.local.",
            ("other.d.svc.cluster.local.", "OTHER.d.svc.cluster.local.", "a.bcd.d.svc.cluster.local."),
        ),
        ("first.nowhere.svc.cluster.LOCAL.", ("a.b.nowhere12.svc.cluster.LOCAL.",)),
        ("a.b.c.example.com.Cluster.LOCAL.", ("longe.example.org.Cluster.LOCAL.",)),
    ):
        assert stored_after_id(short, query(first)) == b""
        assert whole(short, query(first)) == whole(long, query(first))
        for name in others:
            assert len(name) == len(first)
            assert stored_after_id(short, query(name)) == whole(long, query(name))[2:]
    for _ in (*flush(short), *flush(long)):
        pass
    differ = ("coredns_dns_request_duration_seconds", "svcdns_answer_table_hits_total")
    assert {k: v for k, v in counted(short.metrics.counters).items() if k[0] not in differ} == {
        k: v for k, v in counted(long.metrics.counters).items() if k[0] not in differ
    }
    assert counted(short.metrics.counters)["svcdns_answer_table_hits_total", short.listener.server] == 5


async def test_existing_names_and_repeated_queries_go_through_the_chain(
    responders: tuple[Responder, Responder],
) -> None:
    """Stored negative answers are used only for the first query for a nonexistent name."""
    short, _ = responders
    whole(short, query("xyz.d.svc.cluster.local."))
    assert stored_after_id(short, query("web.d.svc.cluster.local.")) == b""
    assert stored_after_id(short, query("zyx.d.svc.cluster.local."))
    assert stored_after_id(short, query("zyx.d.svc.cluster.local.")) == b""


async def test_changes_are_in_the_next_answer(responders: tuple[Responder, Responder]) -> None:
    """After a new Service or a new serial, the stored negative answers are no longer used."""
    short, long = responders
    for responder in responders:
        whole(responder, query("xyz.d.svc.cluster.local."))
    index = next(handler.index for handler in short.listener.handlers if isinstance(handler, Kubernetes))
    short.table.invalidate(index.apply(Put(Service("d", "third", ("10.96.0.3",)))))
    assert (
        stored_after_id(short, query("abc.d.svc.cluster.local.")) == whole(long, query("abc.d.svc.cluster.local."))[2:]
    )
    whole(short, query("first.d.svc.cluster.local."))
    assert stored_after_id(short, query("third.d.svc.cluster.local.")) == b""
    assert stored_after_id(short, query("fifth.d.svc.cluster.local.")) != b""
    short.table.invalidate(index.apply(Serials(99, 99, 99)))
    assert stored_after_id(short, query("sixth.d.svc.cluster.local.")) == b""


@pytest.mark.slow
async def test_stored_answers_never_differ(responders: tuple[Responder, Responder]) -> None:
    short, long = responders
    chosen, taken = random.Random(4), 0
    for _ in range(6000):
        labels = [chosen.choice(LABELS) for _ in range(chosen.randrange(7))]
        name = ".".join([*labels, chosen.choice(ZONES)]) or "."
        packet = query(name, chosen.choice(TYPES), use_edns=chosen.random() < 0.5)
        made = stored_after_id(short, packet)
        expected = whole(long, packet)
        assert made in (b"", expected[2:]), name
        if made:
            taken += 1
        else:
            whole(short, packet)
    assert taken > 400


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0\7\1\0\0\1", id="half a header"),
        pytest.param(query("x.d.svc.cluster.local.")[:-1], id="an octet less"),
        pytest.param(query("x.d.svc.cluster.local.") + b"\0", id="an octet more"),
        pytest.param(query("x.d.svc.cluster.local.")[:12] + b"\xc0\x0c\0\1\0\1", id="a pointer"),
        pytest.param(query("x.d.svc.cluster.local.")[:12] + b"\x3fx", id="a label that is cut off"),
        pytest.param(query(".".join(["x" * 63] * 3 + ["x" * 40, "d.svc.cluster.local."])), id="a name of 255 octets"),
    ],
)
async def test_odd_packets_go_through_the_chain(responders: tuple[Responder, Responder], packet: bytes) -> None:
    """An odd packet is malformed, or has a name of 255 octets."""
    short, _ = responders
    whole(short, query("y.d.svc.cluster.local."))
    assert stored_after_id(short, packet) == b""


async def test_the_number_of_answers_is_bounded(
    responders: tuple[Responder, Responder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svcdns.serving.negative_answers.MAX_ANSWERS", 2)
    short, _ = responders
    for name in ("x.d.svc.cluster.local.", "xx.d.svc.cluster.local.", "xxx.d.svc.cluster.local."):
        whole(short, query(name))
    assert stored_after_id(short, query("y.d.svc.cluster.local.")) == b""
    assert stored_after_id(short, query("yyy.d.svc.cluster.local.")) != b""


async def test_a_reply_too_large_for_a_batch_is_not_stored(
    responders: tuple[Responder, Responder], monkeypatch: pytest.MonkeyPatch
) -> None:
    short, _ = responders
    monkeypatch.setattr("svcdns.serving.negative_answers.MAX_REPLY", 50)
    whole(short, query("x.d.svc.cluster.local."))
    assert stored_after_id(short, query("y.d.svc.cluster.local.")) == b""
    monkeypatch.undo()
    monkeypatch.setattr(short.listener, "classes", Classes([]))
    whole(short, query("x2.d.svc.cluster.local."))
    assert stored_after_id(short, query("y2.d.svc.cluster.local.")) == b""
