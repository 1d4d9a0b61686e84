"""EDNS(0) (RFC 6891): reads and writes OPT records, and makes the OPT record of a reply.

The OPT record of a reply has the UDP payload size and the DO bit of the query, and version 0. Some options of the query
are repeated in the reply unchanged. If a plugin or an upstream made an OPT record, the reply has the options of that
record instead. The option TCP keepalive belongs to one connection (RFC 7828), so it is never passed on.
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
"""The options that a reply repeats as they were in the query, as CoreDNS does.

The responder has replaced TCP keepalive by the server's own value, or has removed it.
"""
_LONGEST: Final = 1 << 16
_LENGTHS: Final = {
    OptionCode.LONG_LIVED_QUERY: range(18, _LONGEST),  # RFC 8764 §3.2
    OptionCode.UPDATE_LEASE: (4, 8),  # RFC 9664 §4
    OptionCode.EXPIRE: frozenset({0, *range(4, 512)}),  # RFC 7314 §2
    OptionCode.TCP_KEEPALIVE: (0, 2),  # RFC 7828 §3.1
    OptionCode.EXTENDED_ERROR: range(2, _LONGEST),  # RFC 8914 §2
}
"""The allowed numbers of octets in the data of an option, by option code."""

DO: Final = 0x8000
_FIXED: Final = struct.Struct("!HHBBHH")
_OPTION: Final = struct.Struct("!HH")


def from_record(rclass: int, ttl: int, rdata: bytes) -> Edns:
    """Returns the OPT record that has this CLASS, TTL and RDATA.

    Raises FormError if an option is cut off or has a wrong size.
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
    """Returns the data of an option; for the option EXPIRE, only its first four octets.

    Raises FormError if the data has a wrong size or invalid contents.
    """
    if code == OptionCode.CLIENT_SUBNET:
        good = len(data) >= 4 and _is_subnet(*_OPTION.unpack_from(data))
    else:
        good = code not in _LENGTHS or len(data) in _LENGTHS[code]
    if not good:
        raise FormError(f"bad data of EDNS option {code}")
    return data[:4] if code == OptionCode.EXPIRE else data


def _is_subnet(family: int, prefixes: int) -> bool:
    """Returns True if the family and the two prefix lengths of a client-subnet option are valid (RFC 7871 §6).

    The family limits the prefix lengths. With family 0 the source prefix length must be 0.
    """
    source, scope = prefixes >> 8, prefixes & 0xFF
    return source == 0 if family == 0 else max(source, scope) <= {1: 32, 2: 128}.get(family, -1)


def to_wire(edns: Edns, rcode: int = 0) -> bytes:
    """Returns the encoded OPT record. The upper eight bits of `rcode` are stored in it (RFC 6891 §6.1.3)."""
    options = b"".join(_OPTION.pack(code, len(data)) + data for code, data in edns.options)
    return (
        b"\0"
        + _FIXED.pack(Type.OPT, edns.size, rcode >> 4, edns.version, DO if edns.dnssec_ok else 0, len(options))
        + options
    )


def extended_error(code: int, text: str = "") -> tuple[int, bytes]:
    """Returns an Extended DNS Error option as a pair of option code and data (RFC 8914 §2)."""
    return OptionCode.EXTENDED_ERROR, code.to_bytes(2, "big") + text.encode()


def asks_for_keepalive(edns: Edns) -> bool:
    """Returns True if the query asks for the idle timeout of its connection (RFC 7828 §3.2.1)."""
    return any(code == OptionCode.TCP_KEEPALIVE for code, _ in edns.options)


def with_keepalive(edns: Edns, timeout: int | None) -> Edns:
    """Returns the OPT record with one TCP keepalive option, whose value is `timeout` (RFC 7828 §3.1).

    `timeout` is in tenths of a second. If it is None, the result has no such option.
    """
    own = () if timeout is None else ((int(OptionCode.TCP_KEEPALIVE), timeout.to_bytes(2, "big")),)
    options = tuple(option for option in edns.options if option[0] != OptionCode.TCP_KEEPALIVE)
    return Edns(edns.size, edns.dnssec_ok, edns.version, options + own)


def for_reply(
    query_edns: Edns | None, own: Edns | None, echoed: frozenset[int] = ECHOED_OPTIONS, extended: int | None = None
) -> Edns | None:
    """Returns the OPT record of a reply, or None if the reply has none.

    `query_edns` is the OPT record of the query. `own` is the OPT record that a plugin or an upstream made. `echoed` are
    the codes of the options to repeat from the query. `extended` is the code of an extended error to add.
    """
    if query_edns is None:
        return own
    options = tuple(o for o in query_edns.options if o[0] in echoed) if query_edns.options else ()
    if own is not None:
        keepalive = tuple(o for o in options if o[0] == OptionCode.TCP_KEEPALIVE) if options else ()
        options = (with_keepalive(own, None).options if own.options else ()) + keepalive
    if extended is not None:
        options += (extended_error(extended),)
    return Edns(query_edns.size, query_edns.dnssec_ok or (own is not None and own.dnssec_ok), 0, options)
