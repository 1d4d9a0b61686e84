"""Reading headers of the PROXY protocol."""

from __future__ import annotations

import pytest

from svcdns.wire.errors import FormError
from svcdns.wire.proxy_header import IncompleteHeaderError, ProxyHeader, read_proxy_header
from tests.support.proxy_headers import LOCAL, SIGNATURE, version_1, version_2

REST = b"\0\x1d rest"
DESTINATION4, DESTINATION6 = ("192.0.2.53", 53), ("2001:db8::53", 53)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(version_2("192.0.2.9"), (2, 0x12, ("192.0.2.9", 1234), DESTINATION4), id="UDP over IPv4"),
        pytest.param(version_2("2001:db8::9"), (2, 0x22, ("2001:db8::9", 1234), DESTINATION6), id="UDP over IPv6"),
        pytest.param(version_2("192.0.2.9", tcp=True), (2, 0x11, ("192.0.2.9", 1234), DESTINATION4), id="TCP"),
        pytest.param(version_2("192.0.2.9", more=b"\4\0\1x"), (2, 0x12, ("192.0.2.9", 1234), DESTINATION4), id="TLV"),
        pytest.param(version_2("::ffff:1.2.3.4"), (2, 0x22, ("1.2.3.4", 1234), DESTINATION6), id="mapped IPv4"),
        pytest.param(LOCAL, (2, 0, None, None), id="local"),
        pytest.param(version_2("192.0.2.9", command=0x20), (2, 0, None, None), id="local with addresses"),
        pytest.param(SIGNATURE + b"\x21\x31\0\xd8" + bytes(216), (2, 0x31, None, None), id="Unix sockets"),
        pytest.param(version_1("192.0.2.9"), (1, 0x11, ("192.0.2.9", 1234), DESTINATION4), id="version 1"),
        pytest.param(version_1("2001:db8::9"), (1, 0x21, ("2001:db8::9", 1234), DESTINATION6), id="version 1, IPv6"),
        pytest.param(b"PROXY UNKNOWN\r\n", (1, 0, None, None), id="unknown"),
        pytest.param(b"PROXY UNKNOWN a b c\r\n", (1, 0, None, None), id="unknown with more"),
    ],
)
def test_headers(data: bytes, expected: tuple[object, ...]) -> None:
    """A header is read whatever follows it, and incomplete until its last octet is there."""
    assert read_proxy_header(data + REST) == ProxyHeader(len(data), *expected)  # type: ignore[arg-type]
    for size in range(len(data)):
        with pytest.raises(IncompleteHeaderError):
            read_proxy_header(data[:size])


@pytest.mark.parametrize("data", [REST, b"\x16\3\1 TLS", b"PROX\0", b"\r\n\r\n\0\r\nQUIX", b"QUIT"])
def test_data_without_a_header(data: bytes) -> None:
    """Other data are no header."""
    assert read_proxy_header(data) is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"PROXY TCP4 x 1.2.3.4 1 2\r\n", id="no address"),
        pytest.param(b"PROXY TCP4 2001:db8::1 1.2.3.4 1 2\r\n", id="an address of another family"),
        pytest.param(b"PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n", id="a zone id"),
        pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", id="a port that is too large"),
        pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", id="a port with a zero"),
        pytest.param("PROXY TCP4 1.2.3.4 1.2.3.4 \u00b2 2\r\n".encode(), id="a port of other digits"),
        pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", id="too few words"),
        pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", id="too many words"),
        pytest.param(b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", id="no such family"),
        pytest.param(b"PROXYX TCP4 1.2.3.4 1.2.3.4 1 2\r\n", id="another word"),
        pytest.param(b"PROXY UNKNOWN\n", id="no carriage return"),
        pytest.param(b"PROXY UNKNOWN" + b" " * 100, id="no end"),
        pytest.param(b"PROXY\r\n", id="nothing"),
        pytest.param(SIGNATURE + b"\x11\x11\0\0", id="version 1 in the form of version 2"),
        pytest.param(SIGNATURE + b"\x22\x11\0\0", id="no such command"),
        pytest.param(SIGNATURE + b"\x21\x13\0\x0c" + bytes(12), id="no such transport"),
        pytest.param(SIGNATURE + b"\x21\0\0\0", id="no family"),
        pytest.param(SIGNATURE + b"\x21\x11\0\x0b" + bytes(11), id="too short for IPv4"),
        pytest.param(SIGNATURE + b"\x21\x21\0\x0c" + bytes(12), id="too short for IPv6"),
        pytest.param(SIGNATURE + b"\x21\x31\0\x0c" + bytes(12), id="too short for Unix sockets"),
        pytest.param(SIGNATURE + b"\x21\x11\xff\xff", id="too long"),
    ],
)
def test_malformed_headers(data: bytes) -> None:
    """A header that breaks a rule is an error."""
    with pytest.raises(FormError):
        read_proxy_header(data)
