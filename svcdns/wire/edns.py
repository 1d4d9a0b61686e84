"""EDNS(0), RFC 6891: reading and writing OPT records, and the OPT record of a reply.

The OPT record of a reply has the query's payload size and DO bit, and version 0. Options that a client may expect back
unchanged are echoed. Where a plugin or an upstream made an OPT record, its options take their place.
"""

from __future__ import annotations

import struct
from typing import Final

from svcdns.wire.codes import OptionCode, Type
from svcdns.wire.errors import FormError
from svcdns.wire.record import Edns

ECHOED_OPTIONS: Final = frozenset(
    {OptionCode.NSID, OptionCode.EXPIRE, OptionCode.COOKIE, OptionCode.TCP_KEEPALIVE, OptionCode.PADDING}
)
"""Those that a reply returns as the query had them, as CoreDNS does."""
_LONGEST: Final = 1 << 16
_LENGTHS: Final = {
    OptionCode.LONG_LIVED_QUERY: range(18, _LONGEST),  # RFC 8764 §3.2
    OptionCode.UPDATE_LEASE: (4, 8),  # RFC 9664 §4
    OptionCode.EXPIRE: frozenset({0, *range(4, 512)}),  # RFC 7314 §2
    OptionCode.TCP_KEEPALIVE: (0, 2),  # RFC 7828 §3.1
    OptionCode.EXTENDED_ERROR: range(2, _LONGEST),  # RFC 8914 §2
}
"""Sizes in octets that the data of an option may have."""

DO: Final = 0x8000
_FIXED: Final = struct.Struct("!HHBBHH")
_OPTION: Final = struct.Struct("!HH")


def from_record(rclass: int, ttl: int, rdata: bytes) -> Edns:
    """The OPT record with this CLASS, TTL and RDATA. Raises FormError where an option is cut off
    or has a wrong size.
    """
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
    """The option's data, without octets that have no meaning. Raises FormError where its size or
    contents are invalid.
    """
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
    return (
        b"\0"
        + _FIXED.pack(Type.OPT, edns.size, rcode >> 4, edns.version, DO if edns.dnssec_ok else 0, len(options))
        + options
    )


def extended_error(code: int, text: str = "") -> tuple[int, bytes]:
    """The Extended DNS Error option, RFC 8914 §2."""
    return OptionCode.EXTENDED_ERROR, code.to_bytes(2, "big") + text.encode()


def for_reply(
    query_edns: Edns | None, own: Edns | None, echoed: frozenset[int] = ECHOED_OPTIONS, extended: int | None = None
) -> Edns | None:
    """The OPT record of a reply.

    `query_edns` is that of the query, `own` that of a plugin or an upstream, `extended` the code of an extended error.
    """
    if query_edns is None:
        return own
    options = (
        own.options
        if own is not None
        else tuple(o for o in query_edns.options if o[0] in echoed)
        if query_edns.options
        else ()
    )
    if extended is not None:
        options += (extended_error(extended),)
    return Edns(query_edns.size, query_edns.dnssec_ok or (own is not None and own.dnssec_ok), 0, options)
