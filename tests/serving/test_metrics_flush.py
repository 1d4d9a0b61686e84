"""Flushing the hits of the answer table into the metrics. Each hit is counted exactly once."""

from __future__ import annotations

import select

import dns.message
from hypothesis import given
from hypothesis import strategies as st

from svcdns.chain.routing import DROPPED
from svcdns.serving.answer_table import Entry
from svcdns.serving.metrics import HitCounter, Origin
from svcdns.serving.metrics_flush import MAX_ROTATION_USES, STEP, flush
from svcdns.serving.transport.udp import SocketErrors, UdpReader
from tests.support.responder import ResponderSetup, bound
from tests.support.world import CLIENT, Clock, counted

LABELS = ("dns://127.0.0.1:53", ".", "")


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40))
def test_every_query_is_counted_once(asked: list[tuple[int, bool]]) -> None:
    place = ResponderSetup("udp")
    with bound() as sock, bound() as client:
        reader = UdpReader(sock, place.responder, SocketErrors(place.counters, "dns://:53", Clock()), wildcard=False)
        for number, flushes in asked:
            client.sendto(dns.message.make_query(f"{number}.b.", "A").to_wire(), sock.getsockname())
            select.select([sock], [], [], 10)
            reader.drain()
            if flushes:
                list(flush(place.responder))
                place.table.invalidate([("fact",)])
        list(flush(place.responder))
    found = counted(place.counters)
    assert found.get(("coredns_dns_requests_total", *LABELS, "udp", "1", "A"), 0) == len(asked)
    assert found.get(("coredns_dns_responses_total", *LABELS, "NOERROR", "test"), 0) == len(asked)
    assert found.get(("coredns_dns_request_duration_seconds", *LABELS), 0) == len(asked)
    assert found.get(("coredns_dns_request_size_bytes", *LABELS, "udp"), 0) == len(asked)


def test_hits_of_the_table_have_a_metric() -> None:
    """Of five equal queries, the last three are answered from the table."""
    place, packet = ResponderSetup("udp"), dns.message.make_query("a.b.", "A", id=7).to_wire()
    for _ in range(5):
        if not place.responder.lookup(packet, CLIENT, 0.0):
            place.responder.answer(packet, CLIENT, lambda _: None, 0.0)
    list(flush(place.responder))
    list(flush(place.responder))
    assert counted(place.counters)["svcdns_answer_table_hits_total", LABELS[0]] == 3


def test_a_flush_is_done_in_steps() -> None:
    place = ResponderSetup("udp")
    for number in range(600):
        place.table.dirty.append(HitCounter((), Origin(DROPPED)))
        place.responder.dirty_fast_path.append(HitCounter((), Origin(DROPPED)))
        entry = Entry.of(b"%d" % number, (b"one", b"two"), float("inf"), (), HitCounter((), Origin(DROPPED)))
        place.table.put(entry)
        for _ in range(MAX_ROTATION_USES * 2 if number % 2 else 1):
            place.table.next_rotation(entry)
    polls = list(flush(place.responder))
    assert len(polls) == 3 * (600 // STEP)
    assert len(place.table) == 300


def test_a_flush_drops_few_large_replies() -> None:
    """To make all of them again in the same second would delay other queries."""
    place, large = ResponderSetup("udp"), bytes(4000)
    entries = [
        Entry.of(b"%d" % number, (large, large + b"x"), float("inf"), (), HitCounter((), Origin(DROPPED)))
        for number in range(20)
    ]
    for entry in entries:
        place.table.put(entry)
    for left in (15, 10, 5, 0):
        for entry in entries:
            for _ in range(MAX_ROTATION_USES * 2 + 1):
                place.table.next_rotation(entry)
        list(flush(place.responder))
        assert len(place.table) == left


def test_hits_between_the_steps_of_a_flush_count_once() -> None:
    place, packet = ResponderSetup("udp"), dns.message.make_query("a.b.", "A", id=7).to_wire()
    sent: list[bytes] = []
    for _ in range(2):
        place.responder.answer(packet, CLIENT, sent.append, 0.0)
    others = [HitCounter((), Origin(DROPPED)) for _ in range(STEP)]
    place.table.dirty += others
    for _ in range(5):
        assert place.responder.lookup(packet, CLIENT, 0.0)
    steps = flush(place.responder)
    next(steps)
    for _ in range(3):
        assert place.responder.lookup(packet, CLIENT, 0.0)
    list(steps)
    list(flush(place.responder))
    found = counted(place.counters)
    assert found["coredns_dns_requests_total", *LABELS, "udp", "1", "A"] == 10
    assert found["coredns_dns_request_duration_seconds", *LABELS] == 10
