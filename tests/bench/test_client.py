"""Query messages, and the addresses in replies."""

from __future__ import annotations

import dns.message
import pytest

from bench.client import addresses, make_query
from bench.upstream import reply


def test_addresses_of_a_response() -> None:
    message = dns.message.make_response(dns.message.from_wire(make_query("web.team.svc.cluster.local")))
    records = "web.team.svc.cluster.local. 5 IN CNAME other.test.\nother.test. 5 IN A 192.0.2.1\nother.test. 5 IN AAAA 2001:db8::1"
    message.answer = dns.message.from_text(f";ANSWER\n{records}").answer
    assert addresses(message.to_wire()) == {b"\xc0\0\2\1", bytes.fromhex("20010db8000000000000000000000001")}


def test_a_negative_response_has_no_addresses() -> None:
    assert addresses(reply(make_query("nobody.test"))) == frozenset()


def test_a_truncated_response() -> None:
    with pytest.raises(ValueError, match="truncated"):
        addresses(reply(make_query("www.site-3.example"))[:-9])
