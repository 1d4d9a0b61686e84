"""RRSIG and NSEC records: examples of the RFCs, and dnspython's validator."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import dns.dnssec
import dns.exception
import dns.name
import dns.rdata
import dns.rrset
import pytest

from svcdns.dnssec.keys import SigningKey, key_tag, load_key, parse_key
from svcdns.dnssec.signatures import canonical_order_key, canonical_rdata, nsec_rdata, rrsig_rdata, type_bitmap
from svcdns.wire import names
from svcdns.wire.codes import Type
from tests.dnssec.test_keys import ED25519, ED25519_PRIVATE, KEYS

START, END = 1438207200, 1440021600


def rrset(text: str) -> dns.rrset.RRset:
    """An RRset from lines of a zone file."""
    lines = [line.split(None, 4) for line in text.splitlines()]
    return dns.rrset.from_text(lines[0][0], int(lines[0][1]), "IN", lines[0][3], *(line[4] for line in lines))


def signed(key: SigningKey, records: dns.rrset.RRset, **more: object) -> bytes:
    rdatas = [rdata.to_wire() for rdata in records]
    owner = records.name.to_wire()
    times = {"inception": START, "expiration": END, **more}
    return rrsig_rdata(owner, records.rdtype, 1, records.ttl, rdatas, key, **times)  # type: ignore[arg-type]


def validate(key: SigningKey, records: dns.rrset.RRset, signature: bytes) -> None:
    """Validates with dnspython. Raises its exception for an invalid signature."""
    found = dns.rrset.from_rdata(
        records.name, records.ttl, dns.rdata.from_wire("IN", "RRSIG", signature, 0, len(signature))
    )
    zone = dns.name.from_wire(key.name, 0)[0]
    public = dns.rrset.from_rdata(zone, 3600, dns.rdata.from_wire("IN", "DNSKEY", key.rdata, 0, len(key.rdata)))
    dns.dnssec.validate(records, found, {zone: public}, now=START + 1)


def test_the_ed25519_example_of_rfc_8080() -> None:
    key = parse_key(ED25519, ED25519_PRIVATE, "Kone")
    made = signed(key, rrset("example.com. 3600 IN MX 10 mail.example.com."))
    expected = "oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg=="
    assert base64.b64encode(made[-64:]).decode() == expected
    assert dns.rdata.from_wire("IN", "RRSIG", made, 0, len(made)).to_text(chunksize=0) == (
        "MX 15 2 3600 20150819220000 20150729220000 3613 example.com. " + base64.b64encode(made[-64:]).decode()
    )


def test_the_rsa_example_of_rfc_5702() -> None:
    """The key has 512 bits, which OpenSSL refuses. Its signature fits the octets that are signed."""
    public = base64.b64decode(
        "AwEAAcFcGsaxxdgiuuGmCkVImy4h99CqT7jwY3pexPGcnUFtR2Fh36BponcwtkZ4cAgtvd4Qs8PkxUdp6p/DlUmObdk="
    )
    rdata = b"\x01\x00\x03\x08" + public
    data: list[bytes] = []
    key = SigningKey(
        names.from_text("example.net"), 8, key_tag(rdata), 256, rdata, 3600, False, lambda one: data.append(one) or b""
    )
    assert key.tag == 9033
    records = rrset("www.example.net. 3600 IN A 192.0.2.91")
    signed(key, records, inception=946684800, expiration=1893456000)
    signature = "kRCOH6u7l0QGy9qpC9l1sLncJcOKFLJ7GhiUOibu4teYp5VE9RncriShZNz85mwlMgNEacFYK/lPtPiVYP4bwg=="
    plain = pow(int.from_bytes(base64.b64decode(signature), "big"), 65537, int.from_bytes(public[4:], "big"))
    assert plain.to_bytes(64, "big").endswith(hashlib.sha256(data[0]).digest())


RECORDS = [
    "example.org. 300 IN SOA NS.Example.org. Admin.example.org. 1 2 3 4 5",
    "WWW.Example.org. 300 IN A 192.0.2.2\nWWW.Example.org. 300 IN A 192.0.2.1\nWWW.Example.org. 300 IN A 192.0.2.1",
    "example.org. 300 IN MX 10 Mail.Example.org.\nexample.org. 300 IN MX 5 Other.",
    "_a._tcp.example.org. 300 IN SRV 1 2 3 Target.Example.org.",
    "example.org. 300 IN NAPTR 1 2 U E2U+sip !^.*$!sip:A@B! Next.Example.org.",
    "example.org. 300 IN RP Mail.Example.org. Text.Example.org.",
    "example.org. 300 IN PX 1 A.Example.org. B.Example.org.",
    "example.org. 300 IN HINFO PC Linux",
    "x.example.org. 300 IN NSEC Y.Example.org. A RRSIG NSEC",
    "x.example.org. 300 IN DNAME Other.Example.org.",
]


@pytest.mark.parametrize("text", RECORDS, ids=[text.split()[3] for text in RECORDS])
def test_dnspython_validates(text: str) -> None:
    key = load_key(KEYS / "Kexample.org.+013+37031")
    made = signed(key, rrset(text))
    validate(key, rrset(text), made)
    with pytest.raises(dns.exception.ValidationFailure):
        validate(key, rrset(text), made[:4] + bytes((made[4] ^ 1,)) + made[5:])


@pytest.mark.parametrize("path", sorted(KEYS.glob("*.key")), ids=lambda path: path.stem)
def test_each_algorithm_is_valid(path: Path) -> None:
    key = load_key(path)
    records = rrset("www.example.org. 300 IN TXT hello")
    validate(key, records, signed(key, records))


def test_a_wildcard() -> None:
    """The signature of the owner `*` has one label less, and is also valid for the expanded name."""
    key = load_key(KEYS / "Kexample.org.+013+37031")
    wildcard, expanded = rrset("*.example.org. 300 IN A 192.0.2.1"), rrset("a.b.example.org. 300 IN A 192.0.2.1")
    assert signed(key, wildcard)[3] == 2
    validate(key, wildcard, signed(key, wildcard))
    validate(key, expanded, signed(key, expanded, labels=2))
    validate(key, expanded, signed(key, wildcard))


def test_the_signer_may_be_another_zone() -> None:
    made = signed(load_key(KEYS / "Kexample.org.+013+37031"), rrset("a.b. 300 IN A 192.0.2.1"), signer=b"\x01B\x00")
    assert made[18:21] == b"\x01b\x00"


def test_rdata_that_ends_before_its_names_is_unchanged() -> None:
    assert canonical_rdata(Type.MX, b"\x00\x01\x05AB") == b"\x00\x01\x05AB"
    assert canonical_rdata(Type.TXT, b"\x01A") == b"\x01A"


def test_the_canonical_order_of_rfc_4034() -> None:
    ordered = [
        "example",
        "a.example",
        "yljkjljk.a.example",
        "Z.a.example",
        "zABC.a.EXAMPLE",
        "z.example",
        "\\001.z.example",
    ]
    ordered += ["*.z.example", "\\200.z.example"]
    wires = [names.from_text(text) for text in ordered]
    assert sorted(set(wires), key=canonical_order_key) == wires


def test_type_bit_maps() -> None:
    """The example of RFC 4034 §4.3: A, MX, RRSIG, NSEC and TYPE1234."""
    assert type_bitmap([1234, 1, 15, 46, 47, 1]).hex() == "0006400100000003" + "041b" + "00" * 26 + "20"
    assert nsec_rdata(b"\x01A\x00", [1]) == b"\x01A\x00\x00\x01\x40"
    assert type_bitmap([]) == b""
