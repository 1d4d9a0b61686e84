"""Query messages, and the addresses in responses."""

from __future__ import annotations

import dns.message
import pytest

from bench.client import addresses, make_query
from bench.upstream import reply


def test_addresses_of_a_response() -> None:
    """The addresses in a response are those of its A and AAAA records, also after a CNAME record."""
    message = dns.message.make_response(dns.message.from_wire(make_query("web.team.svc.cluster.local")))
    records = "web.team.svc.cluster.local. 5 IN CNAME other.test.\nother.test. 5 IN A 192.0.2.1\nother.test. 5 IN AAAA 2001:db8::1"
    message.answer = dns.message.from_text(f";ANSWER\n{records}").answer
    assert addresses(message.to_wire()) == {b"\xc0\0\2\1", bytes.fromhex("20010db8000000000000000000000001")}


def test_a_negative_response_has_no_addresses() -> None:
    """Addresses in the authority section are not taken for the answer."""
    assert addresses(reply(make_query("nobody.test"))) == frozenset()


def test_a_truncated_response() -> None:
    """A truncated response is an error."""
    with pytest.raises(ValueError, match="truncated"):
        addresses(reply(make_query("www.site-3.example"))[:-9])
