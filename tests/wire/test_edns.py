"""EDNS(0) (RFC 6891)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire import edns
from svcdns.wire.errors import FormError
from svcdns.wire.reply import Edns

OPTIONS = st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=20)), max_size=4).map(tuple)
RECORDS = st.builds(Edns, st.integers(0, 65535), st.booleans(), st.integers(0, 255), OPTIONS)


@given(RECORDS, st.integers(0, 4095))
def test_round_trip(given: Edns, rcode: int) -> None:
    """What is written is read again; the upper bits of the response code are in it."""
    wire = edns.to_wire(given, rcode)
    assert wire[:3] == b"\0\0\x29"
    ttl = int.from_bytes(wire[5:9], "big")
    assert ttl >> 24 == rcode >> 4
    assert edns.from_record(int.from_bytes(wire[3:5], "big"), ttl, wire[11:]) == given


@pytest.mark.parametrize("rdata", [b"\0", b"\0\3\0", b"\0\3\0\5abcd"])
def test_an_option_that_is_cut_off(rdata: bytes) -> None:
    """Is a format error."""
    with pytest.raises(FormError):
        edns.from_record(1232, 0, rdata)


def test_the_replys_mirrors_the_clients() -> None:
    """Size and DO; of the options those that a client may expect back."""
    asked = Edns(1400, dnssec_ok=True, options=((10, b"cookie"), (8, b"subnet"), (3, b"")))
    assert edns.for_reply(asked, None) == Edns(1400, dnssec_ok=True, options=((10, b"cookie"), (3, b"")))


def test_an_upstreams_keeps_its_options() -> None:
    """In the client's size."""
    made = Edns(4096, options=((15, b"\0\x16"),))
    assert edns.for_reply(Edns(1232), made) == Edns(1232, options=((15, b"\0\x16"),))
    assert edns.for_reply(None, made) == made
    assert edns.for_reply(None, None) is None
