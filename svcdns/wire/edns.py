"""EDNS(0) (RFC 6891): reads and writes OPT records, and makes the OPT record of a reply.

The reply has the UDP payload size of this server, the DO bit of the query, version 0, and the options that a plugin or
an upstream made. Options of the query are repeated only if a plugin requires that. COOKIE, TCP keepalive and PADDING
are never passed on (RFC 7873 §1, RFC 7828 §3, RFC 7830 §4).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from svcdns.wire.codes import OptionCode, Type
from svcdns.wire.errors import FormError
from svcdns.wire.record import Edns

DEFAULT_SIZE: Final = 1232
"""The UDP payload size that this server advertises without the plugin `bufsize`, in octets (DNS flag day 2020)."""
MAX_OPTIONS: Final = 512
"""The most options in an OPT record. A record with more options is malformed for this server."""
HOP_BY_HOP: Final = frozenset({OptionCode.COOKIE, OptionCode.TCP_KEEPALIVE, OptionCode.PADDING})
"""The options that neither plugins nor upstreams see."""
NO_CODES: Final[frozenset[int]] = frozenset()
COOKIE_SIZES: Final = frozenset({8, *range(16, 41)})
"""The allowed numbers of octets of a cookie: a client cookie, alone or with a server cookie (RFC 7873 §4)."""
_LONGEST: Final = 1 << 16
_LENGTHS: Final = {
    OptionCode.LONG_LIVED_QUERY: range(18, _LONGEST),  # RFC 8764 §3.2
    OptionCode.UPDATE_LEASE: (4, 8),  # RFC 9664 §4
    OptionCode.COOKIE: COOKIE_SIZES,
    OptionCode.EXPIRE: frozenset({0, *range(4, 512)}),  # RFC 7314 §2
    OptionCode.TCP_KEEPALIVE: (0, 2),  # RFC 7828 §3.1
    OptionCode.EXTENDED_ERROR: range(2, _LONGEST),  # RFC 8914 §2
}
"""The allowed numbers of octets in the data of an option, by option code."""

DO: Final = 0x8000
_FIXED: Final = struct.Struct("!HHBBHH")
_OPTION: Final = struct.Struct("!HH")


def from_record(rclass: int, ttl: int, rdata: bytes) -> Edns:
    """Returns the OPT record with this CLASS, TTL and RDATA.

    Raises FormError if an option is cut off or has a wrong size.
    """
    return Edns(rclass, bool(ttl & DO), ttl >> 16 & 0xFF, _options(rdata) if rdata else ())


def from_query(rclass: int, ttl: int, rdata: bytes) -> Edns:
    """Returns the OPT record of a query. Raises FormError, as `from_record` does.

    The options are read only for EDNS version 0.
    """
    version = ttl >> 16 & 0xFF
    return Edns(rclass, bool(ttl & DO), version, _options(rdata) if rdata and not version else ())


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
        if len(out) > MAX_OPTIONS:
            raise FormError("too many EDNS options")
    return tuple(out)


def _checked(code: int, data: bytes) -> bytes:
    """Returns the data of an option. For the option EXPIRE, returns only the first four octets.

    Raises FormError if the data have a wrong size or invalid content.
    """
    if code == OptionCode.CLIENT_SUBNET:
        good = len(data) >= 4 and _is_subnet(*_OPTION.unpack_from(data))
    else:
        good = code not in _LENGTHS or len(data) in _LENGTHS[code]
    if not good:
        raise FormError(f"bad data of EDNS option {code}")
    return data[:4] if code == OptionCode.EXPIRE else data


def _is_subnet(family: int, prefixes: int) -> bool:
    """Returns True if the family and the prefix lengths of a client-subnet option are valid (RFC 7871 §6)."""
    source, scope = prefixes >> 8, prefixes & 0xFF
    return source == 0 if family == 0 else max(source, scope) <= {1: 32, 2: 128}.get(family, -1)


def to_wire(edns: Edns, rcode: int = 0) -> bytes:
    """Returns the encoded OPT record, with the upper eight bits of `rcode` (RFC 6891 §6.1.3)."""
    options = b"".join(_OPTION.pack(code, len(data)) + data for code, data in edns.options)
    return (
        b"\0"
        + _FIXED.pack(Type.OPT, edns.size, rcode >> 4, edns.version, DO if edns.dnssec_ok else 0, len(options))
        + options
    )


def extended_error(code: int, text: str = "") -> tuple[int, bytes]:
    """Returns an Extended DNS Error option as a pair of option code and data (RFC 8914 §2)."""
    return OptionCode.EXTENDED_ERROR, code.to_bytes(2, "big") + text.encode()


class HopByHop(NamedTuple):
    """The hop-by-hop options of a query: those that only this server uses.

    `cookie` is the data of the first option COOKIE (RFC 7873 §5.2), or empty octets. `keepalive` and `padding` are True
    if the query has the option.
    """

    cookie: bytes
    keepalive: bool
    padding: bool


def hop_by_hop(edns: Edns) -> HopByHop | None:
    """Returns the hop-by-hop options of a query (COOKIE, TCP keepalive, PADDING), or None if there are none."""
    own = [(code, data) for code, data in edns.options if code in HOP_BY_HOP]
    if not own:
        return None
    cookie = next((data for code, data in own if code == OptionCode.COOKIE), b"")
    codes = [code for code, _ in own]
    return HopByHop(cookie, OptionCode.TCP_KEEPALIVE in codes, OptionCode.PADDING in codes)


def without_hop_by_hop(edns: Edns) -> Edns:
    """Returns the OPT record without the options of HOP_BY_HOP."""
    options = tuple(option for option in edns.options if option[0] not in HOP_BY_HOP)
    return Edns(edns.size, edns.dnssec_ok, edns.version, options)


def without_nsid(edns: Edns) -> Edns:
    """Returns the OPT record without the option NSID, which is not passed on (RFC 5001 §2.1, §3.1).

    Returns the same object if it has no such option.
    """
    if all(code != OptionCode.NSID for code, _ in edns.options):
        return edns
    options = tuple(option for option in edns.options if option[0] != OptionCode.NSID)
    return Edns(edns.size, edns.dnssec_ok, edns.version, options)


def subnet_scope(edns: Edns | None) -> int | None:
    """Returns the SCOPE PREFIX-LENGTH of the client-subnet option, or None if there is no such option (RFC 7871 §6).

    A reply with a length other than 0 is only for clients in one network.
    """
    if edns is None or not edns.options:
        return None
    return next((data[3] for code, data in edns.options if code == OptionCode.CLIENT_SUBNET), None)


def keepalive(timeout: int) -> tuple[int, bytes]:
    """Returns the option TCP keepalive (RFC 7828 §3.1). `timeout` is in tenths of a second."""
    return OptionCode.TCP_KEEPALIVE, timeout.to_bytes(2, "big")


def for_reply(
    query_edns: Edns | None,
    own: Edns | None,
    echoed: frozenset[int] = NO_CODES,
    extended: int | None = None,
    size: int = DEFAULT_SIZE,
) -> Edns | None:
    """Returns the OPT record of a reply, or None for a query without an OPT record (RFC 6891 §6.1.1).

    - `query_edns` is the OPT record of the query. `own` is the OPT record of a plugin or an upstream.
    - `echoed` has the codes of the options to repeat from the query.
    - `extended` is the code of an extended error to add.
    - `size` is the UDP payload size that this server accepts.
    """
    if query_edns is None:
        return None
    if own is not None:
        options = tuple(o for o in own.options if o[0] not in HOP_BY_HOP) if own.options else ()
    else:
        options = tuple(o for o in query_edns.options if o[0] in echoed) if query_edns.options else ()
    if extended is not None:
        options += (extended_error(extended),)
    return Edns(size, query_edns.dnssec_ok, 0, options)
