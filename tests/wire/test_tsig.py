"""Signatures of messages, compared with those of dnspython."""

from __future__ import annotations

import struct

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.tsig
import dns.tsigkeyring
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire import tsig
from svcdns.wire.codes import Rcode
from svcdns.wire.errors import FormError
from svcdns.wire.names import from_text

SECRET = bytes(range(32))
KEYRING = {dns.name.from_text("Key.Test."): dns.tsig.Key("key.test.", SECRET, dns.tsig.HMAC_SHA256)}
ALGORITHMS = [
    dns.tsig.HMAC_SHA1,
    dns.tsig.HMAC_SHA224,
    dns.tsig.HMAC_SHA256,
    dns.tsig.HMAC_SHA384,
    dns.tsig.HMAC_SHA512,
]
NOW = 1_800_000_000


def signed(
    name: str = "a.test.", algorithm: dns.name.Name = dns.tsig.HMAC_SHA256, **edns: object
) -> dns.message.Message:
    query = dns.message.make_query(name, "A", **edns)  # type: ignore[arg-type]
    query.use_tsig(dns.tsig.Key("Key.Test.", SECRET, algorithm))
    return query


def found(packet: bytes) -> tsig.Signature:
    signature = tsig.find(packet)
    assert signature is not None
    return signature


def reply_to(query: dns.message.Message, rcode: int = dns.rcode.NOERROR) -> bytes:
    """Returns an unsigned reply, without EDNS."""
    plain = dns.message.make_query(query.question[0].name, query.question[0].rdtype)
    plain.id = query.id
    reply = dns.message.make_response(plain)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    return reply.to_wire()


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
@pytest.mark.parametrize("edns", [-1, 0], ids=["plain", "EDNS"])
def test_a_query_of_dnspython_is_verified_and_its_reply_too(algorithm: dns.name.Name, edns: int) -> None:
    query = signed(algorithm=algorithm, use_edns=edns)
    packet = query.to_wire()
    signature = found(packet)
    assert signature.owner.startswith(b"\x03Key")
    assert signature.key == from_text("key.test.")
    assert tsig.check(signature, SECRET, signature.time + 300) == 0
    bare = dns.message.from_wire(signature.packet)
    assert (bare.id, bare.question, bare.edns, bare.had_tsig) == (query.id, query.question, edns, False)
    wire = tsig.Signer(signature, SECRET, 0, 65535, lambda: float(signature.time)).sign(reply_to(query))
    reply = dns.message.from_wire(wire, keyring={query.keyring.name: query.keyring}, request_mac=query.mac)
    assert reply.had_tsig


def test_errors_of_a_signature() -> None:
    signature = found(signed().to_wire())
    assert tsig.check(signature, None, signature.time) == Rcode.BADKEY
    assert tsig.check(signature, b"another secret", signature.time) == tsig.BADSIG
    for now in (signature.time - 301, signature.time + 301):
        assert tsig.check(signature, SECRET, now) == Rcode.BADTIME
    unknown = signature._replace(algorithm=from_text("hmac-md5.sig-alg.reg.int."))
    assert tsig.check(unknown, SECRET, signature.time) == Rcode.BADKEY


@given(st.data())
def test_no_octet_of_a_signed_query_may_change(data: st.DataObject) -> None:
    """Except in the message id, whose original is in the record."""
    packet = bytearray(PACKET)
    at = data.draw(st.integers(2, len(packet) - 1))
    packet[at] ^= data.draw(st.integers(1, 255))
    try:
        signature = tsig.find(bytes(packet))
    except FormError:
        return
    if signature is not None and signature.key.lower() != found(PACKET).key:
        return  # a key that the server does not have
    assert signature is None or tsig.check(signature, SECRET, signature.time) != 0 or same_names(packet)


PACKET = signed().to_wire()


def same_names(packet: bytes | bytearray) -> bool:
    """Returns True if the packet differs only in the case of the names in its TSIG record, which are not digested."""
    start = len(PACKET) - len(PACKET.rpartition(from_text("Key.Test.")[:4])[2]) - 4
    return packet[:start] == PACKET[:start] and packet[start:].lower() == PACKET[start:].lower()


@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda end: PACKET[:-40] + end))
def test_any_octets_have_a_signature_or_none_or_are_malformed(packet: bytes) -> None:
    try:
        signature = tsig.find(packet)
    except FormError:
        return
    assert signature is None or len(signature.packet) < len(packet)


@pytest.mark.parametrize(
    "change",
    [
        lambda packet: packet + b"x",
        lambda packet: packet[:-1],
        lambda packet: packet.replace(struct.pack("!HH", 250, 255), struct.pack("!HH", 250, 1)),
        lambda packet: packet[:-2] + b"\0\1",
    ],
    ids=["octets after it", "cut off", "class IN", "other data missing"],
)
def test_malformed_records(change: object) -> None:
    assert callable(change)
    packet = change(PACKET)
    with_signature = True
    try:
        with_signature = tsig.find(packet) is not None
    except FormError:
        return
    assert not with_signature


def test_a_record_before_another_one_is_malformed() -> None:
    additional = struct.pack("!H", 2)
    with pytest.raises(FormError):
        tsig.find(PACKET[:10] + additional + PACKET[12:] + b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0))


def test_replies_and_messages_without_the_record() -> None:
    assert tsig.find(dns.message.make_query("a.test.", "A").to_wire()) is None
    assert tsig.find(b"") is None
    response = bytearray(PACKET)
    response[2] |= 0x80
    assert tsig.find(bytes(response)) is None


def signer(error: int = 0, limit: int = 65535, shift: int = 0) -> tuple[dns.message.Message, tsig.Signer]:
    query = signed()
    signature = found(query.to_wire())
    return query, tsig.Signer(signature, SECRET, error, limit, lambda: float(signature.time + shift))


@pytest.mark.parametrize("error", [Rcode.BADKEY, tsig.BADSIG])
def test_the_reply_to_an_invalid_signature_has_no_mac(error: int) -> None:
    query, one = signer(error)
    wire = one.sign(reply_to(query, Rcode.NOTAUTH))
    record = dns.message.from_wire(wire, keyring=False).tsig
    assert record is not None
    assert (record[0].error, record[0].mac) == (error, b"")


def test_the_reply_to_a_wrong_time_has_the_time_of_the_server() -> None:
    query, one = signer(Rcode.BADTIME, shift=900)
    wire = one.sign(reply_to(query, Rcode.NOTAUTH))
    record = dns.message.from_wire(wire, keyring=False).tsig
    assert record is not None
    assert int.from_bytes(record[0].other, "big") == record[0].time_signed + 900
    with pytest.raises(dns.tsig.PeerBadTime):
        dns.message.from_wire(wire, keyring={query.keyring.name: query.keyring}, request_mac=query.mac)


def test_a_reply_that_becomes_too_long_is_truncated() -> None:
    query, one = signer(limit=120)
    reply = dns.message.make_response(dns.message.make_query("a.test.", "A"))
    reply.id = query.id
    reply.answer.append(dns.rrset.from_text("a.test.", 5, "IN", "A", *(f"192.0.2.{n}" for n in range(4))))
    read = dns.message.from_wire(
        one.sign(reply.to_wire()), keyring={query.keyring.name: query.keyring}, request_mac=query.mac
    )
    assert read.flags & dns.flags.TC
    assert (read.question, read.answer, read.had_tsig) == (query.question, [], True)


def test_several_messages_of_one_reply() -> None:
    """Each digest begins with the one before, as in a zone transfer."""
    query, one = signer()
    context = None
    for number in range(4):
        wire = one.sign(reply_to(query))
        read = dns.message.from_wire(
            wire, keyring={query.keyring.name: query.keyring}, request_mac=query.mac if number == 0 else b"",
            multi=True, tsig_ctx=context,
        )  # fmt: skip
        context = read.tsig_ctx
        assert read.had_tsig


def test_no_reply_stays_no_reply() -> None:
    assert signer()[1].sign(b"") == b""
