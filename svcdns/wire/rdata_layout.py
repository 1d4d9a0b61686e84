"""Checks whether the RDATA of a received record has the layout of its type.

Only lengths are checked: each field is there, and none reaches beyond the RDATA. RDATA of an unknown type is accepted
(RFC 3597 §3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from svcdns.wire.codes import Type
from svcdns.wire.errors import FormError

_MAX_LABEL: Final = 63
_MAX_NAME: Final = 255
_MAX_BITMAP: Final = 32


def check(rtype: int, rdata: bytes) -> None:
    """Raises FormError if the RDATA is too short or too long for a record of type `rtype` in class IN."""
    reader = _READERS.get(rtype)
    if reader is None:
        return
    try:
        end = reader(rdata, 0)
    except IndexError:
        raise FormError("RDATA cut off") from None
    if end != len(rdata):
        raise FormError("RDATA of a wrong size")


Reader = Callable[[bytes, int], int]
"""Reads fields of the RDATA from an offset on, and returns the offset after them. Raises FormError or IndexError."""


def _octets(count: int) -> Reader:
    """Returns a reader that skips exactly `count` octets."""

    def read(rdata: bytes, at: int) -> int:
        if at + count > len(rdata):
            raise FormError("RDATA cut off")
        return at + count

    return read


def _rest(least: int = 0) -> Reader:
    """Returns a reader that skips all further octets, which must be at least `least`."""

    def read(rdata: bytes, at: int) -> int:
        if at + least > len(rdata):
            raise FormError("RDATA cut off")
        return len(rdata)

    return read


def _string(rdata: bytes, at: int) -> int:
    """Returns the offset after the character string at offset `at` (RFC 1035 §3.3)."""
    at += 1 + rdata[at]
    if at > len(rdata):
        raise FormError("character string cut off")
    return at


def _strings(rdata: bytes, at: int) -> int:
    """Checks that the rest of the RDATA is one or more character strings, and returns its end."""
    at, end = _string(rdata, at), len(rdata)
    while at < end:
        at += 1 + rdata[at]
    if at > end:
        raise FormError("character string cut off")
    return at


def _name(rdata: bytes, at: int) -> int:
    """Returns the offset after the name at offset `at`, which must not be compressed (RFC 3597 §4)."""
    begin = at
    while length := rdata[at]:
        if length > _MAX_LABEL:
            raise FormError("compressed name in RDATA")
        at += 1 + length
    if at + 1 - begin > _MAX_NAME:
        raise FormError("name too long")
    return at + 1


def _bitmap(rdata: bytes, at: int) -> int:
    """Checks the type bit maps of a NSEC, NSEC3 or CSYNC record, and returns their end (RFC 4034 §4.1.2)."""
    last = -1
    while at < len(rdata):
        window, length = rdata[at], rdata[at + 1]
        if window <= last or not 0 < length <= _MAX_BITMAP:
            raise FormError("type bit map of a wrong form")
        last = window
        at += 2 + length
    return at


def _parameters(rdata: bytes, at: int) -> int:
    """Checks the parameters of a SVCB or HTTPS record, whose keys must be in ascending order, and returns their end.

    Source: RFC 9460 §2.2.
    """
    last = -1
    while at < len(rdata):
        key, length = rdata[at] << 8 | rdata[at + 1], rdata[at + 2] << 8 | rdata[at + 3]
        if key <= last:
            raise FormError("service parameters that do not ascend")
        last = key
        at += 4 + length
    return at


def _prefixes(rdata: bytes, at: int) -> int:
    """Returns the offset after the address prefixes of an APL record (RFC 3123 §4)."""
    while at < len(rdata):
        at += 4 + (rdata[at + 3] & 0x7F)
    return at


def _in_turn(*readers: Reader) -> Reader:
    """Returns a reader that calls `readers` in order, one for each field."""

    def read(rdata: bytes, at: int) -> int:
        for reader in readers:
            at = reader(rdata, at)
        return at

    return read


_SERVICE: Final = _in_turn(_octets(2), _name, _parameters)
_DIGEST: Final = _in_turn(_octets(4), _rest(1))
_KEY: Final = _rest(4)
_READERS: Final[dict[int, Reader]] = {
    Type.TXT: _strings, Type.SPF: _strings, Type.AVC: _strings, Type.NINFO: _strings, Type.RESINFO: _strings,
    Type.HINFO: _in_turn(_string, _string), Type.GPOS: _in_turn(_string, _string, _string), Type.X25: _string,
    Type.LOC: _octets(16), Type.EUI48: _octets(6), Type.EUI64: _octets(8),
    Type.NID: _octets(10), Type.L64: _octets(10), Type.L32: _octets(6), Type.LP: _in_turn(_octets(2), _name),
    Type.DS: _DIGEST, Type.CDS: _DIGEST, Type.DLV: _DIGEST, Type.TA: _DIGEST,
    Type.DNSKEY: _KEY, Type.CDNSKEY: _KEY, Type.KEY: _KEY, Type.RKEY: _KEY,
    Type.RRSIG: _in_turn(_octets(18), _name, _rest(1)),
    Type.NSEC: _in_turn(_name, _bitmap),
    Type.NSEC3: _in_turn(_octets(4), _string, _string, _bitmap), Type.NSEC3PARAM: _in_turn(_octets(4), _string),
    Type.TLSA: _rest(4), Type.SMIMEA: _rest(4), Type.SSHFP: _rest(3), Type.CERT: _rest(5), Type.URI: _rest(4),
    Type.CAA: _in_turn(_octets(1), _string, _rest()), Type.CSYNC: _in_turn(_octets(6), _bitmap),
    Type.ZONEMD: _in_turn(_octets(6), _rest(12)), Type.APL: _prefixes,
    Type.SVCB: _SERVICE, Type.HTTPS: _SERVICE,
}  # fmt: skip
"""The reader of the whole RDATA, by type."""
