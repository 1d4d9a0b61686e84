"""EDNS(0), RFC 6891: reading and writing the OPT record, and which OPT a reply carries.

The reply's OPT mirrors the client's: its size, version 0, its DO bit. Options that a client may expect back unchanged are
echoed; an OPT that a plugin or an upstream made keeps its own options instead.
"""

from __future__ import annotations

import struct
from typing import Final

from svcdns.wire.codes import OptionCode, Type
from svcdns.wire.errors import FormError
from svcdns.wire.record import Edns

ECHOED_OPTIONS: Final = frozenset({OptionCode.NSID, OptionCode.EXPIRE, OptionCode.COOKIE, OptionCode.TCP_KEEPALIVE, OptionCode.PADDING})
"""Those that a reply returns as the query had them, as CoreDNS does."""
_LONGEST: Final = 1 << 16
_LENGTHS: Final = {
    OptionCode.LONG_LIVED_QUERY: range(18, _LONGEST),  # RFC 8764 §3.2
    OptionCode.UPDATE_LEASE: (4, 8),  # RFC 9664 §4
    OptionCode.EXPIRE: frozenset({0, *range(4, 512)}),  # RFC 7314 §2
    OptionCode.TCP_KEEPALIVE: (0, 2),  # RFC 7828 §3.1
    OptionCode.EXTENDED_ERROR: range(2, _LONGEST),  # RFC 8914 §2
}
"""Octets that the data of an option may have."""

DO: Final = 0x8000
_FIXED: Final = struct.Struct("!HHBBHH")
_OPTION: Final = struct.Struct("!HH")


def from_record(rclass: int, ttl: int, rdata: bytes) -> Edns:
    """The OPT whose CLASS, TTL and RDATA these are. Raises FormError where an option is cut off."""
    return Edns(rclass, bool(ttl & DO), ttl >> 16 & 0xFF, _options(rdata) if rdata else ())


def _options(rdata: bytes) -> tuple[tuple[int, bytes], ...]:
    out, at = [], 0
    while at < len(rdata):
        if at + 4 > len(rdata):
            raise FormError("EDNS option cut off")
        code, length = _OPTION.unpack_from(rdata, at)
        at += 4 + length
        if at > len(rdata):
            raise FormError("EDNS option cut off")
        out.append((code, _checked(code, rdata[at - length : at])))
    return tuple(out)


def _checked(code: int, data: bytes) -> bytes:
    """The option's data as far as it counts. Raises FormError where it cannot be right."""
    if code == OptionCode.CLIENT_SUBNET:
        good = len(data) >= 4 and _is_subnet(*_OPTION.unpack_from(data))
    else:
        good = code not in _LENGTHS or len(data) in _LENGTHS[code]
    if not good:
        raise FormError(f"bad data of EDNS option {code}")
    return data[:4] if code == OptionCode.EXPIRE else data


def _is_subnet(family: int, prefixes: int) -> bool:
    """RFC 7871 §6: the prefix lengths are bounded by the family; family 0 goes with source prefix 0 alone."""
    source, scope = prefixes >> 8, prefixes & 0xFF
    return source == 0 if family == 0 else max(source, scope) <= {1: 32, 2: 128}.get(family, -1)


def to_wire(edns: Edns, rcode: int = 0) -> bytes:
    """The OPT record; the upper eight bits of `rcode` go into it (RFC 6891 §6.1.3)."""
    options = b"".join(_OPTION.pack(code, len(data)) + data for code, data in edns.options)
    return b"\0" + _FIXED.pack(Type.OPT, edns.size, rcode >> 4, edns.version, DO if edns.dnssec_ok else 0, len(options)) + options


def extended_error(code: int, text: str = "") -> tuple[int, bytes]:
    """The option that says what a reply suffers from, RFC 8914 §2."""
    return OptionCode.EXTENDED_ERROR, code.to_bytes(2, "big") + text.encode()


def for_reply(asked: Edns | None, made: Edns | None, echoed: frozenset[int] = ECHOED_OPTIONS, extended: int | None = None) -> Edns | None:
    """The OPT of a reply: `asked` is the client's, `made` what a plugin or upstream put in, `extended` the code of an extended error."""
    if asked is None:
        return made
    options = made.options if made is not None else tuple(o for o in asked.options if o[0] in echoed) if asked.options else ()
    if extended is not None:
        options += (extended_error(extended),)
    return Edns(asked.size, asked.dnssec_ok or (made is not None and made.dnssec_ok), 0, options)
