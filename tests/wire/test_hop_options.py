"""EDNS options that are valid only between a client and this server: removed from queries, appended to replies."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.plugin_api.reply import Reply
from svcdns.wire import hop_options
from svcdns.wire.edns import HopByHop
from svcdns.wire.message import encode_reply
from svcdns.wire.record import Edns
from svcdns.wire.request import Request, accept
from tests.support.world import records

COOKIE = bytes(range(8))
ANSWER = records(*(f"www.example.org. 5 IN A 192.0.2.{number}" for number in range(20)))


def query(*options: tuple[int, bytes], **more: object) -> bytes:
    made = [dns.edns.GenericOption(dns.edns.OptionType(code), data) for code, data in options]
    return dns.message.make_query("www.example.org.", "A", id=7, use_edns=0, options=made, **more).to_wire()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "kept", "found"),
    [
        pytest.param([(10, COOKIE)], [], HopByHop(COOKIE, False, False), id="cookie"),
        pytest.param([(10, COOKIE), (10, bytes(8))], [], HopByHop(COOKIE, False, False), id="the first of two cookies"),
        pytest.param([(11, b"")], [], HopByHop(b"", True, False), id="keepalive"),
        pytest.param([(12, bytes(9))], [], HopByHop(b"", False, True), id="padding"),
        pytest.param(
            [(3, b""), (12, b""), (65001, b"x"), (10, COOKIE)], [(3, b""), (65001, b"x")],
            HopByHop(COOKIE, False, True), id="others stay in order",
        ),
    ],
)  # fmt: skip
def test_options_are_removed(options: list[tuple[int, bytes]], kept: list[tuple[int, bytes]], found: HopByHop) -> None:
    """After the removal, the query is equal to one from a client that does not use these options."""
    packet = query(*options)
    assert hop_options.may_have_options(packet)
    stripped = hop_options.strip(packet)
    assert stripped is not None
    assert (stripped.packet, stripped.options, stripped.size) == (query(*kept), found, 1232)
    assert stripped.packet[12 : stripped.question_end] == b"\3www\7example\3org\0\0\1\0\1"


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(query(), id="no option"),
        pytest.param(query((65001, b"x")), id="another option"),
        pytest.param(query((10, bytes(9))), id="a cookie of a wrong size"),
        pytest.param(query((11, b"x")), id="keepalive of a wrong size"),
        pytest.param(query((10, COOKIE)) + b"\0", id="octets after the message"),
        pytest.param(query((10, COOKIE))[:-1], id="cut off"),
        pytest.param(query((10, COOKIE)).replace(b"\4\xd0\0\0", b"\4\xd0\0\1"), id="another version"),
    ],
)
def test_other_queries_are_not_changed(packet: bytes) -> None:
    assert hop_options.strip(packet) is None


@given(st.binary(max_size=120))
def test_random_octets_raise_no_exception(data: bytes) -> None:
    """If a random packet can be parsed, it can also be parsed after the removal of the options."""
    for packet in (data, query()[:-2] + data, query()[:-2] + struct.pack("!H", len(data)) + data):
        hop_options.may_have_options(packet)
        stripped = hop_options.strip(packet)
        if stripped is not None:
            assert isinstance(accept(packet), Request)
            assert isinstance(accept(stripped.packet), Request)


def reply(limit: int, edns: Edns | None = None) -> bytes:
    request = accept(query())
    assert isinstance(request, Request)
    return encode_reply(request, Reply(answer=ANSWER, edns=edns), limit)


@pytest.mark.parametrize("edns", [None, Edns(options=((15, b"\0\x03\0\0\x29\0\0\0"),))])
def test_options_are_appended(edns: Edns | None) -> None:
    wire = hop_options.with_options(reply(1232, edns), hop_options.option(10, COOKIE), 1232)
    message = dns.message.from_wire(wire)
    assert [int(option.otype) for option in message.options] == ([15, 10] if edns else [10])
    assert len(message.answer[0]) == 20
    assert not message.flags & dns.flags.TC


def test_a_reply_that_becomes_too_long_is_truncated() -> None:
    """The truncated reply has TC set, the OPT record with the options, and no other records."""
    whole = reply(1232)
    wire = hop_options.with_options(whole, hop_options.option(10, COOKIE), len(whole) + 11)
    message = dns.message.from_wire(wire)
    assert message.flags & dns.flags.TC
    assert (message.answer, message.question[0].to_text()) == ([], "www.example.org. IN A")
    assert [int(option.otype) for option in message.options] == [10]
    assert hop_options.with_options(whole, hop_options.option(10, COOKIE), len(whole) + 12)[2] & 2 == 0


def test_a_reply_without_opt_is_not_changed() -> None:
    request = accept(dns.message.make_query("www.example.org.", "A").to_wire())
    assert isinstance(request, Request)
    for wire in (encode_reply(request, Reply(answer=ANSWER), 512), bytes(12)):
        assert hop_options.with_options(wire, hop_options.option(10, COOKIE), 512) == wire


@pytest.mark.parametrize("size", range(460, 475))
def test_padding_fills_a_block(size: int) -> None:
    """A padded message is a multiple of 468 octets long (RFC 8467 §4.1)."""
    assert (size + len(hop_options.padding(size))) % 468 == 0
