"""Lowering the TTLs of an encoded message."""

from __future__ import annotations

import dns.message
import pytest

from svcdns.plugin_api.reply import Reply
from svcdns.wire.message import encode_reply
from svcdns.wire.request import Request, accept
from svcdns.wire.ttl import aged, ttl_offsets
from tests.support.world import records


@pytest.mark.parametrize("edns", [False, True], ids=["plain", "with OPT"])
def test_aging_changes_ttls_only(edns: bool) -> None:
    request = accept(dns.message.make_query("a.example.", "A", use_edns=edns, want_dnssec=edns).to_wire())
    assert isinstance(request, Request)
    reply = Reply(
        answer=records("a.example. 30 IN CNAME b.example.", "b.example. 9 IN A 192.0.2.1"),
        authority=records("example. 600 IN NS ns.other."),
        additional=records("ns.other. 60 IN AAAA 2001:db8::1"),
    )
    wire = encode_reply(request, reply, 1232)
    before, after = dns.message.from_wire(wire), dns.message.from_wire(aged(wire, ttl_offsets(wire), 10))
    assert [rrset.ttl for section in after.sections[1:] for rrset in section] == [20, 0, 590, 50]
    assert (after.ednsflags, after.flags, after.question) == (before.ednsflags, before.flags, before.question)
    assert [rrset.to_rdataset() for rrset in after.answer] == [rrset.to_rdataset() for rrset in before.answer]
