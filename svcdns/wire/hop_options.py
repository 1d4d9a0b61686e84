"""Hop-by-hop EDNS options in encoded messages: COOKIE, TCP keepalive and PADDING.

These options are removed from the query, and the server's options are appended to the reply. The rest of the server
sees only messages without these options. Sources: RFC 6891 §6.1, RFC 7828, RFC 7830, RFC 7873.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from svcdns.wire.codes import TC, OptionCode
from svcdns.wire.edns import COOKIE_SIZES, HOP_BY_HOP, HopByHop

PADDING_BLOCK: Final = 468
"""The length of a padded reply is a multiple of this number of octets (RFC 8467 §4.1)."""
COOKIE_SIZE: Final = 28
"""The octets of the option COOKIE in a reply: its header, the client cookie and the server cookie (RFC 9018 §4)."""
_OPTION: Final = struct.Struct("!HH")
_OPT_TYPE: Final = b"\0\0\x29"
"""The root as owner name, and the type OPT."""
_COUNTS: Final = b"\0\1\0\0\0\0\0\1"
"""The counts of a query with a question and one additional record."""
_MAX_LABEL: Final = 63
_MAX_OTHERS: Final = 16
"""The most other options in a query of the usual form. This bounds the work for a query with thousands of options."""
_OPT_SIZE: Final = 11
_TRUNCATED: Final = TC >> 8


class Stripped(NamedTuple):
    """A query without its hop-by-hop options, which are in `options`.

    `size` is the UDP payload size in the OPT record. `question_end` is the offset of the end of the question section.
    """

    packet: bytes
    options: HopByHop
    size: int
    question_end: int


def may_have_options(packet: bytes) -> bool:
    """Returns False if the packet has no OPT record, or an OPT record without options.

    The check is cheap, and may return True for other packets without options.
    """
    return packet[11:12] == b"\1" and packet[-_OPT_SIZE:-8] != _OPT_TYPE


def strip(packet: bytes) -> Stripped | None:
    """Returns the query without its hop-by-hop options (COOKIE, TCP keepalive, PADDING), or None if it has none.

    Also returns None if the query has an unusual form. The usual form is one question, and an OPT record of version 0
    with few options as the only record.
    """
    if packet[4:12] != _COUNTS or packet[2] & 0xF8:
        return None
    at, end = 12, len(packet)
    while at < end and (length := packet[at]):
        if length > _MAX_LABEL:
            return None
        at += 1 + length
    opt = at + 5
    at = opt + _OPT_SIZE
    if packet[opt : opt + 3] != _OPT_TYPE or at > end or packet[opt + 6] or packet[at - 2 : at] != _short(end - at):
        return None
    found = _without_own(packet, at)
    if found is None:
        return None
    bare, options = found
    return Stripped(bare, options, int.from_bytes(packet[opt + 3 : opt + 5], "big"), opt)


def _without_own(packet: bytes, begin: int) -> tuple[bytes, HopByHop] | None:
    """Removes the hop-by-hop options from the OPT record at the end of a packet. The options begin at `begin`.

    Returns None if there are no such options, or if an option is malformed.
    """
    kept, cookie, keepalive, padding = [], b"", False, False
    at, end = begin, len(packet)
    while at < end:
        if at + 4 > end:
            return None
        code, length = _OPTION.unpack_from(packet, at)
        start, at = at, at + 4 + length
        if at > end:
            return None
        if code not in HOP_BY_HOP:
            kept.append(packet[start:at])
            if len(kept) > _MAX_OTHERS:
                return None
        elif code == OptionCode.COOKIE:
            if length not in COOKIE_SIZES:
                return None
            cookie = cookie or packet[start + 4 : at]
        elif code == OptionCode.PADDING:
            padding = True
        elif length in (0, 2):
            keepalive = True
        else:
            return None
    if not (cookie or keepalive or padding):
        return None
    options = b"".join(kept)
    bare = packet[: begin - 2] + len(options).to_bytes(2, "big") + options
    return bare, HopByHop(cookie, keepalive, padding)


def _short(number: int) -> bytes:
    return number.to_bytes(2, "big") if number < 1 << 16 else b""


def option(code: int, data: bytes) -> bytes:
    """Returns an encoded option."""
    return _OPTION.pack(code, len(data)) + data


def padding(size: int) -> bytes:
    """Returns the option PADDING for a message of `size` octets, to a multiple of PADDING_BLOCK octets."""
    return option(OptionCode.PADDING, bytes(-(size + _OPTION.size) % PADDING_BLOCK))


def with_options(wire: bytes, options: bytes, limit: int) -> bytes:
    """Returns a reply of this server with encoded options appended to its OPT record, which is its last record.

    If the result would have more than `limit` octets, it has TC set and no other records. A reply without an OPT record
    stays unchanged.
    """
    if not options:
        return wire
    at, question_end = _opt_at(wire)
    if at < 0:
        return wire
    length = int.from_bytes(wire[at + 9 : at + 11], "big") + len(options)
    opt = wire[at : at + 9] + length.to_bytes(2, "big") + wire[at + 11 :] + options
    if at + len(opt) <= limit:
        return wire[:at] + opt
    return wire[:2] + bytes((wire[2] | _TRUNCATED,)) + wire[3:4] + _COUNTS + wire[12:question_end] + opt


def _opt_at(wire: bytes) -> tuple[int, int]:
    """Returns two offsets: that of the OPT record, and that of the end of the question section.

    The first offset is -1 if the last record is not an OPT record.
    """
    at = _after_name(wire, 12) + 4 if wire[5] else 12
    question_end = at
    records = (wire[6] + wire[8] + wire[10] << 8) + wire[7] + wire[9] + wire[11]
    for _ in range(records - 1):
        at = _after_name(wire, at)
        at += 10 + (wire[at + 8] << 8 | wire[at + 9])
    return (at if wire[at : at + 3] == _OPT_TYPE else -1), question_end


def _after_name(wire: bytes, at: int) -> int:
    while length := wire[at]:
        if length > _MAX_LABEL:
            return at + 2
        at += 1 + length
    return at + 1
