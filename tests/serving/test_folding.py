"""Hits of the table go into the counters, once each."""

from __future__ import annotations

import dns.message
from hypothesis import given
from hypothesis import strategies as st

from svcdns.serving.folding import fold
from svcdns.serving.udp import SocketErrors, UdpReader
from tests.support.desk import Place, bound
from tests.support.world import Clock, counted

LABELS = ("dns://127.0.0.1:53", ".", "")


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40))
def test_every_question_is_counted_once(asked: list[tuple[int, bool]]) -> None:
    """However often it is folded, and whatever is forgotten between."""
    place = Place("udp")
    with bound() as sock, bound() as client:
        reader = UdpReader(sock, place.desk, SocketErrors(place.counters, "dns://:53", Clock()), wildcard=False)
        for number, folds in asked:
            client.sendto(dns.message.make_query(f"{number}.b.", "A").to_wire(), sock.getsockname())
            reader.drain()
            if folds:
                fold(place.desk, lambda: None)
                place.table.forget([("fact",)])
        fold(place.desk, lambda: None)
    found = counted(place.counters)
    assert found.get(("coredns_dns_requests_total", *LABELS, "udp", "1", "A"), 0) == len(asked)
    assert found.get(("coredns_dns_responses_total", *LABELS, "NOERROR", "test"), 0) == len(asked)
    assert found.get(("coredns_dns_request_duration_seconds", *LABELS), 0) == len(asked)
    assert found.get(("coredns_dns_request_size_bytes", *LABELS, "udp"), 0) == len(asked)


def test_long_work_lets_the_sockets_be_read() -> None:
    """Between slices."""
    place, breaths = Place("udp"), []
    with bound() as sock, bound() as client:
        reader = UdpReader(sock, place.desk, SocketErrors(place.counters, "dns://:53", Clock()), wildcard=False)
        for number in range(600):
            for _ in range(3):
                client.sendto(dns.message.make_query(f"{number}.b.", "A", id=1).to_wire(), sock.getsockname())
                reader.drain()
                client.recv(512)
        fold(place.desk, lambda: breaths.append(1))
    assert len(breaths) >= 2
