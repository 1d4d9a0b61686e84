"""The cache stores simple replies as packets. The rules for other replies would also store all records of a simple
reply.
"""

from __future__ import annotations

import pytest
from hypothesis import given

from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reply_type import MessageType
from svcdns.plugins.cache.cacheability import has_answer, is_cacheable, message_type, without_unrelated_records
from svcdns.plugins.cache.entry import Entry, decode, encode
from svcdns.wire.codes import AA, AD, CD, RA, RD, TC, Rcode, Type, type_text
from svcdns.wire.message import parse_message
from svcdns.wire.simple_reply import SimpleReply, scan
from tests.support import world
from tests.support.plain_replies import MUTATIONS, PLAIN, START, rtype_of


def query_of(packet: bytes) -> Query:
    return world.query("www.example.org.", type_text(rtype_of(packet)))


def read(packet: bytes) -> Reply:
    """Parses a packet into a reply, as the chain would get it."""
    message = parse_message(packet)
    flags = message.flags & (AA | TC | RD | RA | AD | CD)
    return Reply(message.flags & 15, flags, message.answer, message.authority, message.additional, message.edns)


def check(plain: SimpleReply) -> None:
    """Asserts that the rules for single records classify the reply in the same way."""
    query, reply = query_of(plain.packet), read(plain.packet)
    kind = message_type(query, reply)
    assert is_cacheable(query, reply, kind)
    assert has_answer(query, reply) == (not plain.is_denial)
    denial = MessageType.NXDOMAIN if plain.rcode == Rcode.NXDOMAIN else MessageType.NODATA
    assert kind == (denial if plain.is_denial else MessageType.NOERROR)
    assert without_unrelated_records(query, reply) is reply
    assert decode(encode(plain)) == Reply(reply.rcode, reply.flags, reply.answer, reply.authority)


@pytest.mark.parametrize("packet", [pytest.param(packet, id=name) for name, packet in PLAIN.items()])
def test_simple_replies_are_stored_whole(packet: bytes) -> None:
    """All records are stored, except the OPT record."""
    plain = scan(packet, START, rtype_of(packet))
    assert plain is not None
    check(plain)


@given(MUTATIONS)
def test_every_simple_reply_is_stored_whole(packet: bytes) -> None:
    """Each packet that the scanner accepts can be stored, and is the same when it is read again."""
    plain = scan(packet, START, rtype_of(packet))
    if plain is not None:
        check(plain)


@pytest.mark.parametrize("name", ["one address", "no such name", "an OPT with options behind a denial"])
def test_an_entry_with_a_packet_equals_one_with_records(name: str) -> None:
    plain = scan(PLAIN[name], START, Type.A)
    assert plain is not None
    entry, other = Entry(encode(plain), 5.0, 60), Entry(decode(encode(plain)), 5.0, 60)
    assert (entry.reply, entry.rcode, entry.dependencies) == (other.reply, other.rcode, other.dependencies)
