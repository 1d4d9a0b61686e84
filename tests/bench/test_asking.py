"""Questions as packets, and what is read from replies."""

from __future__ import annotations

import dns.message
import pytest

from bench.asking import addresses, packet
from bench.upstream import reply


def test_the_addresses_of_an_answer() -> None:
    """Those of A and AAAA records, whatever lies between."""
    message = dns.message.make_response(dns.message.from_wire(packet("web.team.svc.cluster.local")))
    records = "web.team.svc.cluster.local. 5 IN CNAME other.test.\nother.test. 5 IN A 192.0.2.1\nother.test. 5 IN AAAA 2001:db8::1"
    message.answer = dns.message.from_text(f";ANSWER\n{records}").answer
    assert addresses(message.to_wire()) == {b"\xc0\0\2\1", bytes.fromhex("20010db8000000000000000000000001")}


def test_no_addresses_in_a_denial() -> None:
    """Not even those of its authority section."""
    assert addresses(reply(packet("nobody.test"))) == frozenset()


def test_a_reply_that_ends_too_early() -> None:
    """Is an error, never half an answer."""
    with pytest.raises(ValueError, match="ends"):
        addresses(reply(packet("www.site-3.example"))[:-9])
