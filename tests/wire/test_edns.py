"""Encoding and decoding of EDNS(0) OPT records (RFC 6891)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire import edns
from svcdns.wire.errors import FormError
from svcdns.wire.record import Edns

OPTIONS = st.lists(st.tuples(st.integers(16, 65535), st.binary(max_size=20)), max_size=4).map(tuple)
RECORDS = st.builds(Edns, st.integers(0, 65535), st.booleans(), st.integers(0, 255), OPTIONS)


@given(RECORDS, st.integers(0, 4095))
def test_round_trip(given: Edns, rcode: int) -> None:
    wire = edns.to_wire(given, rcode)
    assert wire[:3] == b"\0\0\x29"
    ttl = int.from_bytes(wire[5:9], "big")
    assert ttl >> 24 == rcode >> 4
    assert edns.from_record(int.from_bytes(wire[3:5], "big"), ttl, wire[11:]) == given


@pytest.mark.parametrize("rdata", [b"\0", b"\0\3\0", b"\0\3\0\5abcd"])
def test_a_truncated_option_is_a_format_error(rdata: bytes) -> None:
    with pytest.raises(FormError):
        edns.from_record(1232, 0, rdata)


@pytest.mark.parametrize(
    ("code", "good", "bad"),
    [
        pytest.param(
            8,
            ["00010000", "000118000a0102", "00023800200100", "00000000"],
            ["00", "00012100", "0002810000", "00030000", "00000100"],
            id="subnet",
        ),
        pytest.param(9, ["", "00000001"], ["01", "010203"], id="expire"),
        pytest.param(10, ["00" * 8, "00" * 16, "00" * 40], ["", "00" * 7, "00" * 9, "00" * 15, "00" * 41], id="cookie"),
        pytest.param(11, ["", "0064"], ["01", "010203"], id="TCP keepalive"),
        pytest.param(15, ["0016", "001661"], ["", "00"], id="extended error"),
        pytest.param(2, ["00000001", "0000000100000002"], ["", "0001"], id="update lease"),
        pytest.param(1, ["00" * 18], ["00" * 17], id="long-lived query"),
        pytest.param(65001, ["", "00"], [], id="unknown"),
    ],
)
def test_options_with_wrong_sizes_or_contents_are_refused(code: int, good: list[str], bad: list[str]) -> None:
    for text in good:
        data = bytes.fromhex(text)
        wire = edns.to_wire(Edns(options=((code, data),)))
        assert edns.from_record(1232, 0, wire[11:]).options == ((code, data),)
    for text in bad:
        data = bytes.fromhex(text)
        with pytest.raises(FormError):
            edns.from_record(1232, 0, code.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data)


def test_only_four_octets_of_expire_are_read() -> None:
    assert edns.from_record(1232, 0, b"\0\x09\0\5abcde").options == ((9, b"abcd"),)


def test_the_opt_record_of_a_reply_has_the_fields_of_the_query() -> None:
    asked = Edns(1400, dnssec_ok=True, options=((10, b"12345678"), (8, b"subnet"), (65001, b"local")))
    assert edns.for_reply(asked, None) == Edns(1232, dnssec_ok=True)
    assert edns.for_reply(asked, None, frozenset({65001}), size=4096) == Edns(
        4096, dnssec_ok=True, options=((65001, b"local"),)
    )


def test_the_opt_record_of_an_upstream_keeps_its_options() -> None:
    made = Edns(4096, options=((15, b"\0\x16"),))
    assert edns.for_reply(Edns(1232), made) == Edns(1232, options=((15, b"\0\x16"),))
    assert edns.for_reply(None, made) is None
    assert edns.for_reply(None, None) is None


def test_an_extended_error_needs_edns_in_the_query() -> None:
    """An extended error is sent only to clients that use EDNS (RFC 8914 §2)."""
    stale = (15, b"\0\3")
    assert edns.for_reply(Edns(1400, options=((10, b"12345678"),)), None, extended=3) == Edns(1232, options=(stale,))
    assert edns.for_reply(Edns(1232), Edns(4096, options=((15, b"\0\x16"),)), extended=3) == Edns(
        1232, options=((15, b"\0\x16"), stale)
    )
    assert edns.for_reply(None, None, extended=3) is None
