"""The bench of real clients: which lookups belong to an event, its table, and the client that queries over UDP."""

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
    """A lookup belongs to the last event before it, however long ago that was. Lookups before the first event belong to
    none.
    """
    assert RUN.during("glibc", "none") == RUN.lookups["glibc"][1:3]
    assert RUN.failed("glibc", "none") == RUN.lookups["glibc"][2:3]
    assert RUN.during("glibc", "stop") == RUN.lookups["glibc"][3:]


def test_table() -> None:
    """The table has the lookups, the failures, and the milliseconds of the slowest lookup."""
    assert table(RUN).splitlines() == [
        "| client | none | stop |",
        "| --- | --- | --- |",
        "| glibc | 2, 1, 1000 | 1, 0, 250 |",
    ]


@pytest.mark.parametrize(("rcode", "error"), [(dns.rcode.NOERROR, ""), (dns.rcode.SERVFAIL, "SERVFAIL")])
def test_a_udp_client_notes_the_reply(rcode: dns.rcode.Rcode, error: str) -> None:
    """A lookup has the answer, or the rcode of a reply without an answer. The client sends nothing after `finish`."""
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
