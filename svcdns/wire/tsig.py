"""Signatures of messages with shared secrets: the record TSIG (RFC 8945).

`find` takes the record from a query, `check` verifies it, and `Signer` signs the replies. The module does not
decide which queries must be signed.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from svcdns.wire import names
from svcdns.wire.codes import QR, TC, Class, Rcode, Type
from svcdns.wire.errors import FormError
from svcdns.wire.request import HEADER

BADSIG: Final = 16
"""The TSIG error of a signature that is not valid. As a response code, the same number means BADVERS."""
FUDGE: Final = 300
"""The value in signed replies: the seconds by which the clocks of client and server may differ (RFC 8945 §10)."""
MAX_RECORDS: Final = 64
"""The most records of a message in which a TSIG record is looked for."""

HASHES: Final = {names.from_text(f"hmac-{name}."): name for name in ("sha1", "sha224", "sha256", "sha384", "sha512")}
"""The hash function of each algorithm, by its wire name. RFC 8945 §6 also has HMAC-MD5, which must not be used."""

_FIXED: Final = struct.Struct("!HHIH")
_TIMES: Final = struct.Struct("!HIH")
_SHORTS: Final = struct.Struct("!HH")
_ARCOUNT_AT: Final = 10


class Signature(NamedTuple):
    """The TSIG record of a query, and the query without it.

    `key` and `algorithm` are wire names in lower case, and `owner` is the key's name as the client wrote it. `time` is
    the time of signing in Unix seconds. `message` has the octets that the client signed.
    """

    owner: bytes
    key: bytes
    algorithm: bytes
    time: int
    fudge: int
    mac: bytes
    error: int
    other: bytes
    packet: bytes
    message: bytes


def find(packet: bytes) -> Signature | None:
    """Returns the signature of a message, or None if its last record is no TSIG record.

    Raises FormError if a TSIG record is malformed or in another place (RFC 8945 §5.2). A message that is malformed
    elsewhere has no signature.
    """
    if len(packet) < HEADER.size:
        return None
    ident, flags, questions, *counts = HEADER.unpack_from(packet)
    if flags & QR or not counts[2] or questions + sum(counts) > MAX_RECORDS:
        return None
    try:
        at = _record(packet, questions, sum(counts))
    except (FormError, struct.error, IndexError):
        return None
    if at is None:
        return None
    try:
        return _parse(packet, at, ident)
    except (struct.error, IndexError) as error:
        raise FormError("the TSIG record is cut off") from error


def _record(packet: bytes, questions: int, records: int) -> int | None:
    """Returns the offset of the last record if its type is TSIG, otherwise None."""
    at = HEADER.size
    for _ in range(questions):
        at = names.read_name(packet, at)[1] + _SHORTS.size
    last = None
    for number in range(records):
        start, at = at, names.read_name(packet, at)[1]
        rtype, _, _, length = _FIXED.unpack_from(packet, at)
        at += _FIXED.size + length
        if at > len(packet):
            raise FormError("record cut off")
        if rtype == Type.TSIG:
            last = start
            if number < records - 1:
                return last  # `_parse` finds octets after it
    return last


def _parse(packet: bytes, start: int, ident: int) -> Signature:
    owner, at = names.read_name(packet, start)
    _, rclass, ttl, length = _FIXED.unpack_from(packet, at)
    at += _FIXED.size
    end = at + length
    if end != len(packet) or rclass != Class.ANY or ttl:
        raise FormError("the TSIG record is not the last one, or has a wrong class or TTL")
    algorithm, at = names.read_name(packet, at)
    high, low, fudge = _TIMES.unpack_from(packet, at)
    at += _TIMES.size
    (size,) = struct.unpack_from("!H", packet, at)
    mac, at = packet[at + 2 : at + 2 + size], at + 2 + size
    original, error, other = struct.unpack_from("!HHH", packet, at)
    at += 6
    if at + other != end:
        raise FormError("the lengths in the TSIG record do not agree")
    additional = struct.unpack_from("!H", packet, _ARCOUNT_AT)[0] - 1
    head = packet[2:_ARCOUNT_AT] + struct.pack("!H", additional) + packet[HEADER.size : start]
    return Signature(
        owner, owner.lower(), algorithm.lower(), high << 32 | low, fudge, mac, error, packet[at:end],
        struct.pack("!H", ident) + head, struct.pack("!H", original) + head,
    )  # fmt: skip


def check(signature: Signature, secret: bytes | None, now: int) -> int:
    """Returns 0, or the TSIG error of a query: BADKEY, BADSIG or BADTIME (RFC 8945 §5.2).

    `secret` is the secret of the key, or None for an unknown key. `now` is the present time in Unix seconds.
    """
    function = HASHES.get(signature.algorithm)
    if secret is None or function is None:
        return Rcode.BADKEY
    variables = _variables(signature, signature.time, signature.fudge, signature.error, signature.other)
    if not hmac.compare_digest(hmac.digest(secret, signature.message + variables, function), signature.mac):
        return BADSIG
    return Rcode.BADTIME if abs(now - signature.time) > signature.fudge else Rcode.NOERROR


class Signer:
    """Signs the messages of the reply to one query, in their order."""

    def __init__(self, signature: Signature, secret: bytes, error: int, limit: int, clock: Callable[[], float]) -> None:
        """`error` is the result of `check`. `limit` is the length in octets of the longest reply for the client.

        `clock` returns the present time in Unix seconds.
        """
        self._signature, self._secret, self._error, self._limit, self._clock = signature, secret, error, limit, clock
        self._previous = signature.mac
        self._is_first = True

    def sign(self, wire: bytes) -> bytes:
        """Returns the message with a TSIG record. Empty octets mean no reply, and are returned unchanged.

        A message that becomes too long is replaced by one with TC and without records (RFC 8945 §5.3). After BADKEY and
        BADSIG, the record has no MAC (§5.3.2).
        """
        if not wire:
            return wire
        signature, error = self._signature, self._error
        time, other = int(self._clock()), b""
        if error == Rcode.BADTIME:  # §5.2.3: the client's time, and the server's time as other data
            time, other = signature.time, time.to_bytes(6, "big")
        has_mac = error not in (Rcode.BADKEY, BADSIG)
        size = hashlib.new(HASHES[signature.algorithm]).digest_size if has_mac else 0
        added = len(signature.owner) + _FIXED.size + len(signature.algorithm) + 16 + size + len(other)
        if len(wire) + added > self._limit:
            wire = _without_records(wire)
        mac = self._mac(wire, time, error, other) if has_mac else b""
        rdata = (
            signature.algorithm + _TIMES.pack(time >> 32, time & 0xFFFFFFFF, FUDGE) + struct.pack("!H", len(mac)) + mac
            + wire[:2] + _SHORTS.pack(error, len(other)) + other
        )  # fmt: skip
        record = signature.owner + _FIXED.pack(Type.TSIG, Class.ANY, 0, len(rdata)) + rdata
        additional = struct.unpack_from("!H", wire, _ARCOUNT_AT)[0] + 1
        return wire[:_ARCOUNT_AT] + struct.pack("!H", additional) + wire[HEADER.size :] + record

    def _mac(self, wire: bytes, time: int, error: int, other: bytes) -> bytes:
        digested = struct.pack("!H", len(self._previous)) + self._previous + wire
        if self._is_first:
            digested += _variables(self._signature, time, FUDGE, error, other)
        else:  # §5.3.1: of later messages, only the timers
            digested += _TIMES.pack(time >> 32, time & 0xFFFFFFFF, FUDGE)
        self._is_first = False
        self._previous = hmac.digest(self._secret, digested, HASHES[self._signature.algorithm])
        return self._previous


def _variables(signature: Signature, time: int, fudge: int, error: int, other: bytes) -> bytes:
    """Returns the digested part of a TSIG record (RFC 8945 §4.3.3)."""
    return (
        signature.key + struct.pack("!HI", Class.ANY, 0) + signature.algorithm
        + _TIMES.pack(time >> 32, time & 0xFFFFFFFF, fudge) + _SHORTS.pack(error, len(other)) + other
    )  # fmt: skip


def _without_records(wire: bytes) -> bytes:
    """Returns the header with TC and the response code NOERROR, and the question section."""
    ident, flags, questions = struct.unpack_from("!HHH", wire)
    end = HEADER.size
    for _ in range(questions):
        end = names.read_name(wire, end)[1] + _SHORTS.size
    return HEADER.pack(ident, flags & ~15 | TC, questions, 0, 0, 0) + wire[HEADER.size : end]
