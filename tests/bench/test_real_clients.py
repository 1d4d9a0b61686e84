"""The bench of real clients: events and their lookups, the table, and the UDP client."""

from __future__ import annotations

import socket

import dns.message
import dns.rcode
import pytest

from bench.lookups import Lookup, UdpClient
from bench.real_clients import Run, table

RUN = Run(
    {"glibc": [Lookup(9.0, 0.1, ""), Lookup(10.0, 0.002, ""), Lookup(19.9, 1.0, "no answer"), Lookup(20.0, 0.25, "")]},
    {"none": 10.0, "stop": 20.0},
)


def test_a_lookup_belongs_to_the_event_before_it() -> None:
    """A lookup belongs to the last event before it. Lookups before the first event belong to no event."""
    assert RUN.during("glibc", "none") == RUN.lookups["glibc"][1:3]
    assert RUN.failed("glibc", "none") == RUN.lookups["glibc"][2:3]
    assert RUN.during("glibc", "stop") == RUN.lookups["glibc"][3:]


def test_the_table_has_lookups_failures_and_the_slowest_lookup() -> None:
    assert table(RUN).splitlines() == [
        "| client | none | stop |",
        "| --- | --- | --- |",
        "| glibc | 2, 1, 1000 | 1, 0, 250 |",
    ]


@pytest.mark.parametrize(("rcode", "error"), [(dns.rcode.NOERROR, ""), (dns.rcode.SERVFAIL, "SERVFAIL")])
def test_a_lookup_over_udp_has_the_reply(rcode: dns.rcode.Rcode, error: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        client = UdpClient(server.getsockname()[1], clients=1, gap=0.01)
        packet, source = server.recvfrom(512)
        client.finish()
        query = dns.message.from_wire(packet)
        reply = dns.message.make_response(query)
        reply.set_rcode(rcode)
        if rcode == dns.rcode.NOERROR:
            reply.answer = [dns.rrset.from_text(query.question[0].name, 5, "IN", "A", "192.0.2.1")]
        server.sendto(reply.to_wire(), source)
        assert [lookup.error for lookup in client.lookups()] == [error]
