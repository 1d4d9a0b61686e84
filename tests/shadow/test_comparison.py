"""Differences of two replies, by kind."""

from __future__ import annotations

import dns.flags
import dns.message
import pytest

from svcdns.shadow.asking import Received
from svcdns.shadow.comparison import Kind, differences

BASE = """id 0
opcode QUERY
rcode NOERROR
flags QR AA RD
edns 0
payload 1232
;QUESTION
a.test. IN A
;ANSWER
a.test. 30 IN A 10.0.0.1
a.test. 30 IN A 10.0.0.2
;AUTHORITY
test. 30 IN SOA ns.test. root.test. 1 2 3 4 5
;ADDITIONAL
"""


def received(text: str = BASE) -> Received:
    return Received(dns.message.from_text(text).to_wire()[2:], 0.001)


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        pytest.param("", "", [], id="equal"),
        pytest.param("10.0.0.1\na.test. 30 IN A 10.0.0.2", "10.0.0.2\na.test. 30 IN A 10.0.0.1", [], id="order"),
        pytest.param("root.test. 1 ", "root.test. 9 ", [], id="serial"),
        pytest.param("rcode NOERROR", "rcode NXDOMAIN", [Kind.RCODE], id="rcode"),
        pytest.param("10.0.0.2", "10.0.0.3", [Kind.ANSWER], id="answer"),
        pytest.param("root.test. 1 2", "root.test. 1 7", [Kind.AUTHORITY], id="authority"),
        pytest.param(";ADDITIONAL\n", ";ADDITIONAL\nb.test. 5 IN A 10.0.0.9\n", [Kind.ADDITIONAL], id="additional"),
        pytest.param("QR AA RD", "QR RD RA", [Kind.FLAGS], id="flags"),
        pytest.param("a.test. 30 IN A 10.0.0.1", "a.test. 29 IN A 10.0.0.1", [Kind.TTL], id="ttl"),
        pytest.param("edns 0\npayload 1232\n", "", [Kind.EDNS], id="edns"),
    ],
)
def test_kinds(before: str, after: str, kinds: list[Kind]) -> None:
    assert list(differences(received(), received(BASE.replace(before, after, 1)))) == kinds


@pytest.mark.parametrize(
    ("first", "second", "kinds"),
    [
        (None, None, []),
        (None, b"\x81\x80" + bytes(8), [Kind.REFERENCE]),
        (b"\x81\x80" + bytes(8), None, [Kind.NO_REPLY]),
        (b"\x81", b"\x81\x80" + bytes(8), [Kind.REFERENCE]),
        (b"\x81\x80" + bytes(8), b"\x81", [Kind.MALFORMED]),
    ],
)
def test_replies_that_are_missing_or_malformed(first: bytes | None, second: bytes | None, kinds: list[Kind]) -> None:
    assert list(differences(Received(first, 0.0), Received(second, 0.0))) == kinds
